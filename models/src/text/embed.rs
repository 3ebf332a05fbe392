//! Vectors of texts.

use crate::description::Kind;
use crate::text::answer::{Embedding, TokenVectors, Window, counted};
use crate::text::ask::Ask;
use crate::text::error::{Result, TextError};
use crate::text::model::TextModel;
use crate::text::tokens::Question;
use crate::text::wait::wait;
use skep_runtime_core::TensorOps;

impl<O: TensorOps> TextModel<O> {
    /// Returns a text's vector.
    ///
    /// # Errors
    ///
    /// Returns [`TextError::OtherKind`] if the model is no embedding model, [`TextError::TooLong`] if the text may not
    /// be cut, and the other variants of [`TextError`] if it cannot be taken apart, is refused, or fails.
    pub fn embed(&self, text: &str, ask: &Ask) -> Result<Embedding> {
        wait(self.embed_async(text, ask))
    }

    /// Returns the vectors of texts, in their order.
    ///
    /// # Errors
    ///
    /// Returns the first error that [`embed`](Self::embed) has for any of them.
    pub fn embed_all<S: AsRef<str> + Sync>(&self, texts: &[S], ask: &Ask) -> Result<Vec<Embedding>> {
        wait(self.embed_all_async(texts, ask))
    }

    /// Returns a text's vector when awaited: [`embed`](Self::embed).
    ///
    /// # Errors
    ///
    /// Returns the errors of `embed`.
    pub async fn embed_async(&self, text: &str, ask: &Ask) -> Result<Embedding> {
        let mut embedded = self.embed_all_async(&[text], ask).await?;
        embedded.pop().ok_or(TextError::NoTokens)
    }

    /// Returns the vectors of texts when awaited: [`embed_all`](Self::embed_all).
    ///
    /// # Errors
    ///
    /// Returns the errors of `embed_all`.
    pub async fn embed_all_async<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        ask: &Ask,
    ) -> Result<Vec<Embedding>> {
        self.expect(Kind::Embedding, "embed")?;
        let handed = self.hand_in_all(texts, ask).await?;
        let mut embedded = Vec::with_capacity(handed.len());
        for handed in handed {
            let (vector, encoded) = self.numbers(handed).await?;
            embedded.push(Embedding { vector, tokens: counted(&encoded) });
        }
        Ok(embedded)
    }

    /// Returns the vectors of a text's tokens, as they come out of the last layer: those around the text and of its prompt
    /// are among them.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`embed`](Self::embed), and [`TextError::NoTokenVectors`] unless the model is one
    /// [with token vectors](crate::Model::with_token_vectors).
    pub fn embed_tokens(&self, text: &str, ask: &Ask) -> Result<TokenVectors> {
        wait(self.embed_tokens_async(text, ask))
    }

    /// Returns the vectors of the tokens of texts, in the texts' order: [`embed_tokens`](Self::embed_tokens).
    ///
    /// # Errors
    ///
    /// Returns the first error that `embed_tokens` has for any of them.
    pub fn embed_tokens_all<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        ask: &Ask,
    ) -> Result<Vec<TokenVectors>> {
        wait(self.embed_tokens_all_async(texts, ask))
    }

    /// Returns the vectors of a text's tokens when awaited: [`embed_tokens`](Self::embed_tokens).
    ///
    /// # Errors
    ///
    /// Returns the errors of `embed_tokens`.
    pub async fn embed_tokens_async(&self, text: &str, ask: &Ask) -> Result<TokenVectors> {
        let mut embedded = self.embed_tokens_all_async(&[text], ask).await?;
        embedded.pop().ok_or(TextError::NoTokens)
    }

    /// Returns the vectors of the tokens of texts when awaited: [`embed_tokens_all`](Self::embed_tokens_all).
    ///
    /// # Errors
    ///
    /// Returns the errors of `embed_tokens_all`.
    pub async fn embed_tokens_all_async<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        ask: &Ask,
    ) -> Result<Vec<TokenVectors>> {
        self.expect(Kind::Embedding, "embed")?;
        let description = self.model().description();
        if !description.token_vectors {
            return Err(TextError::NoTokenVectors);
        }
        let handed = self.hand_in_all(texts, ask).await?;
        let mut embedded = Vec::with_capacity(handed.len());
        for handed in handed {
            let (numbers, encoded) = self.token_vectors(handed).await?;
            let size = description.encoder.hidden;
            embedded.push(TokenVectors { numbers, size, tokens: counted(&encoded) });
        }
        Ok(embedded)
    }

    /// Returns the vectors of the parts of a long text: as many tokens as the model takes, each part beginning
    /// `overlap` tokens before the end of the one before. The prompt stands before every part, so each is embedded
    /// as a text of its own.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`embed`](Self::embed), [`TextError::Overlap`] if the parts do not advance, and
    /// [`TextError::NoRoom`] if the prompt fills the model.
    pub fn embed_windows(&self, text: &str, overlap: usize, ask: &Ask) -> Result<Vec<Window<Embedding>>> {
        wait(self.embed_windows_async(text, overlap, ask))
    }

    /// Returns the vectors of a long text's parts when awaited: [`embed_windows`](Self::embed_windows).
    ///
    /// # Errors
    ///
    /// Returns the errors of `embed_windows`.
    pub async fn embed_windows_async(
        &self,
        text: &str,
        overlap: usize,
        ask: &Ask,
    ) -> Result<Vec<Window<Embedding>>> {
        self.expect(Kind::Embedding, "embed")?;
        let prompt = self.prompt(&ask.prompt)?;
        let unpooled = self.unpooled(prompt)?;
        let parts = self.tokens()?.windows(Question { prompt, text, pair: None }, overlap)?;
        let mut handed = Vec::with_capacity(parts.len());
        for part in parts {
            handed.push((self.hand_in(part.encoded, unpooled, ask).await?, part.characters));
        }
        let mut windows = Vec::with_capacity(handed.len());
        for (handed, characters) in handed {
            let (vector, encoded) = self.numbers(handed).await?;
            windows.push(Window { answer: Embedding { vector, tokens: counted(&encoded) }, characters });
        }
        Ok(windows)
    }
}
