//! A model behind a pool, as its callers see it: texts in, answers out.

use crate::description::Kind;
use crate::model::Model;
use crate::text::answer::{Classes, Embedding, LabelledText, Ranked, TokenCount, TokenLabel, Window, scores};
use crate::text::ask::{Ask, Prompt};
use crate::text::error::{Result, TextError, gives};
use crate::text::tokens::{Encoded, Tokens};
use crate::text::wait::wait;
use skep_runtime_core::{HostTensor, Request, Submit, TensorOps, Ticket};
use std::sync::Arc;

/// Texts are padded to a multiple of so many tokens unless the application says otherwise: a few wasted positions
/// for each, and few different lengths, of which equal ones share batches.
const BUCKET: usize = 8;

/// A model that is served, with the question that it answers.
///
/// Texts become tokens on the caller's thread; what answers is whatever takes the model's tensors, a pool of any
/// backend above all. Every method is there for one text and for many, blocking and to be awaited (`…_async`, on any
/// executor). Of many, all are handed in before the first is waited for, so they share batches.
///
/// See the crate's documentation for an example.
pub struct TextModel<O: TensorOps> {
    model: Arc<Model>,
    ops: Arc<O>,
    door: Arc<dyn Submit<O::Tensor>>,
    bucket: usize,
}

impl<O: TensorOps> Clone for TextModel<O> {
    fn clone(&self) -> Self {
        let (model, ops, door) = (Arc::clone(&self.model), Arc::clone(&self.ops), Arc::clone(&self.door));
        Self { model, ops, door, bucket: self.bucket }
    }
}

/// A text that was handed in.
struct Handed<T> {
    ticket: Ticket<T>,
    encoded: Encoded,
    padded: usize,
}

impl<O: TensorOps> TextModel<O> {
    /// Creates the model with what answers for it, its block's forward pool, and what makes its tensors, the device.
    ///
    /// # Errors
    ///
    /// [`TextError::NoTokenizer`] if the folder has none, [`TextError::OtherInputs`] if something else answers.
    pub fn new(model: Arc<Model>, ops: Arc<O>, door: Arc<dyn Submit<O::Tensor>>) -> Result<Self> {
        if model.tokens().is_none() {
            return Err(TextError::NoTokenizer { file: model.folder().join("tokenizer.json") });
        }
        let got: Vec<String> = door.schema().tensors().iter().map(|spec| spec.name().to_owned()).collect();
        let expected: Vec<String> = model.inputs().iter().map(|spec| spec.name().to_owned()).collect();
        if got != expected {
            return Err(TextError::OtherInputs { name: door.name().to_owned(), got, expected });
        }
        Ok(Self { model, ops, door, bucket: BUCKET })
    }

    /// Sets to a multiple of how many tokens texts are padded. 8 unless set; at least 1.
    pub fn with_bucket(mut self, tokens: usize) -> Self {
        self.bucket = tokens.max(1);
        self
    }

    /// What the folder says.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// How many tokens a text has, its prompt and those around it included, before it is cut.
    ///
    /// # Errors
    ///
    /// The prompt is not there, or the tokenizer cannot take the text apart.
    pub fn count_tokens(&self, text: &str, prompt: &Prompt) -> Result<usize> {
        self.tokens()?.count(&format!("{}{text}", self.prompt(prompt)?))
    }

    /// A text's vector.
    ///
    /// # Errors
    ///
    /// The model is no embedding model, the text is refused, or its task fails: see [`TextError`].
    pub fn embed(&self, text: &str, ask: &Ask) -> Result<Embedding> {
        wait(self.embed_async(text, ask))
    }

    /// The vectors of texts, in their order.
    ///
    /// # Errors
    ///
    /// Those of [`embed`](Self::embed), of the first text that has one.
    pub fn embed_all<S: AsRef<str> + Sync>(&self, texts: &[S], ask: &Ask) -> Result<Vec<Embedding>> {
        wait(self.embed_all_async(texts, ask))
    }

    /// [`embed`](Self::embed), to be awaited.
    ///
    /// # Errors
    ///
    /// Those of `embed`.
    pub async fn embed_async(&self, text: &str, ask: &Ask) -> Result<Embedding> {
        let mut embedded = self.embed_all_async(&[text], ask).await?;
        embedded.pop().ok_or(TextError::NoTokens)
    }

    /// [`embed_all`](Self::embed_all), to be awaited.
    ///
    /// # Errors
    ///
    /// Those of `embed_all`.
    pub async fn embed_all_async<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        ask: &Ask,
    ) -> Result<Vec<Embedding>> {
        self.expect(Kind::Embedding, "embed")?;
        let mut handed = Vec::with_capacity(texts.len());
        for text in texts {
            let (encoded, prompt) = self.encoded(text.as_ref(), ask)?;
            handed.push(self.hand_in(encoded, prompt, ask).await?);
        }
        let mut embedded = Vec::with_capacity(handed.len());
        for handed in handed {
            let (vector, encoded) = self.numbers(handed).await?;
            embedded.push(Embedding { vector, tokens: counted(&encoded) });
        }
        Ok(embedded)
    }

    /// The vectors of the parts of a long text: as many tokens as the model takes, each part beginning `overlap`
    /// tokens before the end of the one before.
    ///
    /// # Errors
    ///
    /// Those of [`embed`](Self::embed), and [`TextError::Overlap`].
    pub fn embed_windows(&self, text: &str, overlap: usize, ask: &Ask) -> Result<Vec<Window>> {
        wait(self.embed_windows_async(text, overlap, ask))
    }

    /// [`embed_windows`](Self::embed_windows), to be awaited.
    ///
    /// # Errors
    ///
    /// Those of `embed_windows`.
    pub async fn embed_windows_async(&self, text: &str, overlap: usize, ask: &Ask) -> Result<Vec<Window>> {
        self.expect(Kind::Embedding, "embed")?;
        let prompt = self.prompt(&ask.prompt)?;
        let parts = self.tokens()?.windows(&format!("{prompt}{text}"), overlap)?;
        let mut handed = Vec::with_capacity(parts.len());
        for (i, part) in parts.into_iter().enumerate() {
            // The prompt stands in the first part.
            let prompt = if i == 0 { prompt } else { "" };
            handed.push(self.hand_in(part, self.left_out_of_pooling(prompt)?, ask).await?);
        }
        let mut windows = Vec::with_capacity(handed.len());
        for handed in handed {
            let (vector, encoded) = self.numbers(handed).await?;
            let own = || encoded.places.iter().zip(&encoded.around).filter(|(_, around)| !**around);
            let start = own().map(|(place, _)| place.0).min().unwrap_or(0);
            let end = own().map(|(place, _)| place.1).max().unwrap_or(0);
            windows.push(Window { vector, characters: (start, end), tokens: encoded.ids.len() });
        }
        Ok(windows)
    }

    /// What a classifier says of a text.
    ///
    /// # Errors
    ///
    /// The model is no classifier of texts, the text is refused, or its task fails: see [`TextError`].
    pub fn classify(&self, text: &str, ask: &Ask) -> Result<Classes> {
        wait(self.classify_async(text, ask))
    }

    /// What a classifier says of texts, in their order.
    ///
    /// # Errors
    ///
    /// Those of [`classify`](Self::classify), of the first text that has one.
    pub fn classify_all<S: AsRef<str> + Sync>(&self, texts: &[S], ask: &Ask) -> Result<Vec<Classes>> {
        wait(self.classify_all_async(texts, ask))
    }

    /// [`classify`](Self::classify), to be awaited.
    ///
    /// # Errors
    ///
    /// Those of `classify`.
    pub async fn classify_async(&self, text: &str, ask: &Ask) -> Result<Classes> {
        let mut classes = self.classify_all_async(&[text], ask).await?;
        classes.pop().ok_or(TextError::NoTokens)
    }

    /// [`classify_all`](Self::classify_all), to be awaited.
    ///
    /// # Errors
    ///
    /// Those of `classify_all`.
    pub async fn classify_all_async<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        ask: &Ask,
    ) -> Result<Vec<Classes>> {
        self.expect(Kind::Sequence, "classify")?;
        let mut handed = Vec::with_capacity(texts.len());
        for text in texts {
            let (encoded, prompt) = self.encoded(text.as_ref(), ask)?;
            handed.push(self.hand_in(encoded, prompt, ask).await?);
        }
        self.classes(handed, false).await
    }

    /// What a classifier says of pairs of texts, in their order: a cross-encoder's scores, one for each label.
    ///
    /// # Errors
    ///
    /// Those of [`classify`](Self::classify), and [`TextError::NoPairs`].
    pub fn compare_all<S: AsRef<str> + Sync>(&self, pairs: &[(S, S)], ask: &Ask) -> Result<Vec<Classes>> {
        wait(self.compare_all_async(pairs, ask))
    }

    /// [`compare_all`](Self::compare_all), to be awaited.
    ///
    /// # Errors
    ///
    /// Those of `compare_all`.
    pub async fn compare_all_async<S: AsRef<str> + Sync>(
        &self,
        pairs: &[(S, S)],
        ask: &Ask,
    ) -> Result<Vec<Classes>> {
        self.expect(Kind::Sequence, "compare")?;
        let prompt = self.prompt(&ask.prompt)?;
        let mut handed = Vec::with_capacity(pairs.len());
        for (first, second) in pairs {
            let first = format!("{prompt}{}", first.as_ref());
            let encoded = self.tokens()?.encode(&first, Some(second.as_ref()), ask.too_long)?;
            handed.push(self.hand_in(encoded, 0, ask).await?);
        }
        self.classes(handed, true).await
    }

    /// The documents by how well they answer a query, the best first.
    ///
    /// # Errors
    ///
    /// Those of [`compare_all`](Self::compare_all), and [`TextError::SeveralLabels`].
    pub fn rerank<S: AsRef<str> + Sync>(
        &self,
        query: &str,
        documents: &[S],
        ask: &Ask,
    ) -> Result<Vec<Ranked>> {
        wait(self.rerank_async(query, documents, ask))
    }

    /// [`rerank`](Self::rerank), to be awaited.
    ///
    /// # Errors
    ///
    /// Those of `rerank`.
    pub async fn rerank_async<S: AsRef<str> + Sync>(
        &self,
        query: &str,
        documents: &[S],
        ask: &Ask,
    ) -> Result<Vec<Ranked>> {
        self.expect(Kind::Sequence, "rank")?;
        let labels = self.model.description().output;
        if labels != 1 {
            return Err(TextError::SeveralLabels { labels });
        }
        let pairs: Vec<(&str, &str)> = documents.iter().map(|document| (query, document.as_ref())).collect();
        let classes = self.compare_all_async(&pairs, ask).await?;
        let ranked = classes.into_iter().enumerate().map(|(document, classes)| Ranked {
            document,
            score: classes.scores.first().copied().unwrap_or(f32::NAN),
            tokens: classes.tokens,
        });
        let mut ranked: Vec<Ranked> = ranked.collect();
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok(ranked)
    }

    /// The labels of a text's tokens.
    ///
    /// # Errors
    ///
    /// The model is no classifier of tokens, the text is refused, or its task fails: see [`TextError`].
    pub fn label(&self, text: &str, ask: &Ask) -> Result<LabelledText> {
        wait(self.label_async(text, ask))
    }

    /// The labels of the tokens of texts, in their order.
    ///
    /// # Errors
    ///
    /// Those of [`label`](Self::label), of the first text that has one.
    pub fn label_all<S: AsRef<str> + Sync>(&self, texts: &[S], ask: &Ask) -> Result<Vec<LabelledText>> {
        wait(self.label_all_async(texts, ask))
    }

    /// [`label`](Self::label), to be awaited.
    ///
    /// # Errors
    ///
    /// Those of `label`.
    pub async fn label_async(&self, text: &str, ask: &Ask) -> Result<LabelledText> {
        let mut labelled = self.label_all_async(&[text], ask).await?;
        labelled.pop().ok_or(TextError::NoTokens)
    }

    /// [`label_all`](Self::label_all), to be awaited.
    ///
    /// # Errors
    ///
    /// Those of `label_all`.
    pub async fn label_all_async<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        ask: &Ask,
    ) -> Result<Vec<LabelledText>> {
        self.expect(Kind::Token, "label")?;
        let mut handed = Vec::with_capacity(texts.len());
        for text in texts {
            let (encoded, prompt) = self.encoded(text.as_ref(), ask)?;
            handed.push(self.hand_in(encoded, prompt, ask).await?);
        }
        let mut labelled = Vec::with_capacity(handed.len());
        for handed in handed {
            let (numbers, encoded) = self.numbers(handed).await?;
            labelled.push(LabelledText {
                labels: self.token_labels(&numbers, &encoded),
                tokens: counted(&encoded),
            });
        }
        Ok(labelled)
    }

    /// The labels of a long text's tokens, by parts that overlap by so many tokens: of a token that is in two parts,
    /// the label from the part in which it is farther from the end.
    ///
    /// # Errors
    ///
    /// Those of [`label`](Self::label), and [`TextError::Overlap`].
    pub fn label_windows(&self, text: &str, overlap: usize, ask: &Ask) -> Result<LabelledText> {
        wait(self.label_windows_async(text, overlap, ask))
    }

    /// [`label_windows`](Self::label_windows), to be awaited.
    ///
    /// # Errors
    ///
    /// Those of `label_windows`.
    pub async fn label_windows_async(&self, text: &str, overlap: usize, ask: &Ask) -> Result<LabelledText> {
        self.expect(Kind::Token, "label")?;
        let parts = self.tokens()?.windows(&format!("{}{text}", self.prompt(&ask.prompt)?), overlap)?;
        let mut handed = Vec::with_capacity(parts.len());
        for part in parts {
            handed.push(self.hand_in(part, 0, ask).await?);
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

    fn expect(&self, kind: Kind, asked: &'static str) -> Result<()> {
        match self.model.description().kind {
            own if own == kind => Ok(()),
            own => Err(TextError::OtherKind { asked, got: gives(own) }),
        }
    }

    fn tokens(&self) -> Result<&Tokens> {
        let missing = || TextError::NoTokenizer { file: self.model.folder().join("tokenizer.json") };
        self.model.tokens().ok_or_else(missing)
    }

    fn prompt<'a>(&'a self, prompt: &'a Prompt) -> Result<&'a str> {
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

    /// How many tokens are not pooled.
    fn left_out_of_pooling(&self, prompt: &str) -> Result<usize> {
        if prompt.is_empty() || !self.model.description().pooling_mask {
            return Ok(0);
        }
        self.tokens()?.prompt_length(prompt)
    }

    /// A text's tokens, and how many of them are not pooled.
    fn encoded(&self, text: &str, ask: &Ask) -> Result<(Encoded, usize)> {
        let prompt = self.prompt(&ask.prompt)?;
        let left_out = self.left_out_of_pooling(prompt)?;
        let tokens = self.tokens()?;
        let encoded = match prompt {
            "" => tokens.encode(text, None, ask.too_long),
            prompt => tokens.encode(&format!("{prompt}{text}"), None, ask.too_long),
        };
        Ok((encoded?, left_out))
    }

    async fn hand_in(&self, encoded: Encoded, unpooled: usize, ask: &Ask) -> Result<Handed<O::Tensor>> {
        let tokens = self.tokens()?;
        let count = encoded.ids.len();
        let padded = count.next_multiple_of(self.bucket).min(tokens.limit()).max(count);
        let padding = padded - count;
        let row = |values: &mut dyn Iterator<Item = u32>| {
            let values: Vec<u32> = values.collect();
            let host = HostTensor::from_u32(&[1, padded], &values).map_err(|error| TextError::Output {
                got: error.to_string(),
                expected: "as many ids as there are tokens".to_owned(),
            })?;
            self.ops.from_host(&host).map_err(TextError::Device)
        };
        let fill = |value| std::iter::repeat_n(value, padding);
        let mut inputs = Vec::with_capacity(4);
        inputs.push(row(&mut encoded.ids.iter().copied().chain(fill(tokens.padding())))?);
        inputs.push(row(&mut std::iter::repeat_n(1, count).chain(fill(0)))?);
        if self.model.description().token_types {
            inputs.push(row(&mut encoded.types.iter().copied().chain(fill(0)))?);
        }
        if self.model.description().pooling_mask {
            let unpooled = unpooled.min(count);
            let pooled = std::iter::repeat_n(0, unpooled).chain(std::iter::repeat_n(1, count - unpooled));
            inputs.push(row(&mut pooled.chain(fill(0)))?);
        }
        let request = Request { priority: ask.priority, deadline: ask.deadline, ..Request::new(inputs) };
        let ticket =
            self.door.submit_async(request).await.map_err(|refused| TextError::Refused(refused.error))?;
        Ok(Handed { ticket, encoded, padded })
    }

    /// What came of a text: all numbers of its tokens, or those of its one vector.
    async fn numbers(&self, handed: Handed<O::Tensor>) -> Result<(Vec<f32>, Encoded)> {
        let Handed { ticket, encoded, padded } = handed;
        let outputs = ticket.await.map_err(TextError::Failed)?;
        let description = self.model.description();
        let expected: &[usize] = match description.kind {
            Kind::Token => &[1, padded, description.output],
            _ => &[1, description.output],
        };
        let wrong = |got: String| TextError::Output { got, expected: format!("f32 of dims {expected:?}") };
        let output = outputs.first().ok_or_else(|| wrong("not there".to_owned()))?;
        let host = self.ops.to_host(output).map_err(TextError::Device)?;
        let numbers = host.to_f32().filter(|_| host.dims() == expected);
        let numbers = numbers.ok_or_else(|| wrong(format!("{} of dims {:?}", host.dtype(), host.dims())))?;
        Ok((numbers, encoded))
    }

    async fn classes(&self, handed: Vec<Handed<O::Tensor>>, pairs: bool) -> Result<Vec<Classes>> {
        let rule = self.model.labels().map(|labels| if pairs { labels.rank } else { labels.classify });
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

    /// The best label of each token of the text itself.
    fn token_labels(&self, numbers: &[f32], encoded: &Encoded) -> Vec<TokenLabel> {
        let rows = numbers.chunks_exact(self.model.description().output.max(1));
        let own = rows.zip(&encoded.places).zip(&encoded.around).filter(|(_, around)| !**around);
        own.map(|((row, place), _)| {
            let mut row = row.to_vec();
            // One label holds for a token, whatever the problem's type.
            scores(crate::model::Scores::Softmax, &mut row);
            let best = row.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
            let (label, score) = best.map_or((0, f32::NAN), |(label, score)| (label, *score));
            TokenLabel { label, score, characters: *place }
        })
        .collect()
    }
}

fn counted(encoded: &Encoded) -> TokenCount {
    TokenCount { given: encoded.ids.len(), left_out: encoded.left_out }
}
