//! Blocks by the name of their kind, so that a configuration can say which blocks an application serves.

use crate::block::Block;
use crate::block::library::{Computes, Library};
use crate::blocks::spec::Spec;
use crate::config::{Config, ConfigError};
use crate::parameters::weights::SharedWeights;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

type Constructor<L> = Box<dyn Fn(&str, &Config) -> Result<Block<L>, ConfigError> + Send + Sync>;

/// A library with the kinds of blocks that it has by default.
pub trait Kinds: Library {
    /// Registers the kinds that come with the backend.
    fn add_defaults(registry: &mut Registry<Self>);
}

/// Makes blocks of registered kinds. Each backend's documentation has an example.
///
/// Every kind also takes the settings `seed` (where the first parameters are drawn from) and `weights` (the
/// safetensors file that all parameters are taken from).
pub struct Registry<L: Library> {
    kinds: BTreeMap<String, Constructor<L>>,
    shared: Vec<SharedWeights>,
}

impl<L: Library> fmt::Debug for Registry<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("kinds", &self.kinds.keys()).finish_non_exhaustive()
    }
}

impl<L: Library> Default for Registry<L> {
    fn default() -> Self {
        Self { kinds: BTreeMap::new(), shared: Vec::new() }
    }
}

/// The reason why a block cannot be made, or a kind not be registered.
#[derive(Clone, Debug, thiserror::Error)]
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
    #[error("block `{name}` of kind `{kind}` cannot be made")]
    Config {
        /// The block's name.
        name: String,
        /// Its kind.
        kind: String,
        /// The error of its settings.
        source: Box<ConfigError>,
    },
}

impl<L: Library> Registry<L> {
    /// Makes a registry without kinds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a registry of the kinds that come with the backend: `ffn`, `transformer`, `nop`, `nop_delay`,
    /// `det_dropout`, `text_model` if the feature is on, and what the backend has besides. The fields of the block's type
    /// are the names of its settings.
    pub fn with_defaults() -> Self
    where
        L: Kinds,
    {
        let mut registry = Self::new();
        L::add_defaults(&mut registry);
        registry
    }

    /// Adds the kind of a block by name, or replaces the one of its name.
    pub fn add<S: Spec>(&mut self)
    where
        L: Computes<S>,
    {
        self.set(S::KIND, |name, config| Block::of(name, S::from_config(config)?));
    }

    /// Adds a kind, or replaces the one of this name.
    pub fn set<C>(&mut self, kind: &str, constructor: C)
    where
        C: Fn(&str, &Config) -> Result<Block<L>, ConfigError> + Send + Sync + 'static,
    {
        self.kinds.insert(kind.to_owned(), Box::new(constructor));
    }

    /// Adds a kind. Its constructor gets the block's name and settings, and should refuse settings that it
    /// does not know ([`Config::only`]).
    ///
    /// # Errors
    ///
    /// Returns [`RegistryError::KindTwice`] if there is a kind of this name.
    pub fn register<C>(&mut self, kind: &str, constructor: C) -> Result<(), RegistryError>
    where
        C: Fn(&str, &Config) -> Result<Block<L>, ConfigError> + Send + Sync + 'static,
    {
        if self.kinds.contains_key(kind) {
            return Err(RegistryError::KindTwice { kind: kind.to_owned() });
        }
        self.set(kind, constructor);
        Ok(())
    }

    /// Has blocks whose setting `weights` names this very file take their parameters from it: each tensor is read once.
    pub fn share_weights(&mut self, weights: &SharedWeights) {
        self.shared.push(weights.clone());
    }

    /// Returns the registered kinds, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.kinds.keys().map(String::as_str)
    }

    /// Makes a block.
    ///
    /// # Errors
    ///
    /// Returns a [`RegistryError`] if there is no such kind, or the settings do not fit it.
    pub fn build(&self, kind: &str, name: &str, config: &Config) -> Result<Block<L>, RegistryError> {
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
                block = match self.shared.iter().find(|shared| shared.path() == Path::new(&weights)) {
                    Some(shared) => block.with_shared_weights(shared),
                    None => block.with_weights(weights),
                };
            }
            Ok(block)
        };
        build().map_err(|source| RegistryError::Config {
            name: name.to_owned(),
            kind: kind.to_owned(),
            source: Box::new(source),
        })
    }
}
