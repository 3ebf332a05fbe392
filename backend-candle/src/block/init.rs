//! candle's words for the first values of parameters, in those of the [`toolkit`](skep_toolkit):
//! candle's generator on the processor takes no seed.

use candle_core::Shape;
use candle_nn::Init;
use candle_nn::init::NormalOrUniform;
use skep_toolkit as toolkit;

pub(super) fn known_init(init: Init, dims: &Shape) -> toolkit::Init {
    match init {
        Init::Const(value) => toolkit::Init::Const(value),
        Init::Randn { mean, stdev } => toolkit::Init::Randn { mean, stdev },
        Init::Uniform { lo, up } => toolkit::Init::Uniform { lo, up },
        Init::Kaiming { dist, fan, non_linearity } => {
            let stdev = non_linearity.gain() / (fan.for_shape(dims) as f64).sqrt();
            let bound = 3f64.sqrt() * stdev;
            match dist {
                NormalOrUniform::Normal => toolkit::Init::Randn { mean: 0.0, stdev },
                NormalOrUniform::Uniform => toolkit::Init::Uniform { lo: -bound, up: bound },
            }
        }
    }
}
