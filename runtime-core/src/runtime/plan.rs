//! How tasks of different sizes share a batch: what each input is filled up with, and to what sizes.

use crate::contract::backend::{BlockInfo, Pass};
use crate::contract::dims::Dim;
use crate::contract::error::control::StartError;
use crate::contract::padding::{Padding, element};
use crate::contract::schema::{FreeDim, Schema, TensorSpec};
use crate::contract::task::TaskHeader;
use crate::contract::tensor::DType;

/// A pool's rule for one pass of a block, looked up once.
pub(crate) struct Plan {
    padding: Padding,
    pub(crate) free: Vec<FreeDim>,
    /// What the block takes, in order.
    pub(crate) inputs: Vec<Input>,
}

pub(crate) struct Input {
    pub(crate) dims: Vec<Size>,
    pub(crate) fill: Fill,
}

/// What stands where a task has nothing.
pub(crate) enum Fill {
    /// The bytes of an element.
    With(Vec<u8>),
    /// It is the mask: zeros, and these bytes where a task has something.
    Mask(DType, Vec<u8>),
}

/// The size of a dim behind the rows.
#[derive(Clone, Copy)]
pub(crate) enum Size {
    Fixed(usize),
    /// That of the free dim at this place.
    Free(usize),
}

/// The sizes of the free dims in a batch: of each, that of each task, and the one of all.
pub(crate) struct Sizes {
    pub(crate) own: Vec<Vec<usize>>,
    pub(crate) padded: Vec<usize>,
}

impl Plan {
    pub(crate) fn new(
        padding: Padding,
        info: &BlockInfo,
        pass: Pass,
        pool: &str,
    ) -> Result<Self, StartError> {
        let wrong = |got, expected| {
            let of = format!("pool `{pool}`");
            StartError::Setting { of, setting: "padding", got, expected }
        };
        let takes =
            info.takes(pass).map_err(|source| StartError::Schema { block: info.name.clone(), source })?;
        if let Some((got, expected)) = padding.fault(&takes) {
            return Err(wrong(got, expected));
        }
        if let Some((output, dim)) = info.outputs.as_ref().and_then(|outputs| strange(&info.inputs, outputs))
        {
            let expected =
                "free dims of outputs with names that inputs have: nobody knows how to cut others back";
            return Err(wrong(format!("an output `{output}` of free size along `{dim}`"), expected));
        }
        let free = takes.free().to_vec();
        let size = |dim: &Dim| match dim {
            Dim::Batch => None,
            Dim::Fixed(size) => Some(Size::Fixed(*size)),
            Dim::Free { name, .. } => free.iter().position(|known| known.name == *name).map(Size::Free),
        };
        let input = |spec: &TensorSpec| {
            let bytes = |value| element(spec.dtype(), value).unwrap_or_default();
            let fill = if padding.mask() == Some(spec.name()) {
                Fill::Mask(spec.dtype(), bytes(1.0))
            } else {
                Fill::With(bytes(padding.value(spec.name())))
            };
            Input { dims: spec.dims().iter().filter_map(size).collect(), fill }
        };
        let inputs = takes.tensors().iter().map(input).collect();
        Ok(Self { padding, free, inputs })
    }
}

/// An output that has a free dim that no input has, and the name of that.
fn strange<'a>(inputs: &Schema, outputs: &'a Schema) -> Option<(&'a str, &'a str)> {
    let is_known = |name: &str| inputs.free().iter().any(|free| &*free.name == name);
    outputs.tensors().iter().find_map(|spec| {
        let name = spec.dims().iter().find_map(|dim| match dim {
            Dim::Free { name, .. } if !is_known(name) => Some(&**name),
            _ => None,
        });
        name.map(|name| (spec.name(), name))
    })
}

impl Sizes {
    /// Of tasks of these sizes: padded by the rule, or only as far as they differ.
    pub(crate) fn new(own: Vec<Vec<usize>>, plan: &Plan, by_rule: bool) -> Self {
        let padded = own.iter().zip(&plan.free).map(|(sizes, free)| {
            let longest = sizes.iter().copied().max().unwrap_or(0);
            if by_rule { plan.padding.padded(longest, free.max) } else { longest }
        });
        Self { padded: padded.collect(), own }
    }

    pub(crate) fn of(&self, size: Size) -> usize {
        match size {
            Size::Fixed(size) => size,
            Size::Free(at) => self.padded[at],
        }
    }

    /// Returns true if all tasks have the sizes of these dims that the batch has.
    pub(crate) fn are_alike(&self, dims: &[Size]) -> bool {
        dims.iter().all(|size| match *size {
            Size::Fixed(_) => true,
            Size::Free(at) => self.own[at].iter().all(|own| *own == self.padded[at]),
        })
    }

    /// The elements of these tasks that are padding, and all of them.
    pub(crate) fn elements(&self, headers: &[TaskHeader]) -> (usize, usize) {
        let of_row = self.padded.iter().fold(1, |all: usize, size| all.saturating_mul(*size));
        let (mut padding, mut all) = (0_usize, 0_usize);
        for (task, header) in headers.iter().enumerate() {
            let own = self.own.iter().filter_map(|sizes| sizes.get(task));
            let own = own.fold(1, |all: usize, size| all.saturating_mul(*size));
            padding = padding.saturating_add(of_row.saturating_sub(own).saturating_mul(header.rows));
            all = all.saturating_add(of_row.saturating_mul(header.rows));
        }
        (padding, all)
    }
}
