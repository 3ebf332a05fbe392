//! A model behind a pool, as its callers see it: texts in, answers out.

use crate::description::Kind;
use crate::model::Model;
use crate::text::ask::{Ask, Prompt};
use crate::text::error::{Result, TextError, gives};
use crate::text::tokens::{Encoded, Question, Tokens};
use skep_runtime_core::{Submit, TensorOps};
use std::fmt;
use std::sync::Arc;

/// A model that is served, with the questions that it answers.
///
/// Texts become tokens on the caller's thread; what answers is whatever takes the model's tensors, a pool of any
/// backend above all. Every method is there for one text and for many, blocking and to be awaited (`…_async`, on any
/// executor). Of many, all are handed in before the first is waited for, so they share batches; if one is refused or
/// fails, the others are cancelled.
///
/// | question | of | one | many | a long text in overlapping parts |
/// |---|---|---|---|---|
/// | vectors | embedding models | [`embed`](Self::embed) | [`embed_all`](Self::embed_all) | [`embed_windows`](Self::embed_windows) |
/// | vectors of tokens | embedding models [with token vectors](Model::with_token_vectors) | [`embed_tokens`](Self::embed_tokens) | [`embed_tokens_all`](Self::embed_tokens_all) | |
/// | classes of a text | classifiers | [`classify`](Self::classify) | [`classify_all`](Self::classify_all) | [`classify_windows`](Self::classify_windows) |
/// | classes of a pair | classifiers of pairs | [`compare`](Self::compare) | [`compare_all`](Self::compare_all) | |
/// | documents by a query | cross-encoders | | [`rerank`](Self::rerank) | [`rerank_windows`](Self::rerank_windows) |
/// | labels of tokens | token classifiers | [`label`](Self::label) | [`label_all`](Self::label_all) | [`label_windows`](Self::label_windows) |
///
/// See the crate's documentation for an example.
pub struct TextModel<O: TensorOps> {
    model: Arc<Model>,
    pub(super) ops: Arc<O>,
    pub(super) door: Arc<dyn Submit<O::Tensor>>,
}

impl<O: TensorOps> fmt::Debug for TextModel<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextModel").field("pool", &self.door.name()).finish_non_exhaustive()
    }
}

impl<O: TensorOps> Clone for TextModel<O> {
    fn clone(&self) -> Self {
        let (model, ops, door) = (Arc::clone(&self.model), Arc::clone(&self.ops), Arc::clone(&self.door));
        Self { model, ops, door }
    }
}

impl<O: TensorOps> TextModel<O> {
    /// Creates the model with what answers for it, its block's forward pool, and what makes its tensors, the device.
    /// Texts of different lengths share batches where the pool has [`Model::padding`].
    ///
    /// # Errors
    ///
    /// Returns [`TextError::NoTokenizer`] if the folder has none, and [`TextError::OtherInputs`] if the door takes
    /// other tensors than the model does.
    pub fn new(model: Arc<Model>, ops: Arc<O>, door: Arc<dyn Submit<O::Tensor>>) -> Result<Self> {
        if model.tokens().is_none() {
            return Err(TextError::NoTokenizer { file: model.folder().join("tokenizer.json") });
        }
        let got: Vec<String> = door.schema().tensors().iter().map(|spec| spec.name().to_owned()).collect();
        let expected: Vec<String> = model.inputs().iter().map(|spec| spec.name().to_owned()).collect();
        if got != expected {
            return Err(TextError::OtherInputs { name: door.name().to_owned(), got, expected });
        }
        Ok(Self { model, ops, door })
    }

    /// Returns what the folder says.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Counts the tokens of a text, its prompt and those around it included, before it is cut.
    ///
    /// # Errors
    ///
    /// Returns [`TextError::NoPrompt`] if the prompt is not there, and [`TextError::Tokenizer`] if the tokenizer cannot
    /// take the text apart.
    pub fn count_tokens(&self, text: &str, prompt: &Prompt) -> Result<usize> {
        self.tokens()?.count(&format!("{}{text}", self.prompt(prompt)?))
    }

    /// Refuses a question that the model does not answer.
    pub(super) fn expect(&self, kind: Kind, asked: &'static str) -> Result<()> {
        match self.model.description().kind {
            own if own == kind => Ok(()),
            own => Err(TextError::OtherKind { asked, got: gives(own) }),
        }
    }

    pub(super) fn tokens(&self) -> Result<&Tokens> {
        let missing = || TextError::NoTokenizer { file: self.model.folder().join("tokenizer.json") };
        self.model.tokens().ok_or_else(missing)
    }

    pub(super) fn prompt<'a>(&'a self, prompt: &'a Prompt) -> Result<&'a str> {
        let prompts = self.model.prompts();
        let named = |name: &str| {
            let known = || prompts.keys().cloned().collect();
            let found = prompts.get(name).map(String::as_str);
            found.ok_or_else(|| TextError::NoPrompt { name: name.to_owned(), known: known() })
        };
        match prompt {
            Prompt::None => Ok(""),
            Prompt::Text(text) => Ok(text),
            Prompt::Named(name) => named(name),
            Prompt::Default => self.model.default_prompt().map_or(Ok(""), named),
        }
    }

    /// How many tokens at the beginning are not pooled.
    pub(super) fn unpooled(&self, prompt: &str) -> Result<usize> {
        if prompt.is_empty() || !self.model.description().pooling_mask {
            return Ok(0);
        }
        self.tokens()?.prompt_length(prompt)
    }

    /// A text's tokens behind the prompt that was asked for, and how many of them are not pooled.
    pub(super) fn encoded(&self, text: &str, ask: &Ask) -> Result<(Encoded, usize)> {
        let prompt = self.prompt(&ask.prompt)?;
        let unpooled = self.unpooled(prompt)?;
        let encoded = self.tokens()?.encode(Question { prompt, text, pair: None }, ask.too_long)?;
        Ok((encoded, unpooled))
    }
}
