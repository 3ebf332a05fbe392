use crate::block::{Candle, Layers};
use crate::layers::linear;
use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};
use skep_toolkit::Computes;
use skep_toolkit::blocks::DetDropout;

impl Computes<DetDropout> for Candle {
    fn layers(spec: &DetDropout, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>> {
        let fc1 = linear(spec.input, spec.hidden, &vb.pp("fc1"))?;
        let fc2 = linear(spec.hidden, spec.output, &vb.pp("fc2"))?;
        let scale = spec.scale();
        Ok(Box::new(move |inputs: &[Tensor]| {
            let kept = (fc1.forward(&inputs[0])? * &inputs[1])?;
            Ok(vec![fc2.forward(&(kept * scale)?)?])
        }))
    }
}
