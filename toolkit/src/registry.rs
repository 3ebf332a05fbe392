//! Blocks by the name of their kind, so that a configuration can say which blocks an application serves.

use super::config::{Config, ConfigError};
use std::collections::BTreeMap;
use std::path::PathBuf;

type Constructor<B> = Box<dyn Fn(&str, &Config) -> Result<B, ConfigError> + Send + Sync>;

/// A backend's type of block, with the kinds that it has by default.
pub trait Kinds: Sized + 'static {
    /// Registers the kinds that come with the backend.
    fn add_defaults(registry: &mut Registry<Self>);

    /// Where the block's first parameters are drawn from.
    #[must_use]
    fn seeded(self, seed: u64) -> Self;

    /// The safetensors file that the block's parameters come from.
    #[must_use]
    fn weighted(self, file: PathBuf) -> Self;
}

/// Makes blocks of registered kinds.
///
/// Every kind also takes the settings `seed` (where the first parameters are drawn from) and `weights` (the
/// safetensors file that all parameters are taken from).
///
/// ```
/// use skep_toolkit::{Config, Kinds, Registry};
/// # use std::path::PathBuf;
///
/// struct Gate {
///     experts: usize,
///     seed: u64,
/// }
///
/// impl Kinds for Gate {
///     fn add_defaults(registry: &mut Registry<Self>) {
///         registry.set("gate", |_, config| {
///             config.only(&["experts"])?;
///             Ok(Gate { experts: config.required("experts")?, seed: 0 })
///         });
///     }
///     fn seeded(self, seed: u64) -> Self {
///         Self { seed, ..self }
///     }
/// #   fn weighted(self, _: PathBuf) -> Self {
/// #       self
/// #   }
/// }
///
/// let gate: Gate = Registry::with_defaults().build("gate", "gate.0", &"experts=4, seed=1".parse()?)?;
/// assert_eq!((gate.experts, gate.seed), (4, 1));
/// # Ok::<(), skep_runtime_core::BoxError>(())
/// ```
pub struct Registry<B> {
    kinds: BTreeMap<String, Constructor<B>>,
}

impl<B> Default for Registry<B> {
    fn default() -> Self {
        Self { kinds: BTreeMap::new() }
    }
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

impl<B: Kinds> Registry<B> {
    /// No kinds.
    pub fn new() -> Self {
        Self::default()
    }

    /// The kinds that come with the backend: `ffn`, `transformer`, `nop`, `nop_delay`, `det_dropout`, `bert` where
    /// the feature is on, and what the backend has besides. The fields of the block's type are the names of its
    /// settings.
    pub fn with_defaults() -> Self {
        let mut registry = Self::new();
        B::add_defaults(&mut registry);
        registry
    }

    /// Adds a kind, or replaces the one of this name.
    pub fn set<C>(&mut self, kind: &str, constructor: C)
    where
        C: Fn(&str, &Config) -> Result<B, ConfigError> + Send + Sync + 'static,
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
        C: Fn(&str, &Config) -> Result<B, ConfigError> + Send + Sync + 'static,
    {
        if self.kinds.contains_key(kind) {
            return Err(RegistryError::KindTwice { kind: kind.to_owned() });
        }
        self.set(kind, constructor);
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
    pub fn build(&self, kind: &str, name: &str, config: &Config) -> Result<B, RegistryError> {
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
                block = block.seeded(seed);
            }
            if let Some(weights) = config.optional::<String>("weights")? {
                block = block.weighted(PathBuf::from(weights));
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
