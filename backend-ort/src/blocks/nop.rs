use crate::block::{Layers, Ort, Parameters};
use crate::device::OrtTensor;
use skep_runtime_core::BoxError;
use skep_toolkit::Computes;
use skep_toolkit::blocks::{Nop, NopDelay};

impl Computes<Nop> for Ort {
    fn layers(_: &Nop, _: &Parameters) -> Result<Box<dyn Layers>, BoxError> {
        Ok(Box::new(|inputs: &[OrtTensor]| Ok(inputs.to_vec())))
    }
}

impl Computes<NopDelay> for Ort {
    fn layers(&spec: &NopDelay, _: &Parameters) -> Result<Box<dyn Layers>, BoxError> {
        Ok(Box::new(move |inputs: &[OrtTensor]| {
            spec.sleep();
            Ok(inputs.to_vec())
        }))
    }
}
