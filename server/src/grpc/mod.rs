//! `KServe` V2 over gRPC, with health and reflection.

mod convert;
#[allow(
    missing_docs,
    clippy::pedantic,
    unreachable_pub,
    rust_2018_idioms,
    reason = "generated: tests/proto.rs; the documentation is proto/inference.proto"
)]
mod generated;
mod health;
mod service;
mod status;

pub use generated::*;

use crate::app::App;
use crate::caller::Caller;
use crate::load::{Format, REPORT_BIN};
use crate::net::guests::Asked;
use crate::net::identity;
use crate::settings::LoadReports;
use crate::telemetry;
use grpc_inference_service_server::GrpcInferenceServiceServer;
use health::HealthService;
use http_body_util::BodyExt;
use hyper::body::Frame;
use hyper::{HeaderMap, Response};
use service::Inference;
use skep_runtime_core::Flow;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use tonic::body::Body;
use tonic::codec::CompressionEncoding::{Deflate, Gzip};
use tonic::codegen::Service;
use tonic::{Code, Status};
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::{Builder, Error};
use tracing::{Instrument, Span};

/// What reflection tells of the protocol.
const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");

type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Answer = Arc<dyn Fn(Asked) -> Answering + Send + Sync>;

/// All services of a server, by the first part of their paths.
#[derive(Clone)]
pub(crate) struct Services(Arc<[(&'static str, Answer)]>);

/// The part of a path that is open to everybody where health is.
const HEALTH: &str = "/grpc.health.v1.Health/";

impl Services {
    pub(crate) fn new(app: &Arc<App>) -> Result<Self, Error> {
        let inference = GrpcInferenceServiceServer::new(Inference { app: Arc::clone(app) })
            .max_decoding_message_size(app.config.max_body.0)
            .max_encoding_message_size(usize::MAX)
            .accept_compressed(Gzip)
            .accept_compressed(Deflate)
            .send_compressed(Gzip)
            .send_compressed(Deflate);
        let health = HealthServer::new(HealthService { app: Arc::clone(app) });
        let reflection = || {
            let known = Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
            known.register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        Ok(Self(Arc::new([
            ("/inference.GRPCInferenceService/", erased(inference)),
            (HEALTH, erased(health)),
            ("/grpc.reflection.v1.ServerReflection/", erased(reflection().build_v1()?)),
            ("/grpc.reflection.v1alpha.ServerReflection/", erased(reflection().build_v1alpha()?)),
        ])))
    }

    /// Answers a call.
    pub(crate) async fn answer(&self, app: &Arc<App>, request: Asked, connection: Flow) -> Response<Body> {
        let format = match Format::asked(request.headers()) {
            Err(problem) => return status::of(&problem).into_http(),
            Ok(format) => format,
        };
        let path = request.uri().path().to_owned();
        let response = self.answer_alone(app, request, connection).await;
        // An answer that is an error from the start has nothing but its head; the others have their status behind them.
        if response.headers().contains_key(Status::GRPC_STATUS)
            && let Some(status) = Status::from_header_map(response.headers())
            && status.code() != Code::Ok
        {
            app.recent.note(&path, &format!("{:?}", status.code()), status.message());
        }
        match format {
            None if app.config.load_reports == LoadReports::OnRequest => response,
            // The one form that trailers have.
            _ => reported(app, response),
        }
    }

    async fn answer_alone(&self, app: &App, mut request: Asked, connection: Flow) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let id = identity::request_id(request.headers().get("x-request-id"));
        tracing::debug!(id, traceparent = identity::traceparent(request.headers()), path, "call");
        let health = path.starts_with(HEALTH);
        let public = health && app.config.public_health;
        let admitted = if public {
            Ok((Caller::Connection(connection), None))
        } else {
            let caller = app.keys.caller(request.headers(), connection);
            caller.and_then(|caller| caller.begin().map(|slot| (caller, Some(slot))))
        };
        // A stream gives its slot back when it has begun: its messages take their own.
        let (caller, _slot) = match admitted {
            Ok(admitted) => admitted,
            Err(problem) => return status::of(&problem).into_http(),
        };
        tracing::trace!(key = caller.name(), "let in");
        let found = self.0.iter().find(|(first, _)| path.starts_with(first));
        let Some((_, answer)) = found else {
            return Status::unimplemented(format!("there is no service at `{path}`")).into_http();
        };
        let answer = Arc::clone(answer);
        let guest = request.body().guest();
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(guest);
        let span = if health { Span::none() } else { telemetry::span(request.headers(), "POST", &path) };
        let response = answer(request).instrument(span.clone()).await;
        telemetry::ended(&span, response.status().as_u16());
        response
    }
}

/// Puts a load report behind an answer.
fn reported(app: &Arc<App>, mut response: Response<Body>) -> Response<Body> {
    let insert = |app: &App, trailers: &mut HeaderMap| {
        if let Some(report) = app.report().trailer() {
            trailers.insert(REPORT_BIN, report);
        }
    };
    // An answer that is an error from the start has nothing but its head.
    if response.headers().contains_key(Status::GRPC_STATUS) {
        insert(app, response.headers_mut());
        return response;
    }
    let app = Arc::clone(app);
    response.map(|body| {
        Body::new(body.map_frame(move |frame| match frame.into_trailers() {
            Ok(mut trailers) => {
                insert(&app, &mut trailers);
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        }))
    })
}

fn erased<S>(service: S) -> Answer
where
    S: Service<Asked, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    Arc::new(move |request: Asked| -> Answering {
        let mut service = service.clone();
        Box::pin(async move {
            match service.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        })
    })
}
