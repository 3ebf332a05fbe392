//! The suite on the fake device, which is always there: once as a processor, and once as a device with memory of
//! its own, whose outputs always go through a sender. So cases that hold on the former only are found without a GPU.

use skep_runtime_core::testing::FakeDevice;
use skep_tests::{Subject, conformance};

mod host {
    use super::*;

    struct Fake;

    impl Subject for Fake {
        type Device = FakeDevice;

        fn device() -> FakeDevice {
            FakeDevice::new()
        }
    }

    conformance!(Fake);
}

mod remote {
    use super::*;

    struct Fake;

    impl Subject for Fake {
        type Device = FakeDevice;

        fn device() -> FakeDevice {
            FakeDevice::new().remote()
        }
    }

    conformance!(Fake);
}
