//! Errors of libraries as the runtime sorts them.

use skep_runtime_core::DeviceError;

/// The words by which failures are known in the texts of a library that passes them on as text.
#[derive(Clone, Copy, Debug)]
pub struct FailureWords {
    /// A failed allocation.
    pub out_of_memory: &'static [&'static str],
    /// Errors after which the device's context, and every tensor in it, is lost.
    pub lost: &'static [&'static str],
}

impl FailureWords {
    /// Returns what a message says about the device; `None` if it is about one failed operation.
    pub fn sort(&self, device: &str, message: &str) -> Option<DeviceError> {
        let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
        let (device, message) = (device.to_owned(), || message.to_owned());
        if says(self.out_of_memory) {
            Some(DeviceError::OutOfMemory { device, message: message() })
        } else if says(self.lost) {
            Some(DeviceError::Fatal { device, message: message() })
        } else {
            None
        }
    }
}
