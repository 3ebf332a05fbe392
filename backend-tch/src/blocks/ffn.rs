use super::activate;
use crate::block::{Layers, Tch, VarBuilder};
use crate::layers::linear;
use skep_runtime_core::BoxError;
use skep_toolkit::Computes;
use skep_toolkit::blocks::Ffn;
use tch::Tensor;

impl Computes<Ffn> for Tch {
    fn layers(
        &Ffn { input, hidden, output, activation }: &Ffn,
        vb: &VarBuilder<'_>,
    ) -> Result<Box<dyn Layers>, BoxError> {
        let fc1 = linear(input, hidden, &vb.pp("fc1"))?;
        let fc2 = linear(hidden, output, &vb.pp("fc2"))?;
        Ok(Box::new(move |inputs: &[Tensor]| {
            Ok(vec![fc2.forward(&activate(activation, &fc1.forward(&inputs[0])?)?)?])
        }))
    }
}
