//! Labels of a text's tokens.

use crate::description::Kind;
use crate::model::Scores;
use crate::text::answer::{LabelledText, TokenCount, TokenLabel, counted, scores};
use crate::text::ask::Ask;
use crate::text::error::{Result, TextError};
use crate::text::model::TextModel;
use crate::text::tokens::{Encoded, Question};
use crate::text::wait::wait;
use skep_runtime_core::TensorOps;

impl<O: TensorOps> TextModel<O> {
    /// Returns the labels of a text's tokens.
    ///
    /// # Errors
    ///
    /// Returns [`TextError::OtherKind`] if the model is no classifier of tokens, [`TextError::TooLong`] if the text may
    /// not be cut, and the other variants of [`TextError`] if it cannot be taken apart, is refused, or fails.
    pub fn label(&self, text: &str, ask: &Ask) -> Result<LabelledText> {
        wait(self.label_async(text, ask))
    }

    /// Returns the labels of the tokens of texts, in their order.
    ///
    /// # Errors
    ///
    /// Returns the first error that [`label`](Self::label) has for any of them.
    pub fn label_all<S: AsRef<str> + Sync>(&self, texts: &[S], ask: &Ask) -> Result<Vec<LabelledText>> {
        wait(self.label_all_async(texts, ask))
    }

    /// Returns the labels of a text's tokens when awaited: [`label`](Self::label).
    ///
    /// # Errors
    ///
    /// Returns the errors of `label`.
    pub async fn label_async(&self, text: &str, ask: &Ask) -> Result<LabelledText> {
        let mut labelled = self.label_all_async(&[text], ask).await?;
        labelled.pop().ok_or(TextError::NoTokens)
    }

    /// Returns the labels of the tokens of texts when awaited: [`label_all`](Self::label_all).
    ///
    /// # Errors
    ///
    /// Returns the errors of `label_all`.
    pub async fn label_all_async<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        ask: &Ask,
    ) -> Result<Vec<LabelledText>> {
        self.expect(Kind::Token, "label")?;
        let mut handed = Vec::with_capacity(texts.len());
        for text in texts {
            let (encoded, _) = self.encoded(text.as_ref(), ask)?;
            handed.push(self.hand_in(encoded, 0, ask).await?);
        }
        let mut labelled = Vec::with_capacity(handed.len());
        for handed in handed {
            let (numbers, encoded) = self.numbers(handed).await?;
            let labels = self.token_labels(&numbers, &encoded);
            labelled.push(LabelledText { labels, tokens: counted(&encoded) });
        }
        Ok(labelled)
    }

    /// Returns the labels of a long text's tokens, by parts that overlap by so many tokens: of a token that is in two
    /// parts, the label from the part in which it is farther from the end. The prompt stands before every part.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`label`](Self::label), [`TextError::Overlap`] if the parts do not advance, and
    /// [`TextError::NoRoom`] if the prompt fills the model.
    pub fn label_windows(&self, text: &str, overlap: usize, ask: &Ask) -> Result<LabelledText> {
        wait(self.label_windows_async(text, overlap, ask))
    }

    /// Returns the labels of a long text's tokens when awaited: [`label_windows`](Self::label_windows).
    ///
    /// # Errors
    ///
    /// Returns the errors of `label_windows`.
    pub async fn label_windows_async(&self, text: &str, overlap: usize, ask: &Ask) -> Result<LabelledText> {
        self.expect(Kind::Token, "label")?;
        let asked = Question { prompt: self.prompt(&ask.prompt)?, text, pair: None };
        let parts = self.tokens()?.windows(asked, overlap)?;
        let mut handed = Vec::with_capacity(parts.len());
        for part in parts {
            handed.push(self.hand_in(part.encoded, 0, ask).await?);
        }
        let mut whole = LabelledText { labels: Vec::new(), tokens: TokenCount::default() };
        for (i, handed) in handed.into_iter().enumerate() {
            let (numbers, encoded) = self.numbers(handed).await?;
            let labels = self.token_labels(&numbers, &encoded);
            whole.tokens.given += encoded.ids.len();
            // Half of what both have is left to each.
            let shared = if i == 0 { 0 } else { overlap.min(labels.len()).min(whole.labels.len()) };
            whole.labels.truncate(whole.labels.len() - shared / 2);
            whole.labels.extend(labels.into_iter().skip(shared - shared / 2));
        }
        Ok(whole)
    }

    /// The best label of each token of the text itself.
    fn token_labels(&self, numbers: &[f32], encoded: &Encoded) -> Vec<TokenLabel> {
        let rows = numbers.chunks_exact(self.model().description().output.max(1));
        let own = rows.zip(&encoded.places).filter_map(|(row, place)| Some((row, (*place)?)));
        own.map(|(row, characters)| {
            let mut row = row.to_vec();
            // One label holds for a token, whatever the problem's type.
            scores(Scores::Softmax, &mut row);
            let best = row.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
            let (label, score) = best.map_or((0, f32::NAN), |(label, score)| (label, *score));
            TokenLabel { label, score, characters }
        })
        .collect()
    }
}
