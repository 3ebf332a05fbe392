use crate::block::{Candle, Layers};
use crate::layers::{LayerNorm, SelfAttention, linear};
use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};
use skep_toolkit::Computes;
use skep_toolkit::blocks::Transformer;

impl Computes<Transformer> for Candle {
    fn layers(spec: &Transformer, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>> {
        let &Transformer { size, heads, hidden, activation, .. } = spec;
        let attention = SelfAttention::new(size, heads, &vb.pp("self_attn"))?;
        let linear1 = linear(size, hidden, &vb.pp("linear1"))?;
        let linear2 = linear(hidden, size, &vb.pp("linear2"))?;
        let norm1 = LayerNorm::new(size, &vb.pp("norm1"))?;
        let norm2 = LayerNorm::new(size, &vb.pp("norm2"))?;
        Ok(Box::new(move |inputs: &[Tensor]| {
            let x = &inputs[0];
            let h = norm1.forward(&(x + attention.forward(x)?)?)?;
            let wide = linear1.forward_then(activation, &h)?;
            Ok(vec![norm2.forward(&(h + linear2.forward(&wide)?)?)?])
        }))
    }
}
