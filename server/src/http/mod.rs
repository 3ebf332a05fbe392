//! HTTP: from a request's head to its answer.

mod body;
mod infer;
pub(crate) mod metrics;
pub(crate) mod models;
mod object;
mod openai;
pub(crate) mod pieces;
pub(crate) mod reply;
pub(crate) mod routes;
mod status;
mod tei;
mod texts;

use crate::app::App;
use crate::caller::Caller;
use crate::lifecycle::{AtWork, Phase};
use crate::load::{Format, REPORT};
use crate::net::guests::{Asked, Reading};
use crate::net::identity;
use crate::problem::{Problem, ProblemKind};
use crate::settings::LoadReports;
use crate::telemetry;
use body::Bounds;
use bytes::Bytes;
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{HeaderMap, Response, StatusCode};
use pieces::Pieces;
use reply::Reply;
use routes::{Door, Endpoint, Match};
use serde_json::json;
use skep_runtime_core::Flow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;
use tracing::{Instrument, Span};

/// The description of all of this for other programs.
pub(crate) const OPENAPI: &str = include_str!("../../openapi.json");
/// A page to look at, which asks the other endpoints.
const PAGE: &str = include_str!("page.html");

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const JSON_LENGTH: HeaderName = HeaderName::from_static(infer::JSON_LENGTH);

/// Answers a request.
pub(crate) async fn answer(app: Arc<App>, request: Asked, connection: Flow) -> Response<Pieces> {
    let found = routes::find(request.method().as_str(), request.uri().path());
    let span = match &found {
        // Probes would be most of what there is to see.
        Ok(found) if !is_probe(found.route.endpoint) => {
            telemetry::span(request.headers(), found.route.method, found.route.path)
        }
        _ => Span::none(),
    };
    let response = answer_found(app, request, found, connection).instrument(span.clone()).await;
    telemetry::ended(&span, response.status().as_u16());
    response
}

fn is_probe(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::Live | Endpoint::Ready | Endpoint::Metrics)
}

async fn answer_found(
    app: Arc<App>,
    request: Asked,
    found: Result<Match, (Door, Problem)>,
    connection: Flow,
) -> Response<Pieces> {
    let start = Instant::now();
    let (head, body) = request.into_parts();
    let id = identity::request_id(head.headers.get(REQUEST_ID));
    let (endpoint, door) = match &found {
        Ok(found) => (found.route.path, found.route.door),
        Err((door, _)) => ("none", *door),
    };
    // A client that leaves drops this function where it stands.
    let mut counted = Counted { app: Arc::clone(&app), endpoint, start, code: 499 };
    let (headers, query) = (&head.headers, head.uri.query());
    let mut guarded = Call { app: &app, connection, headers, query, body: Some(body), at_work: None };
    let format = Format::asked(headers);
    let answer = match (&format, found) {
        (Err(problem), _) => Err(problem.clone()),
        (_, Err((_, problem))) => Err(problem),
        (_, Ok(found)) => match AssertUnwindSafe(guarded.run(&found)).catch_unwind().await {
            Ok(answer) => answer,
            Err(_) => Err(Problem::new(ProblemKind::Failed, "the server failed at this request")),
        },
    };
    let problem = answer.as_ref().err().map(|problem| problem.message.clone());
    let reply = answer.unwrap_or_else(|problem| Reply::of(&problem, door));
    let code = reply.status;
    let mut response = response(&app, &head.headers, reply, &id).await;
    let always = || (app.config.load_reports == LoadReports::Always).then_some(Format::Text);
    if let Some(format) = format.ok().flatten().or_else(always)
        && let Some(report) = app.report().header(format)
    {
        response.headers_mut().insert(REPORT, report);
    }
    if code == 405
        && let Ok(methods) = HeaderValue::from_str(&routes::methods(head.uri.path()))
    {
        response.headers_mut().insert(ALLOW, methods);
    }
    counted.code = code;
    let traceparent = identity::traceparent(&head.headers);
    let (method, path) = (head.method.as_str(), head.uri.path());
    let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    if let Some(reason) = &problem {
        app.recent.note(&format!("{method} {path}"), &code.to_string(), reason);
    }
    if matches!(code, 424 | 500) {
        tracing::warn!(id, traceparent, method, path, code, micros, problem, "request failed");
    } else {
        tracing::debug!(id, traceparent, method, path, code, micros, problem, "request");
    }
    response
}

/// Counts a request when it is over, also if its client leaves first.
struct Counted {
    app: Arc<App>,
    endpoint: &'static str,
    start: Instant,
    code: u16,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.app.pages.request(self.endpoint, self.code, self.start.elapsed());
    }
}

async fn response(app: &App, asked: &HeaderMap, mut reply: Reply, id: &str) -> Response<Pieces> {
    let packing = body::accepted(asked, reply.body.len());
    let packing = match packing {
        None => None,
        Some(packing) => match body::pack(packing, reply.body.whole()).await {
            Ok(packed) => {
                reply.body = packed.into();
                Some(packing)
            }
            // It goes out as it is.
            Err(_) => None,
        },
    };
    let mut response = Response::new(reply.body);
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(packing) = packing {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(packing.name()));
    }
    if let Some(length) = reply.json_length {
        headers.insert(JSON_LENGTH, length.into());
    }
    if let Some(seconds) = reply.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    if reply.status == 401 {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    // Bodies that were not read to their end cannot be skipped for cheap.
    if matches!(reply.status, 408 | 413) || app.life.phase() >= Phase::Closing {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// One request, without its way back.
struct Call<'a> {
    app: &'a Arc<App>,
    connection: Flow,
    headers: &'a HeaderMap,
    query: Option<&'a str>,
    body: Option<Reading<Incoming>>,
    /// From when all of it is there: whoever sends a body slowly keeps nobody else from being served.
    at_work: Option<AtWork>,
}

impl Call<'_> {
    async fn run(&mut self, found: &Match) -> Result<Reply, Problem> {
        let app = self.app;
        let endpoint = found.route.endpoint;
        let (caller, _slot) = if is_probe(endpoint) && app.config.public_health {
            (Caller::Connection(self.connection), None)
        } else {
            let caller = app.keys.caller(self.headers, self.connection)?;
            let slot = caller.begin()?;
            (caller, Some(slot))
        };
        tracing::trace!(key = caller.name(), "let in");
        // These answer however much there is to do.
        match endpoint {
            Endpoint::Live => return alive(200),
            Endpoint::Ready => return ready(app, found),
            Endpoint::Metrics => {
                let page = page(Arc::clone(app)).await?;
                return Ok(Reply::new("text/plain; version=0.0.4; charset=utf-8", page));
            }
            Endpoint::Drain => return drain(app).await,
            Endpoint::Unsupported(why) => return Err(Problem::unsupported(why)),
            _ => {}
        }
        if found.route.method == "GET" {
            self.at_work = Some(app.begin()?);
        }
        self.work(found, &caller).await
    }

    async fn work(&mut self, found: &Match, caller: &Caller) -> Result<Reply, Problem> {
        let app = self.app;
        let (name, version) = found.model();
        match found.route.endpoint {
            Endpoint::ServerMetadata => models::server(),
            Endpoint::ModelNames => {
                let all = app.catalogue.served();
                Reply::json(&json!({ "models": all.iter().map(|model| &model.name).collect::<Vec<_>>() }))
            }
            Endpoint::ModelMetadata => models::metadata(&*app.model(name, version)?),
            Endpoint::ModelConfig => models::config(&*app.model(name, version)?),
            Endpoint::ModelReady => {
                let model = app.model(name, version)?;
                match app.obstacle() {
                    None => Reply::json(&json!({ "name": model.name, "ready": true })),
                    Some(why) => Err(Problem::new(ProblemKind::Unavailable, why)),
                }
            }
            Endpoint::Statistics => {
                let all = match name {
                    "" => app.catalogue.served().iter().map(|model| models::statistics(model)).collect(),
                    name => vec![models::statistics(&*app.model(name, version)?)],
                };
                Reply::json(&json!({ "model_stats": all }))
            }
            Endpoint::Infer => {
                let model = app.model(name, version)?;
                let length = match self.headers.get(JSON_LENGTH) {
                    None => None,
                    Some(value) => Some(
                        value
                            .to_str()
                            .map_err(|_| Problem::invalid("Inference-Header-Content-Length is no number"))?,
                    ),
                };
                infer::infer(&model, caller, length, self.body().await?).await
            }
            Endpoint::RepositoryIndex => models::index(app, &self.body().await?).await,
            Endpoint::Load => models::load(app, name, &self.body().await?).await,
            Endpoint::Unload => models::unload(app, name, &self.body().await?).await,
            Endpoint::Embeddings => openai::embeddings(app, caller, self.body().await?).await,
            Endpoint::OpenAiModels => openai::models(app),
            Endpoint::OpenAiModel => openai::one_model(app, name),
            Endpoint::Embed => tei::embed(app, caller, self.body().await?).await,
            Endpoint::EmbedAll => tei::embed_all(app, caller, self.body().await?).await,
            Endpoint::Rerank => tei::rerank(app, caller, self.body().await?).await,
            Endpoint::Predict => tei::predict(app, caller, self.body().await?).await,
            Endpoint::Similarity => tei::similarity(app, caller, self.body().await?).await,
            Endpoint::Tokenize => tei::tokenize(app, self.body().await?).await,
            Endpoint::Info => tei::info(app, self.query),
            Endpoint::Status => status::status(Arc::clone(app)).await,
            Endpoint::Page => Ok(Reply::new("text/html; charset=utf-8", PAGE)),
            Endpoint::OpenApi => Ok(Reply::new(reply::JSON, OPENAPI)),
            Endpoint::Live
            | Endpoint::Ready
            | Endpoint::Metrics
            | Endpoint::Drain
            | Endpoint::Unsupported(_) => Err(Problem::not_found("Not Found")),
        }
    }

    async fn body(&mut self) -> Result<Bytes, Problem> {
        let Some(body) = self.body.take() else { return Ok(Bytes::new()) };
        let config = &self.app.config;
        let bounds = Bounds { bytes: config.max_body.0, pause: config.body_limit.0 };
        let body = body::read(self.headers, body, bounds).await?;
        self.at_work = Some(self.app.begin()?);
        Ok(body)
    }
}

/// The page of metrics, on another thread: it grows with the models.
async fn page(app: Arc<App>) -> Result<String, Problem> {
    let render = move || {
        let models = app.catalogue.served();
        if app.config.triton_metrics {
            app.pages.triton(&models);
        }
        app.pages.render(app.life.at_work(), app.obstacle().is_none(), models.len())
    };
    let page = tokio::task::spawn_blocking(render);
    page.await.map_err(|_| Problem::new(ProblemKind::Failed, "the metrics could not be written"))
}

/// Some clients look at the status, some at either key.
fn alive(status: u16) -> Result<Reply, Problem> {
    Ok(Reply::json(&json!({ "live": true, "ready": status == 200 }))?.status(status))
}

fn ready(app: &App, found: &Match) -> Result<Reply, Problem> {
    match app.obstacle() {
        None => alive(200),
        Some(why) if found.route.door == Door::Tei => Err(Problem::new(ProblemKind::Unavailable, why)),
        Some(why) => Ok(Reply::json(&json!({ "live": true, "ready": false, "error": why }))?.status(503)),
    }
}

/// Tells balancers to send no more, and answers when nothing is at work.
async fn drain(app: &App) -> Result<Reply, Problem> {
    if !app.config.management {
        let message = "draining over the network is not allowed: start the server with `--management`";
        return Err(Problem::new(ProblemKind::Forbidden, message));
    }
    app.life.advance(Phase::Draining);
    let quiet = async {
        tokio::time::sleep(app.config.drain_wait.0).await;
        app.life.quiet(0).await;
    };
    let limit = app.config.drain_wait.0 + app.config.drain_limit.0;
    let drained = tokio::time::timeout(limit, quiet).await.is_ok();
    Reply::json(&json!({ "drained": drained, "at_work": app.life.at_work() }))
}
