//! The bytes of a checkpoint.

use super::error::CheckpointError;
use crate::dtype::FILES;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use skep_runtime_core::{BlockState, BoxError, HostTensor};
use std::collections::{BTreeMap, HashMap};

/// Optimizer tensors stand under this prefix; parameters under their plain names.
const OPTIMIZER: &str = "optimizer/";
/// Scalars stand in the file's metadata under this prefix.
const SCALAR: &str = "scalar/";
const CHECKSUM: &str = "skep.crc32";
const FORMAT: &str = "skep.format";
const VERSION: &str = "1";

/// Writes a state as the bytes of a safetensors file, with a checksum over names, shapes and data.
///
/// # Errors
///
/// Returns [`CheckpointError::Unsavable`] if a parameter's name begins with `optimizer/`, which would be read back as
/// something else.
pub fn encode(state: &BlockState) -> Result<Vec<u8>, CheckpointError> {
    if let Some(name) = state.parameters.keys().find(|name| name.starts_with(OPTIMIZER)) {
        let reserved = format!("parameter name `{name}` begins with the reserved `{OPTIMIZER}`");
        return Err(CheckpointError::unsavable(reserved));
    }
    let parameters = state.parameters.iter().map(|(name, tensor)| (name.clone(), tensor));
    let optimizer = state.optimizer.iter().map(|(name, tensor)| (format!("{OPTIMIZER}{name}"), tensor));
    let tensors = parameters.chain(optimizer).map(|(name, tensor)| {
        let dtype = FILES.theirs(tensor.dtype())?;
        Ok((name, TensorView::new(dtype, tensor.dims().to_vec(), tensor.bytes())?))
    });
    let tensors: Vec<_> = tensors.collect::<Result<_, BoxError>>().map_err(CheckpointError::unsavable)?;
    let mut metadata: HashMap<String, String> =
        state.scalars.iter().map(|(name, value)| (format!("{SCALAR}{name}"), value.clone())).collect();
    metadata.insert(FORMAT.to_owned(), VERSION.to_owned());
    metadata.insert(CHECKSUM.to_owned(), format!("{:08x}", checksum(state)));
    safetensors::serialize(tensors, Some(metadata)).map_err(CheckpointError::unsavable)
}

/// Reads what [`encode`] wrote.
///
/// # Errors
///
/// Returns [`CheckpointError::Torn`] if the bytes are cut short, changed, or not a checkpoint of this format.
pub fn decode(bytes: &[u8]) -> Result<BlockState, CheckpointError> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(CheckpointError::torn)?;
    let file = SafeTensors::deserialize(bytes).map_err(CheckpointError::torn)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    match metadata.get(FORMAT).map(String::as_str) {
        Some(VERSION) => {}
        Some(other) => return Err(CheckpointError::torn(format!("format is {other}, expected {VERSION}"))),
        None => return Err(CheckpointError::torn(format!("metadata has no `{FORMAT}`"))),
    }
    let mut state = BlockState::default();
    for (name, view) in file.iter() {
        let dtype = FILES
            .ours(view.dtype(), || format!("{:?} of tensor `{name}`", view.dtype()))
            .map_err(CheckpointError::torn)?;
        let tensor =
            HostTensor::new(dtype, view.shape(), view.data().to_vec()).map_err(CheckpointError::torn)?;
        match name.strip_prefix(OPTIMIZER) {
            Some(name) => state.optimizer.insert(name.to_owned(), tensor),
            None => state.parameters.insert(name.to_owned(), tensor),
        };
    }
    let scalars = metadata
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(SCALAR)?.to_owned(), value.clone())));
    state.scalars = scalars.collect();
    let expected = metadata.get(CHECKSUM).map_or("", String::as_str);
    let got = format!("{:08x}", checksum(&state));
    if got != expected {
        return Err(CheckpointError::torn(format!("checksum is {got}, expected `{expected}`")));
    }
    Ok(state)
}

/// Returns true if the metadata of a file has this state's checksum.
pub(super) fn checksum_of(metadata: &HashMap<String, String>, state: &BlockState) -> bool {
    metadata.get(CHECKSUM).is_some_and(|sum| *sum == format!("{:08x}", checksum(state)))
}

fn checksum(state: &BlockState) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    let mut tensors = |tensors: &BTreeMap<String, HostTensor>| {
        field(&(tensors.len() as u64).to_le_bytes());
        for (name, tensor) in tensors {
            field(name.as_bytes());
            field(tensor.dtype().to_string().as_bytes());
            for dim in tensor.dims() {
                field(&(*dim as u64).to_le_bytes());
            }
            field(tensor.bytes());
        }
    };
    tensors(&state.parameters);
    tensors(&state.optimizer);
    for (name, value) in &state.scalars {
        field(name.as_bytes());
        field(value.as_bytes());
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use skep_runtime_core::{Chain, DType};

    fn state() -> BlockState {
        let mut state = BlockState::default();
        let tensor = |dims: &[usize]| HostTensor::from_f32(dims, &vec![0.25; dims.iter().product()]).unwrap();
        state.parameters.insert("fc.weight".into(), tensor(&[3, 2]));
        state.parameters.insert("fc.bias".into(), tensor(&[3]));
        state.optimizer.insert("exp_avg.fc.bias".into(), tensor(&[3]));
        state.scalars.insert("step".into(), "17".into());
        state
    }

    #[test]
    fn every_dtype_comes_back() {
        assert_eq!(FILES.known().count(), 11);
        for dtype in FILES.known() {
            let mut state = BlockState::default();
            state.parameters.insert("t".into(), HostTensor::zeros(dtype, &[2, 3]).unwrap());
            assert_eq!(decode(&encode(&state).unwrap()).unwrap(), state);
        }
    }

    #[test]
    fn a_reserved_name_is_refused() {
        let mut state = state();
        state.parameters.insert("optimizer/x".into(), HostTensor::zeros(DType::U8, &[1]).unwrap());
        let message = Chain(&encode(&state).unwrap_err()).to_string();
        assert!(message.contains("begins with the reserved `optimizer/`"), "{message}");
    }

    #[test]
    fn every_cut_is_noticed() {
        let bytes = encode(&state()).unwrap();
        assert_eq!(decode(&bytes).unwrap(), state());
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "cut at {end} of {}", bytes.len());
        }
    }

    proptest! {
        #[test]
        fn every_changed_bit_is_noticed(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = encode(&state()).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            // A change of white space or of a key that nobody reads leaves the state as it was.
            prop_assert!(decode(&bytes).map_or(true, |read| read == state()));
        }

        #[test]
        fn a_file_that_was_written_over_is_noticed(
            at in any::<prop::sample::Index>(),
            over in prop::collection::vec(any::<u8>(), 1..24),
            cut in any::<prop::sample::Index>(),
            twice in any::<bool>(),
        ) {
            let whole = encode(&state()).unwrap();
            let mut bytes = whole.clone();
            let at = at.index(bytes.len());
            if twice {
                // A piece of the file stands there once more.
                let piece = bytes[cut.index(bytes.len())..].to_vec();
                bytes.splice(at..at, piece);
            } else {
                let end = bytes.len().min(at + over.len());
                bytes[at..end].copy_from_slice(&over[..end - at]);
            }
            prop_assert!(decode(&bytes).map_or(true, |read| read == state()));
        }

        #[test]
        fn a_header_of_any_length_and_shape_is_refused_without_a_panic(
            length in prop_oneof![any::<u64>(), 0u64..400],
            dims in prop::collection::vec(prop_oneof![0u64..9, any::<u64>()], 0..4),
            (begin, end) in (any::<u64>(), any::<u64>()),
            honest in any::<bool>(),
        ) {
            let header = format!(
                r#"{{"__metadata__":{{"skep.format":"1"}},"t":{{"dtype":"F32","shape":{dims:?},"data_offsets":[{begin},{end}]}}}}"#
            );
            let length = if honest { header.len() as u64 } else { length };
            let bytes = [&length.to_le_bytes(), header.as_bytes(), &[0; 64]].concat();
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn arbitrary_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
