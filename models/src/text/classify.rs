//! Classes of texts and of pairs of texts, and documents in the order in which they answer a query.

use crate::description::Kind;
use crate::text::answer::{Classes, Ranked, Window, counted, scores};
use crate::text::ask::Ask;
use crate::text::error::{Result, TextError};
use crate::text::hand_in::Handed;
use crate::text::model::TextModel;
use crate::text::tokens::{Part, Question};
use crate::text::wait::wait;
use skep_runtime_core::TensorOps;

/// Which of a model's rules makes scores of its numbers.
#[derive(Clone, Copy, PartialEq)]
enum Of {
    Texts,
    Pairs,
}

impl<O: TensorOps> TextModel<O> {
    /// Returns what a classifier says of a text.
    ///
    /// # Errors
    ///
    /// Returns [`TextError::OtherKind`] if the model is no classifier of texts, [`TextError::TooLong`] if the text may
    /// not be cut, and the other variants of [`TextError`] if it cannot be taken apart, is refused, or fails.
    pub fn classify(&self, text: &str, ask: &Ask) -> Result<Classes> {
        wait(self.classify_async(text, ask))
    }

    /// Returns what a classifier says of texts, in their order.
    ///
    /// # Errors
    ///
    /// Returns the first error that [`classify`](Self::classify) has for any of them.
    pub fn classify_all<S: AsRef<str> + Sync>(&self, texts: &[S], ask: &Ask) -> Result<Vec<Classes>> {
        wait(self.classify_all_async(texts, ask))
    }

    /// Returns what a classifier says of a text when awaited: [`classify`](Self::classify).
    ///
    /// # Errors
    ///
    /// Returns the errors of `classify`.
    pub async fn classify_async(&self, text: &str, ask: &Ask) -> Result<Classes> {
        let mut classes = self.classify_all_async(&[text], ask).await?;
        classes.pop().ok_or(TextError::NoTokens)
    }

    /// Returns what a classifier says of texts when awaited: [`classify_all`](Self::classify_all).
    ///
    /// # Errors
    ///
    /// Returns the errors of `classify_all`.
    pub async fn classify_all_async<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        ask: &Ask,
    ) -> Result<Vec<Classes>> {
        self.expect(Kind::Sequence, "classify")?;
        let mut handed = Vec::with_capacity(texts.len());
        for text in texts {
            let (encoded, _) = self.encoded(text.as_ref(), ask)?;
            handed.push(self.hand_in(encoded, 0, ask).await?);
        }
        self.classes(handed, Of::Texts, ask).await
    }

    /// Returns what a classifier says of the parts of a long text, each beginning `overlap` tokens before the end of
    /// the one before. What that says of the whole is the application's to decide.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`classify`](Self::classify), [`TextError::Overlap`] if the parts do not advance, and
    /// [`TextError::NoRoom`] if the prompt fills the model.
    pub fn classify_windows(&self, text: &str, overlap: usize, ask: &Ask) -> Result<Vec<Window<Classes>>> {
        wait(self.classify_windows_async(text, overlap, ask))
    }

    /// Returns what a classifier says of a long text's parts when awaited:
    /// [`classify_windows`](Self::classify_windows).
    ///
    /// # Errors
    ///
    /// Returns the errors of `classify_windows`.
    pub async fn classify_windows_async(
        &self,
        text: &str,
        overlap: usize,
        ask: &Ask,
    ) -> Result<Vec<Window<Classes>>> {
        self.expect(Kind::Sequence, "classify")?;
        let prompt = self.prompt(&ask.prompt)?;
        let parts = self.tokens()?.windows(Question { prompt, text, pair: None }, overlap)?;
        let (handed, places) = self.hand_in_parts(parts, ask).await?;
        let classes = self.classes(handed, Of::Texts, ask).await?;
        let windows = classes.into_iter().zip(places);
        Ok(windows.map(|(answer, characters)| Window { answer, characters }).collect())
    }

    /// Returns what a classifier says of a pair of texts: a cross-encoder's scores, one for each label.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`classify`](Self::classify), and [`TextError::NoPairs`] if the tokenizer has no form for
    /// two texts.
    pub fn compare(&self, first: &str, second: &str, ask: &Ask) -> Result<Classes> {
        wait(self.compare_async(first, second, ask))
    }

    /// Returns what a classifier says of pairs of texts, in their order.
    ///
    /// # Errors
    ///
    /// Returns the first error that [`compare`](Self::compare) has for any of them.
    pub fn compare_all<S: AsRef<str> + Sync>(&self, pairs: &[(S, S)], ask: &Ask) -> Result<Vec<Classes>> {
        wait(self.compare_all_async(pairs, ask))
    }

    /// Returns what a classifier says of a pair when awaited: [`compare`](Self::compare).
    ///
    /// # Errors
    ///
    /// Returns the errors of `compare`.
    pub async fn compare_async(&self, first: &str, second: &str, ask: &Ask) -> Result<Classes> {
        let mut classes = self.compare_all_async(&[(first, second)], ask).await?;
        classes.pop().ok_or(TextError::NoTokens)
    }

    /// Returns what a classifier says of pairs when awaited: [`compare_all`](Self::compare_all).
    ///
    /// # Errors
    ///
    /// Returns the errors of `compare_all`.
    pub async fn compare_all_async<S: AsRef<str> + Sync>(
        &self,
        pairs: &[(S, S)],
        ask: &Ask,
    ) -> Result<Vec<Classes>> {
        self.expect(Kind::Sequence, "compare")?;
        let prompt = self.prompt(&ask.prompt)?;
        let mut handed = Vec::with_capacity(pairs.len());
        for (first, second) in pairs {
            let asked = Question { prompt, text: first.as_ref(), pair: Some(second.as_ref()) };
            let encoded = self.tokens()?.encode(asked, ask.too_long)?;
            handed.push(self.hand_in(encoded, 0, ask).await?);
        }
        self.classes(handed, Of::Pairs, ask).await
    }

    /// Returns the documents by how well they answer a query, the best first; equal ones in their order.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`compare_all`](Self::compare_all), and [`TextError::SeveralLabels`] if the model has
    /// more than one number for a pair.
    pub fn rerank<S: AsRef<str> + Sync>(
        &self,
        query: &str,
        documents: &[S],
        ask: &Ask,
    ) -> Result<Vec<Ranked>> {
        wait(self.rerank_async(query, documents, ask))
    }

    /// Returns the documents by how well they answer a query when awaited: [`rerank`](Self::rerank).
    ///
    /// # Errors
    ///
    /// Returns the errors of `rerank`.
    pub async fn rerank_async<S: AsRef<str> + Sync>(
        &self,
        query: &str,
        documents: &[S],
        ask: &Ask,
    ) -> Result<Vec<Ranked>> {
        self.expect_one_label()?;
        let pairs: Vec<(&str, &str)> = documents.iter().map(|document| (query, document.as_ref())).collect();
        let classes = self.compare_all_async(&pairs, ask).await?;
        let mut ranked: Vec<Ranked> =
            classes.into_iter().enumerate().map(|(document, it)| ranked(document, &it)).collect();
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok(ranked)
    }

    /// Returns long documents by how well the best of their parts answers a query, the best first, each with that
    /// part: Dai and Callan, "Deeper text understanding for IR with contextual neural language modeling", 2019
    /// ("`MaxP`"). The query stands whole before each part; each begins `overlap` tokens before the end of the one
    /// before. The tokens are those of all parts.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`rerank`](Self::rerank), [`TextError::Overlap`] if the parts do not advance, and
    /// [`TextError::NoRoom`] if the query fills the model.
    pub fn rerank_windows<S: AsRef<str> + Sync>(
        &self,
        query: &str,
        documents: &[S],
        overlap: usize,
        ask: &Ask,
    ) -> Result<Vec<Window<Ranked>>> {
        wait(self.rerank_windows_async(query, documents, overlap, ask))
    }

    /// Returns long documents by their best parts when awaited: [`rerank_windows`](Self::rerank_windows).
    ///
    /// # Errors
    ///
    /// Returns the errors of `rerank_windows`.
    pub async fn rerank_windows_async<S: AsRef<str> + Sync>(
        &self,
        query: &str,
        documents: &[S],
        overlap: usize,
        ask: &Ask,
    ) -> Result<Vec<Window<Ranked>>> {
        self.expect_one_label()?;
        let prompt = self.prompt(&ask.prompt)?;
        let mut handed = Vec::with_capacity(documents.len());
        for document in documents {
            let asked = Question { prompt, text: query, pair: Some(document.as_ref()) };
            handed.push(self.hand_in_parts(self.tokens()?.windows(asked, overlap)?, ask).await?);
        }
        let mut best = Vec::with_capacity(handed.len());
        for (document, (handed, places)) in handed.into_iter().enumerate() {
            let classes = self.classes(handed, Of::Pairs, ask).await?;
            let given = classes.iter().map(|it| it.tokens.given).sum();
            let windows = classes.into_iter().zip(places);
            let windows =
                windows.map(|(it, characters)| Window { answer: ranked(document, &it), characters });
            // Of equal ones, the first.
            let found = windows.reduce(|best, it| {
                let better = it.answer.score.total_cmp(&best.answer.score).is_gt();
                if better { it } else { best }
            });
            let mut found = found.ok_or(TextError::NoTokens)?;
            found.answer.tokens.given = given;
            best.push(found);
        }
        best.sort_by(|a, b| b.answer.score.total_cmp(&a.answer.score));
        Ok(best)
    }

    fn expect_one_label(&self) -> Result<()> {
        self.expect(Kind::Sequence, "rank")?;
        match self.model().description().output {
            1 => Ok(()),
            labels => Err(TextError::SeveralLabels { labels }),
        }
    }

    async fn hand_in_parts(
        &self,
        parts: Vec<Part>,
        ask: &Ask,
    ) -> Result<(Vec<Handed<O::Tensor>>, Vec<(usize, usize)>)> {
        let mut handed = (Vec::with_capacity(parts.len()), Vec::with_capacity(parts.len()));
        for part in parts {
            handed.0.push(self.hand_in(part.encoded, 0, ask).await?);
            handed.1.push(part.characters);
        }
        Ok(handed)
    }

    async fn classes(&self, handed: Vec<Handed<O::Tensor>>, of: Of, ask: &Ask) -> Result<Vec<Classes>> {
        let rule = self.model().labels().filter(|_| !ask.raw_scores);
        let rule = rule.map(|labels| if of == Of::Pairs { labels.rank } else { labels.classify });
        let mut classes = Vec::with_capacity(handed.len());
        for handed in handed {
            let (mut numbers, encoded) = self.numbers(handed).await?;
            if let Some(rule) = rule {
                scores(rule, &mut numbers);
            }
            classes.push(Classes { scores: numbers, tokens: counted(&encoded) });
        }
        Ok(classes)
    }
}

fn ranked(document: usize, classes: &Classes) -> Ranked {
    let score = classes.scores.first().copied().unwrap_or(f32::NAN);
    Ranked { document, score, tokens: classes.tokens }
}
