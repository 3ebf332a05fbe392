//! The suite on the fake device, which is always there.

use skep_runtime_core::testing::FakeDevice;
use skep_tests::{Subject, conformance};

struct Fake;

impl Subject for Fake {
    type Device = FakeDevice;

    fn device() -> FakeDevice {
        FakeDevice::new()
    }
}

conformance!(Fake);
