//! The endpoints of text-embeddings-inference.
//!
//! It serves one model; here requests may name one (`model`), and must if several could answer.

use crate::app::App;
use crate::caller::Caller;
use crate::http::object::Object;
use crate::http::reply::Reply;
use crate::http::texts::{
    Inputs, Vectors, admit, ask, bytes, embed as embedded, embed_tokens, model_of, parsed,
};
use crate::model::Model;
use crate::problem::{Problem, ProblemKind};
use ::bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use skep_models::{Ask, Kind, Prompt, Similarity, TooLong};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, Default, Deserialize)]
enum Direction {
    #[serde(alias = "left")]
    Left,
    #[default]
    #[serde(alias = "right")]
    Right,
}

/// What all questions have.
#[derive(Debug, Default)]
struct Cut {
    truncate: Option<bool>,
    direction: Option<Direction>,
}

impl Cut {
    fn ask(&self) -> Ask {
        Ask::new().too_long(match (self.truncate, self.direction.unwrap_or_default()) {
            (Some(true), Direction::Right) => TooLong::CutEnd,
            (Some(true), Direction::Left) => TooLong::CutStart,
            _ => TooLong::Refuse,
        })
    }
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Embed {
    inputs: Inputs,
    #[serde(default)]
    truncate: Option<bool>,
    #[serde(default)]
    truncation_direction: Option<Direction>,
    #[serde(default)]
    prompt_name: Option<String>,
    #[serde(default = "yes")]
    normalize: bool,
    #[serde(default)]
    dimensions: Option<usize>,
    #[serde(default)]
    model: Option<String>,
}

pub(crate) async fn embed(app: &App, caller: &Caller, body: Bytes) -> Result<Reply, Problem> {
    let request: Embed = parsed(&body)?;
    let model = model_of(app, request.model.as_deref(), Kind::Embedding)?;
    let cut = Cut { truncate: request.truncate, direction: request.truncation_direction };
    let prompt = request.prompt_name.map_or(Prompt::Default, Prompt::Named);
    let vectors = Vectors { dimensions: request.dimensions, normalize: Some(request.normalize) };
    let answers = embedded(app, caller, &model, request.inputs, cut.ask().prompt(prompt), vectors).await?;
    Reply::json(&answers.into_iter().map(|embedding| embedding.vector).collect::<Vec<_>>())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmbedAll {
    inputs: Inputs,
    #[serde(default)]
    truncate: Option<bool>,
    #[serde(default)]
    truncation_direction: Option<Direction>,
    #[serde(default)]
    prompt_name: Option<String>,
    #[serde(default)]
    model: Option<String>,
}

/// The vectors of tokens, as they come out of the last layer: not pooled, and brought to no length.
pub(crate) async fn embed_all(app: &App, caller: &Caller, body: Bytes) -> Result<Reply, Problem> {
    let request: EmbedAll = parsed(&body)?;
    let model = app.only(request.model.as_deref(), GIVES_TOKENS, |model| {
        model.texts.as_ref().is_some_and(|texts| texts.model().description().token_vectors)
    })?;
    let cut = Cut { truncate: request.truncate, direction: request.truncation_direction };
    let prompt = request.prompt_name.map_or(Prompt::Default, Prompt::Named);
    let answers = embed_tokens(app, caller, &model, request.inputs, cut.ask().prompt(prompt)).await?;
    if answers.iter().flat_map(|answer| &answer.numbers).any(|number| !number.is_finite()) {
        return Err(Problem::new(ProblemKind::Failed, "a vector has numbers that are infinite or none"));
    }
    Reply::json(&answers.iter().map(|answer| answer.vectors().collect::<Vec<_>>()).collect::<Vec<_>>())
}

/// What an embedding model is that was told so.
const GIVES_TOKENS: &str =
    "embedding model that gives the vectors of tokens: `token-vectors = true` in its skep.toml makes it one";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rerank {
    query: String,
    texts: Vec<String>,
    #[serde(default)]
    truncate: Option<bool>,
    #[serde(default)]
    truncation_direction: Option<Direction>,
    #[serde(default)]
    raw_scores: bool,
    #[serde(default)]
    return_text: bool,
    #[serde(default)]
    model: Option<String>,
}

#[derive(Serialize)]
struct Rank {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    score: f32,
}

/// JSON would turn what is no number into nothing.
fn finite(score: f32) -> Result<f32, Problem> {
    let failed = || Problem::new(ProblemKind::Failed, "a score is infinite or no number");
    if score.is_finite() { Ok(score) } else { Err(failed()) }
}

pub(crate) async fn rerank(app: &App, caller: &Caller, body: Bytes) -> Result<Reply, Problem> {
    let request: Rerank = parsed(&body)?;
    let model = ranking(app, request.model.as_deref())?;
    admit(app, caller, &model, request.texts.len())?;
    let cut = Cut { truncate: request.truncate, direction: request.truncation_direction };
    let question = cut.ask().raw_scores(request.raw_scores).deadline(model.wait(None)).flow(caller.flow());
    let texts = Arc::clone(model.texts()?);
    // The query is cut into tokens again for each text.
    let size = bytes(&request.texts) + request.query.len() * request.texts.len();
    let (query, documents) = (request.query, Arc::new(request.texts));
    let own = Arc::clone(&documents);
    let ranked = ask(&model, size, async move { texts.rerank(&query, &own, &question).await }).await?;
    let rank = |ranked: skep_models::Ranked| {
        let text = if request.return_text { documents.get(ranked.document).cloned() } else { None };
        Ok(Rank { index: ranked.document, text, score: finite(ranked.score)? })
    };
    Reply::json(&ranked.into_iter().map(rank).collect::<Result<Vec<_>, Problem>>()?)
}

/// A model that gives one number for a pair.
fn ranking(app: &App, name: Option<&str>) -> Result<Arc<Model>, Problem> {
    app.only(name, "reranker", |model| {
        model.texts.as_ref().is_some_and(|texts| {
            let description = texts.model().description();
            description.kind == Kind::Sequence && description.output == 1
        })
    })
}

/// A text, or a pair of texts.
#[derive(Clone, Debug)]
enum Question {
    One(String),
    Pair(String, String),
}

/// `"text"`, `["text"]`, `["text", "pair"]`, or a list of the latter two.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text, a pair of texts, or a list of lists of one or two texts")]
enum Questions {
    Text(String),
    Texts(Vec<String>),
    Lists(Vec<Vec<String>>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Predict {
    inputs: Questions,
    #[serde(default)]
    truncate: Option<bool>,
    #[serde(default)]
    truncation_direction: Option<Direction>,
    #[serde(default)]
    raw_scores: bool,
    #[serde(default)]
    model: Option<String>,
}

#[derive(Serialize)]
struct Prediction {
    score: f32,
    label: String,
}

fn question(texts: Vec<String>) -> Result<Question, Problem> {
    let count = texts.len();
    let mut texts = texts.into_iter();
    match (texts.next(), texts.next(), texts.next()) {
        (Some(text), None, _) => Ok(Question::One(text)),
        (Some(first), Some(second), None) => Ok(Question::Pair(first, second)),
        _ => Err(Problem::invalid(format!("an input has {count} texts, expected one or a pair"))),
    }
}

pub(crate) async fn predict(app: &App, caller: &Caller, body: Bytes) -> Result<Reply, Problem> {
    let request: Predict = parsed(&body)?;
    let model = model_of(app, request.model.as_deref(), Kind::Sequence)?;
    let (questions, single) = match request.inputs {
        Questions::Text(text) => (vec![Question::One(text)], true),
        Questions::Texts(texts) => (vec![question(texts)?], true),
        Questions::Lists(lists) => (lists.into_iter().map(question).collect::<Result<_, _>>()?, false),
    };
    admit(app, caller, &model, questions.len())?;
    let cut = Cut { truncate: request.truncate, direction: request.truncation_direction };
    let asked = cut.ask().raw_scores(request.raw_scores).deadline(model.wait(None)).flow(caller.flow());
    // Each kind of question is one call, whose texts share batches.
    let mut ones = (Vec::new(), Vec::new());
    let mut pairs = (Vec::new(), Vec::new());
    let mut size = 0;
    let count = questions.len();
    for (place, question) in questions.into_iter().enumerate() {
        match question {
            Question::One(text) => {
                size += text.len();
                ones.0.push(place);
                ones.1.push(text);
            }
            Question::Pair(first, second) => {
                size += first.len() + second.len();
                pairs.0.push(place);
                pairs.1.push((first, second));
            }
        }
    }
    let texts = Arc::clone(model.texts()?);
    let (ones, pairs, places) = (ones.1, pairs.1, [ones.0, pairs.0].concat());
    let classes = ask(&model, size, async move {
        let mut classes = if ones.is_empty() { Vec::new() } else { texts.classify(&ones, &asked).await? };
        if !pairs.is_empty() {
            classes.extend(texts.compare(&pairs, &asked).await?);
        }
        Ok(classes)
    });
    let classes = classes.await?;
    let labels = model.labels();
    let mut predicted: Vec<Vec<Prediction>> = (0..count).map(|_| Vec::new()).collect();
    for (place, classes) in places.into_iter().zip(classes) {
        let label = |i: usize| labels.get(i).cloned().unwrap_or_else(|| format!("LABEL_{i}"));
        let one = |(i, score): (usize, &f32)| Ok(Prediction { score: finite(*score)?, label: label(i) });
        let mut all = classes.scores.iter().enumerate().map(one).collect::<Result<Vec<_>, Problem>>()?;
        all.sort_by(|a, b| b.score.total_cmp(&a.score));
        predicted[place] = all;
    }
    if single { Reply::json(&predicted.pop().unwrap_or_default()) } else { Reply::json(&predicted) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sentences {
    source_sentence: String,
    sentences: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SimilarityParameters {
    #[serde(default)]
    truncate: Option<bool>,
    #[serde(default)]
    truncation_direction: Option<Direction>,
    #[serde(default)]
    prompt_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Compare {
    inputs: Object<Sentences>,
    #[serde(default)]
    parameters: Option<Object<SimilarityParameters>>,
    #[serde(default)]
    model: Option<String>,
}

pub(crate) async fn similarity(app: &App, caller: &Caller, body: Bytes) -> Result<Reply, Problem> {
    let request: Compare = parsed(&body)?;
    let model = model_of(app, request.model.as_deref(), Kind::Embedding)?;
    let Object(inputs) = request.inputs;
    if inputs.sentences.is_empty() {
        return Err(Problem::invalid("there are no sentences, expected at least one"));
    }
    let Object(parameters) = request.parameters.unwrap_or_default();
    let cut = Cut { truncate: parameters.truncate, direction: parameters.truncation_direction };
    let prompt = parameters.prompt_name.map_or(Prompt::Default, Prompt::Named);
    let mut texts = vec![inputs.source_sentence];
    texts.extend(inputs.sentences);
    let all =
        embedded(app, caller, &model, Inputs::Texts(texts), cut.ask().prompt(prompt), Vectors::default())
            .await?;
    let source = &all[0].vector;
    let scores = all[1..].iter().map(|other| finite(Similarity::Cosine.of(source, &other.vector)));
    Reply::json(&scores.collect::<Result<Vec<_>, _>>()?)
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text or texts")]
enum TextOrTexts {
    Text(String),
    Texts(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tokenize {
    inputs: TextOrTexts,
    #[serde(default = "yes")]
    add_special_tokens: bool,
    #[serde(default)]
    prompt_name: Option<String>,
    #[serde(default)]
    model: Option<String>,
}

pub(crate) async fn tokenize(app: &App, body: Bytes) -> Result<Reply, Problem> {
    let request: Tokenize = parsed(&body)?;
    let model = app.only(request.model.as_deref(), "text model", |model| model.texts.is_some())?;
    let all = match request.inputs {
        TextOrTexts::Text(text) => vec![text],
        TextOrTexts::Texts(texts) => texts,
    };
    if all.is_empty() || all.len() > app.config.max_texts {
        let message = format!("there are {} texts, expected 1 to {}", all.len(), app.config.max_texts);
        return Err(Problem::invalid(message));
    }
    let texts = Arc::clone(model.texts()?);
    let prompt = prompt_text(texts.model(), request.prompt_name.as_deref())?;
    let add = request.add_special_tokens;
    let cut = tokio::task::spawn_blocking(move || -> Result<Vec<Value>, Problem> {
        let pieces = all.iter().map(|text| {
            let tokens = texts.model().tokens().ok_or_else(|| Problem::unsupported("the model has no tokenizer"))?;
            let pieces = tokens.pieces(&format!("{prompt}{text}"), add)?;
            let piece = |piece: skep_models::Piece| {
                let (start, stop) = piece.characters.unzip();
                json!({ "id": piece.id, "text": piece.text, "special": piece.special, "start": start, "stop": stop })
            };
            Ok(Value::from(pieces.into_iter().map(piece).collect::<Vec<_>>()))
        });
        pieces.collect()
    });
    let cut =
        cut.await.map_err(|_| Problem::new(ProblemKind::Failed, "the texts could not be taken apart"))?;
    Reply::json(&cut?)
}

/// The words of a prompt, or of the one that the folder names.
fn prompt_text(model: &skep_models::Model, name: Option<&str>) -> Result<String, Problem> {
    let Some(name) = name.or(model.default_prompt()) else { return Ok(String::new()) };
    model.prompts().get(name).cloned().ok_or_else(|| {
        let known: Vec<_> = model.prompts().keys().collect();
        Problem::invalid(format!("the model has no prompt `{name}`, expected one of {known:?}"))
    })
}

pub(crate) fn info(app: &App, query: Option<&str>) -> Result<Reply, Problem> {
    let named =
        query.into_iter().flat_map(|query| query.split('&')).find_map(|part| part.strip_prefix("model="));
    let named = named.and_then(crate::http::routes::decoded);
    let model = app.only(named.as_deref(), "text model", |model| model.texts.is_some())?;
    let texts = model.texts()?;
    let folder = texts.model();
    let description = folder.description();
    let labels = || {
        let by_id =
            model.labels().iter().enumerate().map(|(i, name)| (i.to_string(), Value::from(name.clone())));
        let by_name = model.labels().iter().enumerate().map(|(i, name)| (name.clone(), Value::from(i)));
        json!({ "id2label": by_id.collect::<Map<_, _>>(), "label2id": by_name.collect::<Map<_, _>>() })
    };
    let kind = match description.kind {
        Kind::Embedding => {
            json!({ "embedding": { "pooling": format!("{:?}", description.pooling).to_lowercase() } })
        }
        Kind::Sequence if description.output == 1 => json!({ "reranker": labels() }),
        _ => json!({ "classifier": labels() }),
    };
    let longest = folder.tokens().map_or(description.encoder.max_tokens, skep_models::Tokens::limit);
    Reply::json(&json!({
        "model_id": model.name,
        "model_sha": null,
        "model_dtype": model.dtype,
        "model_type": kind,
        "max_concurrent_requests": app.config.max_requests,
        "max_input_length": longest,
        "max_batch_tokens": longest.saturating_mul(model.rules.max_rows),
        "max_batch_requests": model.rules.max_rows,
        "max_client_batch_size": app.config.max_texts,
        "auto_truncate": false,
        "tokenization_workers": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "sha": null,
        "docker_label": null,
    }))
}
