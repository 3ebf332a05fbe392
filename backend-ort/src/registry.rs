//! The kinds of blocks that come with this backend.

use crate::block::Ort;
use crate::blocks;
use skep_toolkit::Kinds;

/// Makes blocks of registered kinds.
///
/// ```
/// use skep_backend_ort::prelude::*;
///
/// let registry = Registry::with_defaults();
/// let expert = registry.build("ffn", "expert.0", &"input=64, hidden=128, output=10".parse()?)?;
/// assert_eq!(expert.info().name, "expert.0");
/// # Ok::<(), skep_backend_ort::runtime::BoxError>(())
/// ```
pub type Registry = skep_toolkit::Registry<Ort>;

impl Kinds for Ort {
    fn add_defaults(registry: &mut Registry) {
        registry.add::<blocks::Ffn>();
        registry.add::<blocks::Transformer>();
        registry.add::<blocks::Nop>();
        registry.add::<blocks::NopDelay>();
        registry.add::<blocks::DetDropout>();
        registry.add::<blocks::Onnx>();
        #[cfg(feature = "models")]
        registry.set("text_model", |name, config| blocks::TextModel::from_config(config)?.block(name));
    }
}
