//! What the doors for texts share: reading questions, asking them, and bounding both.

use crate::app::App;
use crate::caller::Caller;
use crate::http::object::Object;
use crate::model::Model;
use crate::problem::{Problem, ProblemKind};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use skep_models::description::Step;
use skep_models::{Ask, Embedding, Kind, TextError, TokenCount, TokenVectors, Tokens};
use skep_runtime_core::{DType, HostTensor};
use std::future::Future;
use std::sync::Arc;

/// Texts of more bytes are cut into tokens on another thread, so that the network is not held up.
const HEAVY: usize = 16 << 10;

/// A body as `T`.
pub(crate) fn parsed<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map(|Object(request)| request)
        .map_err(|error| Problem::invalid(format!("request is not as it should be: {error}")))
}

/// What is to be embedded.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a text, texts, token ids, or lists of token ids")]
pub(crate) enum Inputs {
    Text(String),
    Texts(Vec<String>),
    Ids(Vec<u32>),
    IdLists(Vec<Vec<u32>>),
}

impl Inputs {
    /// How many there are, and how many bytes they have.
    fn size(&self) -> (usize, usize) {
        match self {
            Self::Text(text) => (1, text.len()),
            Self::Texts(texts) => (texts.len(), bytes(texts)),
            // They are tokens already.
            Self::Ids(_) => (1, 0),
            Self::IdLists(lists) => (lists.len(), 0),
        }
    }
}

pub(crate) fn bytes(texts: &[String]) -> usize {
    texts.iter().map(String::len).sum()
}

/// Refuses too few and too many texts, those for which there is no room, and those that their caller may not ask for.
pub(crate) fn admit(app: &App, caller: &Caller, model: &Model, texts: usize) -> Result<(), Problem> {
    if texts == 0 {
        return Err(Problem::invalid("there are no texts, expected at least one"));
    }
    if texts > app.config.max_texts {
        return Err(Problem::invalid(format!(
            "there are {texts} texts, expected at most {}",
            app.config.max_texts
        )));
    }
    model.admit(texts)?;
    caller.charge(texts)
}

/// Asks a model, of so many bytes of texts. Dropping the future gives the question up.
pub(crate) async fn ask<T, F>(model: &Model, bytes: usize, question: F) -> Result<T, Problem>
where
    T: Send + 'static,
    F: Future<Output = Result<T, TextError>> + Send + 'static,
{
    let open = model.tally.begin();
    let answer = if bytes < HEAVY { Ok(question.await) } else { elsewhere(question).await };
    let answer = answer.and_then(|answer| answer.map_err(|error| model.hinted(error.into())));
    open.end(&answer);
    answer
}

/// Runs a future on a thread of its own, as long as this one is waited for.
async fn elsewhere<T: Send + 'static>(
    question: impl Future<Output = T> + Send + 'static,
) -> Result<T, Problem> {
    let (stays, gone) = tokio::sync::oneshot::channel::<()>();
    let executor = tokio::runtime::Handle::current();
    let asked = tokio::task::spawn_blocking(move || {
        executor.block_on(async {
            tokio::select! {
                answer = question => Some(answer),
                _ = gone => None,
            }
        })
    });
    let answer = asked.await;
    drop(stays);
    match answer {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(Problem::new(ProblemKind::Cancelled, "the question was given up")),
        Err(_) => Err(Problem::new(ProblemKind::Failed, "the question could not be asked")),
    }
}

/// The model that answers questions of this kind.
pub(crate) fn model_of(app: &App, name: Option<&str>, kind: Kind) -> Result<Arc<Model>, Problem> {
    let what = match kind {
        Kind::Embedding => "embedding model",
        Kind::Sequence => "classifier of texts",
        _ => "classifier of tokens",
    };
    let of_kind =
        |model: &Model| model.texts.as_ref().is_some_and(|texts| texts.model().description().kind == kind);
    app.only(name, what, of_kind)
}

/// How vectors are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Vectors {
    pub(crate) dimensions: Option<usize>,
    /// Brings them to unit length, or leaves them as they are; `None` for as the model has it.
    pub(crate) normalize: Option<bool>,
}

/// Embeds texts, or tokens.
pub(crate) async fn embed(
    app: &App,
    caller: &Caller,
    model: &Model,
    inputs: Inputs,
    ask: Ask,
    vectors: Vectors,
) -> Result<Vec<Embedding>, Problem> {
    let texts = Arc::clone(model.texts()?);
    let description = texts.model().description();
    let size = description.output;
    let unit = description.steps.last() == Some(&Step::UnitLength);
    if let Some(dimensions) = vectors.dimensions.filter(|wanted| *wanted == 0 || *wanted > size) {
        return Err(Problem::invalid(format!("dimensions is {dimensions}, expected 1 to {size}")));
    }
    if vectors.normalize == Some(false) && unit {
        return Err(Problem::invalid(format!(
            "normalize is false, expected true: the last step of model `{}` brings vectors to unit length",
            model.name
        )));
    }
    let (count, bytes) = inputs.size();
    admit(app, caller, model, count)?;
    let vector = (0, |vector, tokens| Embedding { vector, tokens });
    let question = ask.deadline(model.wait(None)).flow(caller.flow());
    let mut embedded = match inputs {
        Inputs::Ids(ids) => of_ids(model, caller, vec![ids], vector).await?,
        Inputs::IdLists(lists) => of_ids(model, caller, lists, vector).await?,
        Inputs::Text(text) => {
            self::ask(model, bytes, async move { texts.embed(&[text], &question).await }).await?
        }
        Inputs::Texts(all) => {
            self::ask(model, bytes, async move { texts.embed(&all, &question).await }).await?
        }
    };
    for embedding in &mut embedded {
        let vector = &mut embedding.vector;
        if vector.iter().any(|number| !number.is_finite()) {
            return Err(Problem::new(ProblemKind::Failed, "a vector has numbers that are infinite or none"));
        }
        if let Some(dimensions) = vectors.dimensions {
            vector.truncate(dimensions);
        }
        let shortened = vector.len() < size;
        if vectors.normalize.unwrap_or(unit) && (!unit || shortened) {
            let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
            if length > 0.0 {
                for number in vector.iter_mut() {
                    *number /= length;
                }
            }
        }
    }
    Ok(embedded)
}

/// Embeds the tokens of texts, or tokens, each by itself.
pub(crate) async fn embed_tokens(
    app: &App,
    caller: &Caller,
    model: &Model,
    inputs: Inputs,
    ask: Ask,
) -> Result<Vec<TokenVectors>, Problem> {
    let texts = Arc::clone(model.texts()?);
    let (count, bytes) = inputs.size();
    admit(app, caller, model, count)?;
    let size = texts.model().description().encoder.hidden;
    let vectors = |numbers, tokens| TokenVectors { numbers, size, tokens };
    let question = ask.deadline(model.wait(None)).flow(caller.flow());
    let texts = match inputs {
        Inputs::Ids(ids) => return of_ids(model, caller, vec![ids], (1, vectors)).await,
        Inputs::IdLists(lists) => return of_ids(model, caller, lists, (1, vectors)).await,
        Inputs::Text(text) => {
            self::ask(model, bytes, async move { texts.embed_tokens(&[text], &question).await }).await?
        }
        Inputs::Texts(all) => {
            self::ask(model, bytes, async move { texts.embed_tokens(&all, &question).await }).await?
        }
    };
    Ok(texts)
}

/// Embeds tokens as they are given: nothing is put around them. Answers are made of the output at a place.
async fn of_ids<T>(
    model: &Model,
    caller: &Caller,
    lists: Vec<Vec<u32>>,
    (place, answer): (usize, impl Fn(Vec<f32>, TokenCount) -> T),
) -> Result<Vec<T>, Problem> {
    let wanted = model.front.outputs().tensors().get(place).map(|spec| spec.name().to_owned());
    let wanted = Vec::from_iter(wanted);
    let texts = model.texts()?;
    let description = texts.model().description();
    let tokens = texts.model().tokens();
    let limit = tokens.map_or(description.encoder.max_tokens, Tokens::limit);
    for ids in &lists {
        if ids.is_empty() || ids.len() > limit {
            return Err(Problem::invalid(format!("there are {} tokens, expected 1 to {limit}", ids.len())));
        }
    }
    let (wanted, answer) = (&*wanted, &answer);
    let asked = lists.iter().map(|ids| {
        let count = ids.len();
        let inputs = model.front.inputs().tensors().iter().map(|spec| {
            let tensor = match spec.name() {
                "input_ids" => HostTensor::from_u32(&[1, count], ids),
                "token_type_ids" => HostTensor::from_u32(&[1, count], &vec![0; count]),
                _ => HostTensor::from_u32(&[1, count], &vec![1; count]),
            };
            let tensor = tensor.map_err(|error| Problem::new(ProblemKind::Failed, error.to_string()))?;
            Ok(crate::infer::Given {
                name: spec.name().to_owned(),
                datatype: DType::U32.into(),
                shape: tensor.dims().to_vec(),
                bytes: tensor.into_bytes().into(),
            })
        });
        let inputs = inputs.collect::<Result<Vec<_>, Problem>>();
        async move {
            // The texts that they stand for were charged together.
            let wishes = crate::infer::Wishes::default();
            let outputs = crate::infer::run_charged(model, caller, inputs?, wanted, wishes).await?;
            let numbers = outputs.first().and_then(|(_, tensor)| tensor.to_f32()).unwrap_or_default();
            Ok(answer(numbers, TokenCount { given: count, left_out: 0 }))
        }
    });
    futures_util::future::try_join_all(asked).await
}
