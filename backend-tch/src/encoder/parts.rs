//! What layers are made of: linear layers, norms and activations, from a model's parameters.

use crate::block::VarBuilder;
use crate::device::torch_dims;
use crate::layers::number;
use crate::shim;
use skep_models::description::{self as described, Activation, NormKind};
use skep_runtime_core::BoxError;
use skep_toolkit::Init;
use std::cell::RefCell;
use std::ffi::CStr;
use tch::{Device, Kind, TchError, Tensor};

/// A part of a description that was added to it after this was written.
pub(super) fn unknown(part: &dyn std::fmt::Debug) -> TchError {
    TchError::Torch(format!("{part:?} is not known to backend tch"))
}

/// Makes layers' parts of a model's parameters.
pub(super) struct Parts<'a> {
    pub(super) vb: &'a VarBuilder<'a>,
    pub(super) kind: Kind,
}

impl Parts<'_> {
    fn get(&self, dims: &[usize], name: &str) -> Result<Tensor, BoxError> {
        // Never drawn: the model's weights are read by name.
        self.vb.get_as(dims, name, Init::Const(0.0), self.kind)
    }

    pub(super) fn table(&self, table: &described::Table) -> Result<Tensor, BoxError> {
        self.get(&[table.rows, table.size], &table.name)
    }

    pub(super) fn linear(&self, linear: &described::Linear) -> Result<BuiltLinear, BoxError> {
        let weight = self.get(&[linear.output, linear.input], &linear.weight)?;
        let bias = linear.bias.as_ref().map(|bias| self.get(&[linear.output], bias)).transpose()?;
        Ok(BuiltLinear::new(weight, bias))
    }

    pub(super) fn norm(&self, norm: &described::Norm) -> Result<Norm, BoxError> {
        let weight = self.get(&[norm.size], &norm.weight)?;
        let bias = norm.bias.as_ref().map(|bias| self.get(&[norm.size], bias)).transpose()?;
        Ok(Norm { kind: norm.kind, size: torch_dims(&[norm.size])?[0], weight, bias, eps: norm.eps })
    }

    pub(super) fn optional_norm(&self, norm: Option<&described::Norm>) -> Result<Option<Norm>, BoxError> {
        norm.map(|norm| self.norm(norm)).transpose()
    }
}

/// A linear layer whose bias may be missing.
pub(super) struct BuiltLinear {
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
    /// The weight laid out for inference, while it stays as it is.
    packed: RefCell<Option<Tensor>>,
}

/// Fewer rows are faster in f32 without a layout of their own.
const FEWEST_ROWS: i64 = 64;

impl BuiltLinear {
    pub(super) fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias, packed: RefCell::default() }
    }

    /// Lays the weight out, if it is `steady`, and forgets what was laid out if not.
    pub(super) fn prepare(&self, steady: bool) -> Result<(), TchError> {
        let fits = matches!(self.weight.kind(), Kind::Float | Kind::BFloat16);
        let packs = steady && fits && self.weight.device() == Device::Cpu;
        self.packed.replace(if packs { shim::pack_linear(&self.weight)? } else { None });
        Ok(())
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        match self.infer(x, c"none")? {
            Some(y) => Ok(y),
            None => x.f_linear(&self.weight, self.bias.as_ref()),
        }
    }

    /// The same and a function of it.
    pub(super) fn forward_then(&self, activation: Activation, x: &Tensor) -> Result<Tensor, TchError> {
        let inferred = match activation {
            Activation::Gelu => self.infer(x, c"gelu")?,
            Activation::Relu => self.infer(x, c"relu")?,
            _ => None,
        };
        match inferred {
            Some(y) => Ok(y),
            None => activate(activation, &self.forward(x)?),
        }
    }

    /// By the weight that was laid out; `None` where it is none, or a graph is recorded.
    fn infer(&self, x: &Tensor, function: &CStr) -> Result<Option<Tensor>, TchError> {
        let packed = self.packed.borrow();
        let Some(packed) = packed.as_ref().filter(|_| !shim::records_graph()) else { return Ok(None) };
        let rows: i64 = x.size().iter().rev().skip(1).product();
        if rows == 0 || x.kind() == Kind::Float && rows < FEWEST_ROWS {
            return Ok(None);
        }
        shim::packed_linear(x, packed, self.bias.as_ref(), function).map(Some)
    }
}

/// Normalisation over the last dim.
pub(super) struct Norm {
    kind: NormKind,
    size: i64,
    weight: Tensor,
    bias: Option<Tensor>,
    eps: f64,
}

impl Norm {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        match self.kind {
            NormKind::Layer => {
                x.f_layer_norm(self.size, Some(&self.weight), self.bias.as_ref(), self.eps, true)
            }
            NormKind::RootMeanSquare => {
                let kind = if x.kind() == Kind::Double { Kind::Double } else { Kind::Float };
                let wide = x.f_to_kind(kind)?;
                let last: &[i64] = &[-1];
                let squares = wide.f_square()?.f_mean_dim(last, true, kind)?.f_add(&number(self.eps)?)?;
                wide.f_mul(&squares.f_rsqrt()?)?.f_to_kind(x.kind())?.f_mul(&self.weight)
            }
            other => Err(unknown(&other)),
        }
    }
}

/// A function of one number.
pub(super) fn activate(activation: Activation, x: &Tensor) -> Result<Tensor, TchError> {
    match activation {
        Activation::Identity => Ok(x.shallow_clone()),
        Activation::Gelu => x.f_gelu("none"),
        Activation::GeluTanh => x.f_gelu("tanh"),
        Activation::QuickGelu => x.f_mul(&x.f_mul(&number(1.702)?)?.f_sigmoid()?),
        Activation::Relu => x.f_relu(),
        Activation::Silu => x.f_silu(),
        Activation::Tanh => x.f_tanh(),
        Activation::Sigmoid => x.f_sigmoid(),
        other => Err(unknown(&other)),
    }
}
