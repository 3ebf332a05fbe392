use crate::block::{Candle, Layers};
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use skep_toolkit::Computes;
use skep_toolkit::blocks::{Nop, NopDelay};

impl Computes<Nop> for Candle {
    fn layers(_: &Nop, _: &VarBuilder<'_>) -> Result<Box<dyn Layers>> {
        Ok(Box::new(|inputs: &[Tensor]| Ok(inputs.to_vec())))
    }
}

impl Computes<NopDelay> for Candle {
    fn layers(&spec: &NopDelay, _: &VarBuilder<'_>) -> Result<Box<dyn Layers>> {
        Ok(Box::new(move |inputs: &[Tensor]| {
            spec.sleep();
            Ok(inputs.to_vec())
        }))
    }
}
