//! What candle's errors mean for the runtime.
//!
//! candle passes failures on as text, so the text decides: CUDA's names for errors after which the context,
//! and every tensor in it, is lost, and the words for a failed allocation.

use candle_core::Error;
use skep_runtime_core::DeviceError;
use skep_toolkit::FailureWords;

/// A device that is not there.
#[derive(Debug, thiserror::Error)]
#[error("{name} is not available")]
pub(super) struct Unavailable {
    pub(super) name: String,
    pub(super) source: Error,
}

/// A tensor that the host is not asked for, because candle would end the process.
#[derive(Debug, thiserror::Error)]
#[error("a tensor of {bytes} bytes is too large for the host, expected at most {limit}")]
struct TooLarge {
    bytes: usize,
    limit: usize,
}

pub(super) fn check_size(bytes: usize, limit: usize) -> candle_core::Result<()> {
    if bytes <= limit { Ok(()) } else { Err(Error::Wrapped(Box::new(TooLarge { bytes, limit }))) }
}

const WORDS: FailureWords = FailureWords {
    out_of_memory: &[
        "is too large for the host",
        "out of memory",
        "OUT_OF_MEMORY",
        "ALLOC_FAILED",
        "Failed to allocate metal resource",
    ],
    // CUDA's errors that stick to the context: every later call gives them again.
    lost: &[
        "CUDA_ERROR_ILLEGAL_ADDRESS",
        "CUDA_ERROR_ASSERT",
        "device-side assert",
        "CUDA_ERROR_LAUNCH_FAILED",
        "CUDA_ERROR_LAUNCH_TIMEOUT",
        "CUDA_ERROR_MISALIGNED_ADDRESS",
        "CUDA_ERROR_ILLEGAL_INSTRUCTION",
        "CUDA_ERROR_INVALID_PC",
        "CUDA_ERROR_HARDWARE_STACK_ERROR",
        "CUDA_ERROR_ECC_UNCORRECTABLE",
        "CUDA_ERROR_CONTEXT_IS_DESTROYED",
        "CUDA_ERROR_DEVICE_UNAVAILABLE",
    ],
};

pub(super) fn sort(device: &str, error: Error) -> DeviceError {
    let error = without_backtrace(error);
    WORDS.sort(device, &error.to_string()).unwrap_or_else(|| DeviceError::operation(error))
}

/// The error without the stack that candle adds to its text where `RUST_BACKTRACE` is set: callers, maybe on other
/// machines, are told what went wrong, and not where in this program.
fn without_backtrace(error: Error) -> Error {
    let inner = |inner: Box<Error>| Box::new(without_backtrace(*inner));
    match error {
        Error::WithBacktrace { inner: error, .. } => without_backtrace(*error),
        Error::Context { inner: error, context } => Error::Context { inner: inner(error), context },
        Error::WithPath { inner: error, path } => Error::WithPath { inner: inner(error), path },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::backtrace::Backtrace;

    #[test]
    fn an_answer_has_no_backtrace() {
        let stack = |error| Error::WithBacktrace {
            inner: Box::new(error),
            backtrace: Box::new(Backtrace::force_capture()),
        };
        let error = stack(stack(Error::msg("shapes differ")).context("while adding"));
        assert!(error.to_string().lines().count() > 4, "{error}");
        let told = sort("cpu", error).to_string();
        assert!(told.contains("shapes differ") && told.contains("while adding"), "{told}");
        assert!(told.lines().count() <= 3 && !told.contains("failure.rs"), "{told}");
    }

    #[test]
    fn the_text_of_an_error_decides_what_it_means() {
        let sorted = |text: &str| sort("cuda:0", Error::Cuda(text.into()));
        let oom = r#"DriverError(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")"#;
        assert!(matches!(sorted(oom), DeviceError::OutOfMemory { .. }));
        let lost = r#"DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered")"#;
        assert!(matches!(sorted(lost), DeviceError::Fatal { .. }));
        let other = r#"DriverError(CUDA_ERROR_INVALID_VALUE, "invalid argument")"#;
        assert!(matches!(sorted(other), DeviceError::Operation(_)));
    }
}
