use crate::block::{Candle, Layers};
use crate::layers::linear;
use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};
use skep_toolkit::Computes;
use skep_toolkit::blocks::Ffn;

impl Computes<Ffn> for Candle {
    fn layers(
        &Ffn { input, hidden, output, activation }: &Ffn,
        vb: &VarBuilder<'_>,
    ) -> Result<Box<dyn Layers>> {
        let fc1 = linear(input, hidden, &vb.pp("fc1"))?;
        let fc2 = linear(hidden, output, &vb.pp("fc2"))?;
        Ok(Box::new(move |inputs: &[Tensor]| {
            Ok(vec![fc2.forward(&fc1.forward_then(activation, &inputs[0])?)?])
        }))
    }
}
