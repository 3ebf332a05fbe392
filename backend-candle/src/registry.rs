//! The kinds of blocks that come with this backend.

use crate::block::Candle;
use crate::blocks;
use skep_toolkit::Kinds;

/// Makes blocks of registered kinds.
///
/// ```
/// use skep_backend_candle::prelude::*;
///
/// let mut registry = Registry::with_defaults();
/// registry.register("gate", |name, config| {
///     config.only(&["experts"])?;
///     let output = config.required("experts")?;
///     CandleBlock::of(name, Ffn { input: 64, hidden: 32, output, activation: Activation::Relu })
/// })?;
///
/// let gate = registry.build("gate", "gate", &"experts=4, seed=1".parse()?)?;
/// let expert = registry.build("ffn", "expert.0", &"input=64, hidden=128, output=10".parse()?)?;
/// assert_eq!((gate.info().name.as_str(), expert.info().name.as_str()), ("gate", "expert.0"));
///
/// # use skep_backend_candle::blocks::{Activation, Ffn};
/// # Ok::<(), skep_backend_candle::runtime::BoxError>(())
/// ```
pub type Registry = skep_toolkit::Registry<Candle>;

impl Kinds for Candle {
    fn add_defaults(registry: &mut Registry) {
        registry.add::<blocks::Ffn>();
        registry.add::<blocks::Transformer>();
        registry.add::<blocks::Nop>();
        registry.add::<blocks::NopDelay>();
        registry.add::<blocks::DetDropout>();
        #[cfg(feature = "models")]
        registry.set("text_model", blocks::TextModel::block_from_config);
    }
}
