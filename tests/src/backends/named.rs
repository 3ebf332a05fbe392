//! The device that `SKEP_DEVICE` names.

use skep_runtime_core::DeviceError;
use std::ffi::OsStr;

/// A device's name, and what makes it.
pub(super) type Kind<D> = (&'static str, fn() -> Result<D, DeviceError>);

/// The one of these devices that `SKEP_DEVICE` names; the first where it is not set, or is not about this backend.
pub(super) fn chosen<D>(is_about: bool, kinds: &[Kind<D>]) -> D {
    let named = std::env::var_os("SKEP_DEVICE").filter(|_| is_about);
    device(named.as_deref().unwrap_or(OsStr::new(kinds[0].0)), kinds)
}

/// The device of this name, which must be there: a test that falls back to another one shows nothing.
fn device<D>(name: &OsStr, kinds: &[Kind<D>]) -> D {
    let Some((_, make)) = kinds.iter().find(|(kind, _)| name == *kind) else {
        let known: Vec<_> = kinds.iter().map(|(kind, _)| *kind).collect();
        panic!("SKEP_DEVICE is `{}`, expected one of {}", name.display(), known.join(", "));
    };
    make().unwrap_or_else(|error| panic!("SKEP_DEVICE is `{}`: {error}", name.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_runtime_core::testing::FakeDevice;

    const KINDS: &[Kind<FakeDevice>] =
        &[("cpu", || Ok(FakeDevice::new())), ("cuda", || Err(DeviceError::operation("no driver")))];

    #[test]
    #[should_panic(expected = "SKEP_DEVICE is `gpu`, expected one of cpu, cuda")]
    fn an_unknown_device_is_told_with_the_known_ones() {
        device(OsStr::new("gpu"), KINDS);
    }

    #[test]
    #[should_panic(expected = "SKEP_DEVICE is `cuda`: no driver")]
    fn a_device_that_is_not_there_is_told() {
        device(OsStr::new("cuda"), KINDS);
    }
}
