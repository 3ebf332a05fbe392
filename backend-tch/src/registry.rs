//! The kinds of blocks that come with this backend.

use crate::block::TchBlock;
use crate::blocks;
use skep_toolkit::Kinds;
use std::path::PathBuf;

/// Makes blocks of registered kinds.
///
/// ```
/// use skep_backend_tch::prelude::*;
///
/// let mut registry = Registry::with_defaults();
/// registry.register("gate", |name, config| {
///     config.only(&["experts"])?;
///     let output = config.required("experts")?;
///     blocks::Ffn { input: 64, hidden: 32, output, activation: Activation::Relu }.block(name)
/// })?;
///
/// let gate = registry.build("gate", "gate", &"experts=4, seed=1".parse()?)?;
/// let expert = registry.build("ffn", "expert.0", &"input=64, hidden=128, output=10".parse()?)?;
/// assert_eq!((gate.info().name.as_str(), expert.info().name.as_str()), ("gate", "expert.0"));
///
/// # use skep_backend_tch::blocks::{self, Activation};
/// # Ok::<(), skep_backend_tch::runtime::BoxError>(())
/// ```
pub type Registry = skep_toolkit::Registry<TchBlock>;

impl Kinds for TchBlock {
    fn add_defaults(registry: &mut Registry) {
        registry.set("ffn", |name, config| blocks::Ffn::from_config(config)?.block(name));
        registry.set("transformer", |name, config| blocks::Transformer::from_config(config)?.block(name));
        registry.set("nop", |name, config| blocks::Nop::from_config(config)?.block(name));
        registry.set("nop_delay", |name, config| blocks::NopDelay::from_config(config)?.block(name));
        registry.set("det_dropout", |name, config| blocks::DetDropout::from_config(config)?.block(name));
        registry
            .set("torch_script", |name, config| Ok(blocks::TorchScript::from_config(config)?.block(name)));
        #[cfg(feature = "bert")]
        registry.set("bert", |name, config| blocks::Bert::from_config(config)?.block(name));
    }

    fn seeded(self, seed: u64) -> Self {
        self.with_seed(seed)
    }

    fn weighted(self, file: PathBuf) -> Self {
        self.with_weights(file)
    }
}
