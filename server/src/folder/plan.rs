//! What is to be served, before anything of it is on a device.

use crate::folder::compiled;
use crate::folder::error::PlanError;
use crate::folder::fingerprint;
use crate::folder::manifest::{Manifest, Rows};
use crate::settings::WhenFull;
use crate::units::Time;
use skep_models::{Model, Precision, TextError};
use skep_pool::PoolOptions;
use skep_runtime_core::PadTo;
use skep_toolkit::Config;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// A model's own settings.
pub(crate) const MANIFEST: &str = "skep.toml";
/// Texts are padded to a multiple of so many tokens.
const TEXT_STEP: usize = 2;
/// What a published folder has.
pub(crate) const PUBLISHED: [&str; 2] = ["config.json", "modules.json"];

/// The kind of thing that a model is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum What {
    /// A published text model.
    Text {
        /// What its folder says.
        model: Arc<Model>,
        /// What it is computed in.
        precision: Precision,
        /// Set if texts of different lengths are laid end to end, and not filled up.
        ragged: bool,
    },
    /// A block of a registered kind.
    Block {
        /// The kind.
        kind: String,
        /// Its settings.
        config: Config,
    },
}

/// A model that can be put on a device.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The kind of thing that it is.
    pub what: What,
    /// The options of its pool.
    pub pool: PoolOptions,
    /// Its own treatment of requests for which there is no room.
    pub when_full: Option<WhenFull>,
    /// Its own limit of the time that requests wait.
    pub wait_limit: Option<Time>,
    /// Set if a request of its own is run before the model is ready.
    pub warm_up: bool,
    /// Set if the server is ready without it.
    pub optional: bool,
    /// Changes with everything in the folder but the weights.
    pub(crate) fingerprint: u64,
}

impl Plan {
    /// The plan for a folder, or a file, with this manifest.
    pub(crate) fn of(name: &str, place: &Path, manifest: Option<Manifest>) -> Result<Self, PlanError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            return Err(PlanError::Name { path: place.to_owned(), name: name.to_owned() });
        }
        let manifest = manifest.unwrap_or_default();
        let wrong = |key: &str, got: &str, expected: &str| PlanError::File {
            file: manifest_of(place),
            reason: format!("{key} is `{got}`, expected {expected}"),
        };
        let version = manifest.version.clone().unwrap_or_else(|| "1".to_owned());
        if version.is_empty() || !version.chars().all(|c| c.is_ascii_digit()) {
            return Err(wrong("version", &version, "a whole number"));
        }
        let published = PUBLISHED.iter().any(|file| place.join(file).is_file());
        let file = match &manifest.kind {
            _ if !place.is_dir() => Some(place.to_owned()),
            None if !published => compiled::alone_in(place)?,
            _ => None,
        };
        let what = match (&manifest.kind, file) {
            (Some(kind), _) if kind == "text_model" => {
                return Err(wrong("kind", kind, "a folder with config.json, for which no kind is named"));
            }
            (kind, Some(file)) => of_file(&file, kind.as_deref(), &manifest, wrong)?,
            (Some(kind), None) => What::Block { kind: kind.clone(), config: block(place, &manifest, wrong)? },
            (None, None) if published => {
                if let Some(key) = manifest.settings.keys().next() {
                    return Err(wrong(&format!("settings.{key}"), "there", "settings only beside a `kind`"));
                }
                if let Some(weights) = &manifest.weights {
                    return Err(wrong("weights", weights, "none: a published folder has its own"));
                }
                if manifest.pool.padding.is_some() {
                    return Err(wrong(
                        "pool.padding",
                        "there",
                        "none: a published folder says how texts are padded",
                    ));
                }
                text(place, &manifest, wrong)?
            }
            (None, None) => return Err(PlanError::Unknown { path: place.to_owned() }),
        };
        Ok(Self {
            name: name.to_owned(),
            version,
            pool: pool(&what, &manifest),
            what,
            when_full: manifest.when_full,
            wait_limit: manifest.wait_limit,
            warm_up: manifest.warm_up.unwrap_or(true),
            optional: manifest.optional,
            fingerprint: fingerprint::of(place, &manifest_of(place))?,
        })
    }

    /// Returns a word for the kind of thing that it is.
    pub fn kind(&self) -> String {
        match &self.what {
            What::Text { model, .. } => match model.description().kind {
                skep_models::Kind::Embedding => "embedding model".to_owned(),
                skep_models::Kind::Sequence => "classifier of texts".to_owned(),
                _ => "classifier of tokens".to_owned(),
            },
            What::Block { kind, .. } => format!("block of kind {kind}"),
        }
    }

    /// Returns what a reader should know and no error says.
    pub fn notes(&self) -> &[String] {
        match &self.what {
            What::Text { model, .. } => model.notes(),
            What::Block { .. } => &[],
        }
    }
}

/// Where a model may say more of itself: in its folder, or beside its file.
pub(crate) fn manifest_of(place: &Path) -> PathBuf {
    if place.is_dir() { place.join(MANIFEST) } else { place.with_extension("toml") }
}

/// A file that is a block by itself.
fn of_file(
    file: &Path,
    kind: Option<&str>,
    manifest: &Manifest,
    wrong: impl Fn(&str, &str, &str) -> PlanError,
) -> Result<What, PlanError> {
    let own = compiled::kind(file).unwrap_or_default();
    if let Some(kind) = kind.filter(|kind| *kind != own) {
        return Err(wrong("kind", kind, &format!("none, or `{own}`, which the file is")));
    }
    if let Some(weights) = &manifest.weights {
        return Err(wrong("weights", weights, "none: the file has its own"));
    }
    if let Some(other) = manifest.settings.get("file") {
        return Err(wrong("settings.file", &other.to_string(), "none: the file is the model"));
    }
    if own == compiled::SILENT && !manifest.settings.contains_key("inputs") {
        let expected = "what the file takes, which it does not say itself, like `x:f32[4] ids:i64[..128]`";
        return Err(wrong("settings.inputs", "not there", expected));
    }
    let config = block(file.parent().unwrap_or(file), manifest, wrong)?;
    Ok(What::Block { kind: own.to_owned(), config: config.with("file", file.to_string_lossy()) })
}

/// Texts of different lengths share batches.
fn pool(what: &What, manifest: &Manifest) -> PoolOptions {
    let options = manifest.pool.options();
    match what {
        What::Text { model, ragged: false, .. } => options.padding(model.padding(PadTo::Multiple(TEXT_STEP))),
        What::Text { .. } | What::Block { .. } => options,
    }
}

fn text(
    folder: &Path,
    manifest: &Manifest,
    wrong: impl Fn(&str, &str, &str) -> PlanError,
) -> Result<What, PlanError> {
    let precision = match &manifest.precision {
        None => Precision::F32,
        Some(name) => {
            name.parse().map_err(|_| wrong("precision", name, "`f32`, `f16`, `bf16` or `stored`"))?
        }
    };
    let mut model = Model::read(folder).map_err(|error| PlanError::Model(Box::new(error)))?;
    if manifest.token_vectors == Some(true) {
        let told = |error: TextError| wrong("token-vectors", "true", &format!("none: {error}"));
        model = model.with_token_vectors().map_err(told)?;
    }
    let ragged = manifest.rows == Some(Rows::Ragged);
    Ok(What::Text { model: Arc::new(model), precision, ragged })
}

fn block(
    folder: &Path,
    manifest: &Manifest,
    wrong: impl Fn(&str, &str, &str) -> PlanError,
) -> Result<Config, PlanError> {
    if let Some(precision) = &manifest.precision {
        return Err(wrong("precision", precision, "none: it is for published folders"));
    }
    if manifest.rows.is_some() {
        return Err(wrong("rows", "there", "none: it is for published folders"));
    }
    if let Some(gives) = manifest.token_vectors {
        return Err(wrong("token-vectors", &gives.to_string(), "none: it is for published folders"));
    }
    let mut config = Config::new();
    for (key, value) in &manifest.settings {
        let text = match value {
            // Files of a block are in its folder.
            toml::Value::String(text) if key == "file" => inside(folder, text)
                .ok_or_else(|| wrong("settings.file", text, "a file in the model's folder"))?,
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(truth) => truth.to_string(),
            other => {
                let expected = "a text, a number, true or false";
                return Err(wrong(&format!("settings.{key}"), &other.to_string(), expected));
            }
        };
        config = config.with(key, text);
    }
    if let Some(weights) = &manifest.weights {
        let file = inside(folder, weights)
            .ok_or_else(|| wrong("weights", weights, "a file in the model's folder"))?;
        config = config.with("weights", file);
    }
    Ok(config)
}

/// The path of a file in the folder; `None` if the name leads out of it.
fn inside(folder: &Path, name: &str) -> Option<String> {
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    (plain && !name.is_empty()).then(|| folder.join(name).to_string_lossy().into_owned())
}
