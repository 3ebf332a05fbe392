use crate::block::{Layers, Tch, VarBuilder};
use crate::layers::{linear, number};
use skep_runtime_core::BoxError;
use skep_toolkit::Computes;
use skep_toolkit::blocks::DetDropout;
use tch::Tensor;

impl Computes<DetDropout> for Tch {
    fn layers(spec: &DetDropout, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>, BoxError> {
        let fc1 = linear(spec.input, spec.hidden, &vb.pp("fc1"))?;
        let fc2 = linear(spec.hidden, spec.output, &vb.pp("fc2"))?;
        let scale = spec.scale();
        Ok(Box::new(move |inputs: &[Tensor]| {
            let kept = fc1.forward(&inputs[0])?.f_mul(&inputs[1])?;
            Ok(vec![fc2.forward(&kept.f_mul(&number(scale)?)?)?])
        }))
    }
}
