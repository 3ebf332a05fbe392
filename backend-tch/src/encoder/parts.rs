//! What layers are made of: linear layers, norms and activations, from a model's parameters.

use crate::block::VarBuilder;
use crate::device::torch_dims;
use crate::layers::number;
use skep_models::description::{self as described, Activation, NormKind};
use skep_runtime_core::BoxError;
use skep_toolkit::Init;
use tch::{Kind, TchError, Tensor};

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
        Ok(BuiltLinear { weight, bias })
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
    weight: Tensor,
    bias: Option<Tensor>,
}

impl BuiltLinear {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_linear(&self.weight, self.bias.as_ref())
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
