//! Blocks by the name of their kind, so that a configuration can say which blocks an application serves.

use crate::block::TchBlock;
use crate::blocks;
use crate::config::{Config, ConfigError};
use std::collections::BTreeMap;
use std::path::PathBuf;

type Constructor = Box<dyn Fn(&str, &Config) -> Result<TchBlock, ConfigError> + Send + Sync>;

/// Makes blocks of registered kinds.
///
/// Every kind also takes the settings `seed` ([`TchBlock::with_seed`]) and `weights`
/// ([`TchBlock::with_weights`]).
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
#[derive(Default)]
pub struct Registry {
    kinds: BTreeMap<String, Constructor>,
}

/// Why a block cannot be made, or a kind not be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No such kind.
    #[error("no kind of block is named `{kind}`, expected one of {expected:?}")]
    UnknownKind {
        /// The kind that was asked for.
        kind: String,
        /// The kinds that there are.
        expected: Vec<String>,
    },
    /// Two kinds with one name.
    #[error("kind of block `{kind}` is registered twice")]
    KindTwice {
        /// The kind.
        kind: String,
    },
    /// The settings do not fit the kind.
    #[error("block `{name}` of kind `{kind}`: {source}")]
    Config {
        /// The block's name.
        name: String,
        /// Its kind.
        kind: String,
        /// What is wrong.
        source: ConfigError,
    },
}

impl Registry {
    /// No kinds.
    pub fn new() -> Self {
        Self::default()
    }

    /// The kinds of [`blocks`]: `ffn`, `transformer`, `nop`, `nop_delay`, `det_dropout`, `torch_script`, and `bert` where
    /// the feature is on. The fields of the block's type are the names of its settings.
    pub fn with_defaults() -> Self {
        let mut registry = Self::new();
        registry.insert("ffn", |name, config| blocks::Ffn::from_config(config)?.block(name));
        registry.insert("transformer", |name, config| blocks::Transformer::from_config(config)?.block(name));
        registry.insert("nop", |name, config| blocks::Nop::from_config(config)?.block(name));
        registry.insert("nop_delay", |name, config| blocks::NopDelay::from_config(config)?.block(name));
        registry.insert("det_dropout", |name, config| blocks::DetDropout::from_config(config)?.block(name));
        registry
            .insert("torch_script", |name, config| Ok(blocks::TorchScript::from_config(config)?.block(name)));
        #[cfg(feature = "bert")]
        registry.insert("bert", |name, config| blocks::Bert::from_config(config)?.block(name));
        registry
    }

    fn insert<C>(&mut self, kind: &str, constructor: C)
    where
        C: Fn(&str, &Config) -> Result<TchBlock, ConfigError> + Send + Sync + 'static,
    {
        self.kinds.insert(kind.to_owned(), Box::new(constructor));
    }

    /// Adds a kind. Its constructor gets the block's name and settings, and should refuse settings that it
    /// does not know ([`Config::only`]).
    ///
    /// # Errors
    ///
    /// When there is a kind of this name.
    pub fn register<C>(&mut self, kind: &str, constructor: C) -> Result<(), RegistryError>
    where
        C: Fn(&str, &Config) -> Result<TchBlock, ConfigError> + Send + Sync + 'static,
    {
        if self.kinds.contains_key(kind) {
            return Err(RegistryError::KindTwice { kind: kind.to_owned() });
        }
        self.insert(kind, constructor);
        Ok(())
    }

    /// The registered kinds, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.kinds.keys().map(String::as_str)
    }

    /// Makes a block.
    ///
    /// # Errors
    ///
    /// When there is no such kind, or the settings do not fit it.
    pub fn build(&self, kind: &str, name: &str, config: &Config) -> Result<TchBlock, RegistryError> {
        let constructor = self.kinds.get(kind).ok_or_else(|| RegistryError::UnknownKind {
            kind: kind.to_owned(),
            expected: self.kinds().map(str::to_owned).collect(),
        })?;
        let build = || {
            let mut own = config.clone();
            own.remove("seed");
            own.remove("weights");
            let mut block = constructor(name, &own)?;
            if let Some(seed) = config.optional("seed")? {
                block = block.with_seed(seed);
            }
            if let Some(weights) = config.optional::<String>("weights")? {
                block = block.with_weights(PathBuf::from(weights));
            }
            Ok(block)
        };
        build().map_err(|source| RegistryError::Config {
            name: name.to_owned(),
            kind: kind.to_owned(),
            source,
        })
    }
}
