//! Which tensors of a block share their memory: parameters with several names, and answers that would change with a
//! parameter.

use super::parameters::Found;
use crate::shim;
use skep_runtime_core::BoxError;
use std::collections::{BTreeMap, HashSet};
use tch::{TchError, Tensor};

/// Two parameters of which one is part of the other, or lies across it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parameters `{first}` and `{second}` share a part of their memory, expected all of it or none")]
pub(crate) struct Overlap {
    first: String,
    second: String,
}

/// What is known of the memory of a block's tensors. They stay where they are: values are changed in place.
#[derive(Debug)]
pub(super) struct SharedMemory {
    /// The other names of parameters, with the first one.
    first_names: BTreeMap<String, String>,
    /// Names of tensors that are not the very same tensor as one before them.
    distinct: Vec<String>,
    /// The memory of all tensors.
    storages: HashSet<u64>,
}

impl SharedMemory {
    /// Looks at all tensors of a block.
    ///
    /// # Errors
    ///
    /// [`Overlap`] if two parameters share a part of their memory: no optimizer could step them.
    pub(super) fn of(found: &Found) -> Result<Self, BoxError> {
        let mut storages = HashSet::new();
        for tensor in found.buffers.values() {
            storages.insert(shim::place(tensor)?.storage);
        }
        let mut places = Vec::with_capacity(found.variables.len());
        for (name, tensor) in &found.variables {
            let place = shim::place(tensor)?;
            storages.insert(place.storage);
            places.push((place, name, tensor));
        }
        // Those that share memory stand side by side, in the order of their names.
        places.sort_by_key(|(place, ..)| (place.begin, std::cmp::Reverse(place.end)));
        let mut first_names = BTreeMap::new();
        let mut before: Option<&(shim::Place, &String, &Tensor)> = None;
        for part in &places {
            let (place, name, tensor) = part;
            match before.filter(|(before, ..)| place.begin < before.end && place.begin < place.end) {
                Some((_, first, known)) if shim::are_same(known, tensor)? => {
                    first_names.insert((*name).clone(), (*first).clone());
                }
                Some((_, first, _)) => {
                    return Err(Overlap { first: (*first).clone(), second: (*name).clone() }.into());
                }
                None => before = Some(part),
            }
        }
        let mut identities = HashSet::new();
        let is_new = |(place, name, _): &(shim::Place, &String, _)| {
            identities.insert(place.identity).then(|| (*name).clone())
        };
        let distinct = places.iter().filter_map(is_new).collect();
        Ok(Self { first_names, distinct, storages })
    }

    /// The first name of a parameter, if this is another one of it.
    pub(super) fn first_name(&self, name: &str) -> Option<&str> {
        self.first_names.get(name).map(String::as_str)
    }

    /// All tensors that hold a parameter, each once, with the parameter's first name.
    pub(super) fn distinct<'a>(&'a self, found: &'a Found) -> impl Iterator<Item = (&'a str, &'a Tensor)> {
        self.distinct
            .iter()
            .filter_map(|name| Some((self.first_name(name).unwrap_or(name), found.variables.get(name)?)))
    }

    /// The same tensors, those that share memory with a tensor of the block copied.
    pub(super) fn apart(&self, tensors: Vec<Tensor>) -> Result<Vec<Tensor>, BoxError> {
        let apart = |tensor: Tensor| -> Result<Tensor, TchError> {
            // A tensor that cannot be looked at is the runtime's to refuse.
            match shim::place(&tensor) {
                Ok(place) if self.storages.contains(&place.storage) => shim::copy(&tensor),
                _ => Ok(tensor),
            }
        };
        tensors.into_iter().map(|tensor| Ok(apart(tensor)?)).collect()
    }
}
