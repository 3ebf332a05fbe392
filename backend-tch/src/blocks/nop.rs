use crate::block::{Layers, Tch, VarBuilder};
use skep_runtime_core::BoxError;
use skep_toolkit::Computes;
use skep_toolkit::blocks::{Nop, NopDelay};
use tch::Tensor;

impl Computes<Nop> for Tch {
    fn layers(_: &Nop, _: &VarBuilder<'_>) -> Result<Box<dyn Layers>, BoxError> {
        Ok(Box::new(|inputs: &[Tensor]| Ok(inputs.iter().map(Tensor::shallow_clone).collect())))
    }
}

impl Computes<NopDelay> for Tch {
    fn layers(&spec: &NopDelay, _: &VarBuilder<'_>) -> Result<Box<dyn Layers>, BoxError> {
        Ok(Box::new(move |inputs: &[Tensor]| {
            spec.sleep();
            Ok(inputs.iter().map(Tensor::shallow_clone).collect())
        }))
    }
}
