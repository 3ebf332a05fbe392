//! `config_sentence_transformers.json`.

use crate::description::{Activation, Description, Step};
use crate::error::{ModelError, Result};
use crate::folder::files::Folder;
use crate::folder::torch::torch_activation;
use crate::model::{Prompts, Similarity};
use serde_json::{Value, json};

const SENTENCE: &str = "config_sentence_transformers.json";

/// What `config_sentence_transformers.json` says.
#[derive(Debug, Default)]
pub(crate) struct Sentence {
    /// `SentenceTransformer` or `CrossEncoder`; `None` without the file.
    cross_encoder: bool,
    pub(crate) prompts: Prompts,
    pub(crate) default_prompt: Option<String>,
    pub(crate) similarity: Option<Similarity>,
    /// What a cross-encoder does with its number.
    pub(crate) activation: Option<Activation>,
    truncate: Option<usize>,
}

impl Sentence {
    pub(crate) fn read(folder: &Folder) -> Result<Self> {
        let Some(mut settings) = folder.optional_settings(SENTENCE)? else { return Ok(Self::default()) };
        settings.skip(&["__version__"]);
        let kind = settings.optional_text("model_type")?;
        let cross_encoder = match kind.as_deref() {
            None | Some("SentenceTransformer") => false,
            Some("CrossEncoder") => true,
            Some(other) => {
                let expected = "SentenceTransformer or CrossEncoder";
                return Err(settings.invalid("model_type", &json!(other), expected));
            }
        };
        let mut prompts = Prompts::new();
        if let Some(inner) = settings.optional_inner("prompts")? {
            for (name, prompt) in inner.rest() {
                let prompt = match &prompt {
                    Value::String(prompt) => prompt.clone(),
                    Value::Null => String::new(),
                    other => return Err(settings.invalid(&format!("prompts.{name}"), other, "a text")),
                };
                prompts.insert(name, prompt);
            }
        }
        let default_prompt = settings.optional_text("default_prompt_name")?;
        if let Some(name) = default_prompt.as_ref().filter(|name| !prompts.contains_key(*name)) {
            let known: Vec<&str> = prompts.keys().map(String::as_str).collect();
            let expected = format!("one of `prompts`: {}", known.join(", "));
            return Err(settings.invalid("default_prompt_name", &json!(name), expected));
        }
        let similarity = match settings.optional_text("similarity_fn_name")?.as_deref() {
            None => None,
            Some("cosine") => Some(Similarity::Cosine),
            Some("dot") => Some(Similarity::Dot),
            Some("euclidean") => Some(Similarity::Euclidean),
            Some("manhattan") => Some(Similarity::Manhattan),
            Some(other) => {
                let expected = "cosine, dot, euclidean or manhattan";
                return Err(settings.invalid("similarity_fn_name", &json!(other), expected));
            }
        };
        let activation = torch_activation(&mut settings, "activation_fn")?;
        let truncate = settings.optional_size("truncate_dim")?;
        settings.finish()?;
        Ok(Self { cross_encoder, prompts, default_prompt, similarity, activation, truncate })
    }

    pub(crate) fn is_cross_encoder(&self) -> bool {
        self.cross_encoder
    }

    /// Cuts an embedding to its first numbers, as they are: they are not brought to a unit length again.
    pub(crate) fn truncate(&mut self, description: &mut Description) -> Result<()> {
        let Some(size) = self.truncate else { return Ok(()) };
        if size > description.output {
            let expected = format!("at most the {} numbers that the model gives", description.output);
            return Err(ModelError::value(SENTENCE, "truncate_dim", size, expected));
        }
        description.steps.push(Step::Truncate(size));
        description.output = size;
        Ok(())
    }
}
