//! The embedding endpoint of `OpenAI`, and its list of models.

use crate::app::App;
use crate::caller::Caller;
use crate::http::reply::Reply;
use crate::http::texts::{Inputs, Vectors, embed, model_of, parsed};
use crate::problem::Problem;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use skep_models::{Ask, Kind, TooLong};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    #[serde(default)]
    model: Option<String>,
    input: Inputs,
    #[serde(default)]
    encoding_format: Option<String>,
    #[serde(default)]
    dimensions: Option<usize>,
    /// Whoever asks on somebody's behalf may say so.
    #[serde(default, rename = "user")]
    _user: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Numbers {
    Floats(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct Item {
    object: &'static str,
    index: usize,
    embedding: Numbers,
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

#[derive(Serialize)]
struct Answer<'a> {
    object: &'static str,
    data: Vec<Item>,
    model: &'a str,
    usage: Usage,
}

pub(crate) async fn embeddings(app: &App, caller: &Caller, body: Bytes) -> Result<Reply, Problem> {
    let request: Request = parsed(&body)?;
    let base64 = match request.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            return Err(Problem::invalid(format!(
                "encoding_format is `{other}`, expected `float` or `base64`"
            )));
        }
    };
    let model = model_of(app, request.model.as_deref(), Kind::Embedding)?;
    // A text that is too long is the caller's to cut.
    let ask = Ask::new().too_long(TooLong::Refuse);
    let vectors = Vectors { dimensions: request.dimensions, normalize: None };
    let embedded = embed(app, caller, &model, request.input, ask, vectors).await?;
    let tokens = embedded.iter().map(|embedding| embedding.tokens.given).sum();
    let item = |(index, embedding): (usize, skep_models::Embedding)| {
        let embedding = if base64 {
            let bytes: Vec<u8> = embedding.vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            Numbers::Base64(STANDARD.encode(bytes))
        } else {
            Numbers::Floats(embedding.vector)
        };
        Item { object: "embedding", index, embedding }
    };
    let data = embedded.into_iter().enumerate().map(item).collect();
    let usage = Usage { prompt_tokens: tokens, total_tokens: tokens };
    Reply::json(&Answer { object: "list", data, model: &model.name, usage })
}

fn model(name: &str) -> Value {
    json!({ "id": name, "object": "model", "created": 0, "owned_by": "skep" })
}

pub(crate) fn models(app: &App) -> Result<Reply, Problem> {
    let data: Vec<Value> = app.catalogue.served().iter().map(|served| model(&served.name)).collect();
    Reply::json(&json!({ "object": "list", "data": data }))
}

pub(crate) fn one_model(app: &App, name: &str) -> Result<Reply, Problem> {
    Reply::json(&model(&app.model(name, None)?.name))
}
