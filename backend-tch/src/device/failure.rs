//! What libtorch's errors mean for the runtime.
//!
//! tch passes C++ exceptions on as text, so the text decides: the words for a failed allocation, and CUDA's for
//! errors after which the context, and every tensor in it, is lost.

use skep_runtime_core::{BoxError, DeviceError};
use skep_toolkit::FailureWords;
use tch::TchError;

/// A device that is not there.
#[derive(Debug, thiserror::Error)]
#[error("{name} is not available")]
pub(super) struct Unavailable {
    pub(super) name: String,
    pub(super) source: BoxError,
}

/// A libtorch for processors only.
#[derive(Debug, thiserror::Error)]
#[error("this libtorch has no CUDA")]
pub(super) struct NoCuda(#[source] pub(super) BoxError);

/// An exception of libtorch, without the C++ call stack that it comes with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Torch(String);

const WORDS: FailureWords = FailureWords {
    out_of_memory: &["out of memory", "can't allocate memory", "bad_alloc", "OUT_OF_MEMORY", "ALLOC_FAILED"],
    // CUDA's errors that stick to the context: every later call gives them again.
    lost: &[
        "illegal memory access",
        "device-side assert",
        "unspecified launch failure",
        "launch timed out",
        "misaligned address",
        "illegal instruction",
        "invalid program counter",
        "hardware stack error",
        "uncorrectable ECC error",
        "context is destroyed",
        "busy or unavailable",
    ],
};

pub(super) fn too_large(device: String, bytes: usize, limit: usize) -> DeviceError {
    let message = format!("a tensor of {bytes} bytes is too large for the host, expected at most {limit}");
    DeviceError::OutOfMemory { device, message }
}

pub(super) fn sort(device: &str, error: TchError) -> DeviceError {
    let TchError::Torch(text) = &error else { return DeviceError::operation(error) };
    let message = without_stack(text);
    let sorted = WORDS.sort(device, message);
    sorted.unwrap_or_else(|| DeviceError::operation(Torch(message.to_owned())))
}

fn without_stack(text: &str) -> &str {
    let end = ["\nException raised from", "\nframe #"].into_iter().filter_map(|mark| text.find(mark)).min();
    text[..end.unwrap_or(text.len())].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(text: &str) -> DeviceError {
        sort("cuda:0", TchError::Torch(text.to_owned()))
    }

    #[test]
    fn the_text_of_an_error_decides_what_it_means() {
        let oom = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1.00 GiB";
        assert!(matches!(sorted(oom), DeviceError::OutOfMemory { .. }));
        let oom =
            "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried";
        assert!(matches!(sorted(oom), DeviceError::OutOfMemory { .. }));
        let lost = "CUDA error: an illegal memory access was encountered";
        assert!(matches!(sorted(lost), DeviceError::Fatal { .. }));
        let other = "mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)";
        assert!(matches!(sorted(other), DeviceError::Operation(_)));
    }

    #[test]
    fn the_call_stack_is_cut_off() {
        let error = sorted("wrong shape\nException raised from meta at /pytorch/x.cpp:1\nframe #0: ...\n");
        assert_eq!(error.to_string(), "wrong shape");
    }
}
