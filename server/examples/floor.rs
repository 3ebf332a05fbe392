//! The least that a server can do: it reads a request whole and sends its tensor back, with the libraries that `skep serve`
//! stands on and nothing of `skep serve`. `cargo xtask bench door` runs it beside the others, so that it can be told what of
//! a figure is the libraries' and the system's.

use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mimalloc::MiMalloc;
use skep_server::grpc::model_infer_response::InferOutputTensor;
use skep_server::grpc::{ModelInferRequest, ModelInferResponse};
use std::error::Error;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tonic::server::{Grpc, UnaryService};
use tonic_prost::ProstCodec;

/// As the server's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The bounds of a message, of windows and of frames, as the server has them.
const LARGEST: usize = 64 << 20;
const WINDOW: u32 = 16 << 20;
const FRAME: u32 = 256 << 10;

#[derive(Parser)]
struct Floor {
    /// Address of the HTTP door
    #[arg(long)]
    http: SocketAddr,
    /// Address of the gRPC door
    #[arg(long)]
    grpc: SocketAddr,
}

type Body = Either<Full<Bytes>, tonic::body::Body>;
type Failed = Box<dyn Error + Send + Sync>;

/// Answers a message with its own tensors.
struct Echo;

impl UnaryService<ModelInferRequest> for Echo {
    type Response = ModelInferResponse;
    type Future = std::future::Ready<Result<tonic::Response<ModelInferResponse>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<ModelInferRequest>) -> Self::Future {
        let request = request.into_inner();
        let output = |input: skep_server::grpc::model_infer_request::InferInputTensor| InferOutputTensor {
            name: input.name,
            datatype: input.datatype,
            shape: input.shape,
            ..InferOutputTensor::default()
        };
        std::future::ready(Ok(tonic::Response::new(ModelInferResponse {
            model_name: request.model_name,
            outputs: request.inputs.into_iter().map(output).collect(),
            raw_output_contents: request.raw_input_contents,
            ..ModelInferResponse::default()
        })))
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Failed> {
    if request.uri().path().starts_with("/inference.") {
        let codec = ProstCodec::<ModelInferResponse, ModelInferRequest>::default();
        let mut grpc = Grpc::new(codec).apply_max_message_size_config(Some(LARGEST), Some(LARGEST));
        return Ok(grpc.unary(Echo, request).await.map(Either::Right));
    }
    let whole = request.into_body().collect().await?.to_bytes();
    Ok(Response::new(Either::Left(Full::new(whole))))
}

async fn serve(address: SocketAddr, http2: bool) -> Result<(), Failed> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let stream = TokioIo::new(stream);
        tokio::spawn(async move {
            // Whoever hangs up has heard all that there is to hear.
            if http2 {
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(WINDOW)
                    .initial_connection_window_size(WINDOW)
                    .max_frame_size(FRAME)
                    .serve_connection(stream, service_fn(answer))
                    .await
                    .ok();
            } else {
                let builder = hyper::server::conn::http1::Builder::new();
                builder.serve_connection(stream, service_fn(answer)).await.ok();
            }
        });
    }
}

fn main() -> Result<(), Failed> {
    let Floor { http, grpc } = Floor::parse();
    let executor = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    executor.block_on(async { tokio::try_join!(serve(http, false), serve(grpc, true)) })?;
    Ok(())
}
