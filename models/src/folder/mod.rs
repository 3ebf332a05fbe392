//! Reading a folder: every file once, every key used or refused.

mod claims;
pub(crate) mod files;
mod labels;
mod modules;
pub(crate) mod parameters;
mod pooling;
mod precompiled;
mod sentence;
pub(crate) mod settings;
mod tokenizer;
mod tokenizer_config;
mod tokens;
mod torch;
mod transformer;

use crate::description::{Description, Encoder, Kind};
use crate::error::{ModelError, Result};
use crate::families::{self, Family, Head, HeadSizes};
use crate::model::{Model, ReadOptions};
use crate::weights::Weights;
use files::Folder;
use labels::Labelled;
use modules::{Modules, Parts};
use parameters::Parameters;
use sentence::Sentence;
use serde_json::{Value, json};
use settings::Settings;
use std::path::Path;
use tokens::Asked;

const CONFIG: &str = "config.json";

impl Model {
    /// Reads a folder as `transformers` and sentence-transformers write it: all settings, and the heads of the
    /// weights files.
    ///
    /// Memory: at most 64 times the bytes of the settings and the tokenizer, and 32 times those of the weights files'
    /// heads, whatever is in them. Tensors are read when a block is loaded, one after the other.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder is torn, if its parts do not go together, or if it asks for something that Skep
    /// does not compute. The error names the file, the key, what stands there and what would be right.
    pub fn read(folder: impl AsRef<Path>) -> std::result::Result<Self, ModelError> {
        Self::read_with(folder, &ReadOptions::default())
    }

    /// Reads a folder with options: [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// Returns the errors of `read`, but for keys that the options ignore.
    pub fn read_with(
        folder: impl AsRef<Path>,
        options: &ReadOptions,
    ) -> std::result::Result<Self, ModelError> {
        read(folder.as_ref(), options)
    }
}

fn read(path: &Path, options: &ReadOptions) -> Result<Model> {
    let root = Folder::new(path, &options.ignored_keys);
    let mut sentence = Sentence::read(&root)?;
    let modules = Modules::read(&root)?;
    let folder = modules.as_ref().map_or_else(|| root.clone(), |modules| root.inner(&modules.encoder));
    let mut config = folder.settings(CONFIG, "the settings of a model")?;
    let (family, name) = families::find(&mut config)?;
    let pad = config.look("pad_token_id").and_then(Value::as_u64);
    let weights_folder = &folder;
    let mut parameters =
        Parameters::new(Weights::of_model(weights_folder)?, folder.file("model.safetensors"));

    let prefix = parameters.encoder(family.prefixes, family.probe)?;
    let encoder = (family.encoder)(&mut config, &mut parameters.under(prefix.as_str()))?;
    let architecture = families::architecture(&mut config, family)?;
    let transformer = transformer::read(&folder, sentence.is_cross_encoder())?;
    let purpose = purpose(&config, &sentence, modules.as_ref(), architecture.as_deref())?;
    let mut notes = Vec::new();
    let labelled = labels::read(&mut config, &sentence, architecture.as_deref(), purpose)?;

    let mut draft = Draft { family, prefix, parameters, config, pad };
    let parts = match purpose {
        Kind::Embedding => {
            if let Some(modules) = &modules {
                modules.parts(&root, &mut draft.parameters, encoder.hidden)?
            } else {
                notes.push(format!(
                    "{CONFIG}: nothing says how a text's vectors become one, so they do as in sentence-transformers: \
                     {:?}, without a unit length",
                    family.default_pooling
                ));
                let pooling = vec![family.default_pooling];
                Parts { pooling, steps: Vec::new(), output: encoder.hidden, without_prompt: false }
            }
        }
        Kind::Sequence | Kind::Token => {
            if let Some(modules) = &modules {
                modules.alone(&root)?;
            }
            draft.head(&encoder, &labelled, purpose)?
        }
    };
    let unused = draft.finish()?;
    if !unused.is_empty() {
        notes.push(format!(
            "{} tensors belong to another use of the model and are not read: `{}` and so on",
            unused.len(),
            unused[0]
        ));
    }

    let mut description = Description {
        family: name,
        kind: purpose,
        pooling: parts.pooling,
        pooling_mask: parts.without_prompt,
        token_types: family.token_types && encoder.types.as_ref().is_some_and(|types| types.rows > 1),
        steps: parts.steps,
        output: parts.output,
        token_vectors: false,
        encoder,
    };
    sentence.truncate(&mut description)?;
    let asked = Asked { family, transformer: &transformer, pad };
    let tokens = tokens::read(&folder, &asked, &mut description, &mut notes)?;
    let Labelled { labels, .. } = labelled;
    let Sentence { prompts, default_prompt, similarity, .. } = sentence;
    Ok(Model {
        folder: path.to_owned(),
        description,
        weights: draft.parameters.weights,
        tokens,
        labels,
        prompts,
        default_prompt,
        similarity,
        notes,
    })
}

/// A folder half read.
struct Draft {
    family: &'static Family,
    prefix: String,
    parameters: Parameters,
    config: Settings,
    /// `pad_token_id`.
    pad: Option<u64>,
}

impl Draft {
    fn head(&mut self, encoder: &Encoder, labelled: &Labelled, kind: Kind) -> Result<Parts> {
        let read = if kind == Kind::Token { self.family.token_head } else { self.family.sequence_head };
        let norm = encoder.embedding_norm.as_ref().or(encoder.last_norm.as_ref());
        let sizes = HeadSizes {
            hidden: encoder.hidden,
            labels: labelled.count,
            norm_eps: norm.map_or(1e-5, |norm| norm.eps),
            pad: self.pad.and_then(|pad| u32::try_from(pad).ok()),
            prefix: &self.prefix,
        };
        let Head { pooling, steps } = read(&mut self.config, &mut self.parameters.under(""), &sizes)?;
        Ok(Parts { pooling, steps, output: labelled.count, without_prompt: false })
    }

    /// Refuses what is left of the settings and the weights.
    fn finish(&mut self) -> Result<Vec<String>> {
        self.config.skip(self.family.head_keys);
        // Of the tokenizer, which has its own.
        self.config.skip(&["pad_token_id"]);
        let config = std::mem::replace(&mut self.config, Settings::of(CONFIG.into(), json!({}), &[])?);
        config.finish()?;
        let known = self.family.unused.iter().map(|start| start.replace("{}", &self.prefix));
        self.parameters.finish(&known.collect::<Vec<_>>())
    }
}

/// What the folder is for.
fn purpose(
    config: &Settings,
    sentence: &Sentence,
    modules: Option<&Modules>,
    architecture: Option<&str>,
) -> Result<Kind> {
    if sentence.is_cross_encoder() {
        return Ok(Kind::Sequence);
    }
    if modules.is_some() {
        return Ok(Kind::Embedding);
    }
    match architecture {
        Some("ForSequenceClassification") => Ok(Kind::Sequence),
        Some("ForTokenClassification") => Ok(Kind::Token),
        // The encoder of a model that was trained to fill in words.
        None | Some("Model" | "ForMaskedLM" | "ForPreTraining" | "LMHeadModel" | "ForCausalLM") => {
            Ok(Kind::Embedding)
        }
        Some(other) => {
            let expected = "…Model, …ForMaskedLM, …ForSequenceClassification or …ForTokenClassification";
            Err(ModelError::value(config.file(), "architectures", format!("a …{other}"), expected))
        }
    }
}
