//! Connections: how they are accepted, what they may take, and who is behind them.

mod first_bytes;
pub(crate) mod flows;
pub(crate) mod identity;
pub(crate) mod keys;
pub(crate) mod tls;

use crate::app::App;
use crate::grpc::Services;
use crate::lifecycle::Phase;
use bytes::Bytes;
use first_bytes::FirstBytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use skep_runtime_core::Flow;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How often an HTTP/2 connection is asked if it is still there.
const PING: Duration = Duration::from_secs(20);
/// The pause after the system has no more descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until the server closes, and then waits for their requests.
pub(crate) async fn serve(app: Arc<App>, services: Services, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(app.config.max_connections));
    let builder = Arc::new(builder(&app));
    let graceful = GracefulShutdown::new();
    let closing = app.life.reached(Phase::Closing);
    tokio::pin!(closing);
    loop {
        // One connection more than may be waits in the system's queue, where it costs nothing.
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = &mut closing => break,
        };
        let Ok(place) = place else { break };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "connection cannot be accepted");
                    if !is_of_the_connection(&error) {
                        tokio::time::sleep(PAUSE).await;
                    }
                    continue;
                }
            },
            () = &mut closing => break,
        };
        // Small answers must not wait for the other side's acknowledgement.
        stream.set_nodelay(true).ok();
        let (watcher, numbered) = (graceful.watcher(), app.flows.next());
        let (app, builder, services) = (Arc::clone(&app), Arc::clone(&builder), services.clone());
        tokio::spawn(async move {
            let serve = Serve { app: &app, services: &services, builder: &builder, flow: numbered.flow };
            match &app.tls {
                None => serve.connection(stream, watcher).await,
                Some(tls) => match handshake(&app, tls, stream).await {
                    Ok(stream) => serve.connection(stream, watcher).await,
                    Err(error) => tracing::debug!(%error, "no TLS came about"),
                },
            }
            drop((numbered, place));
        });
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = app.life.reached(Phase::Ended) => {}
    }
}

/// Errors after which the next connection may be accepted at once.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

type Builder = auto::Builder<TokioExecutor>;
type Body = Either<Full<Bytes>, tonic::body::Body>;

fn is_grpc(request: &Request<Incoming>) -> bool {
    let value = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    value.starts_with(b"application/grpc")
}

fn builder(app: &App) -> Builder {
    let config = &app.config;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.head_limit.0)
        .max_buf_size(config.max_head.0.max(64 << 10));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.max_streams)
        .max_header_list_size(u32::try_from(config.max_head.0).unwrap_or(u32::MAX))
        .adaptive_window(true)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    builder
}

/// Comes to terms with a client, within the time that it has for a request's head.
async fn handshake(app: &App, tls: &TlsAcceptor, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    tokio::select! {
        done = tokio::time::timeout(app.config.head_limit.0, tls.accept(stream)) => done?,
        () = app.life.reached(Phase::Ended) => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// What a connection needs.
struct Serve<'a> {
    app: &'a Arc<App>,
    services: &'a Services,
    builder: &'a Builder,
    flow: Flow,
}

impl Serve<'_> {
    async fn connection<S>(&self, stream: S, watcher: hyper_util::server::graceful::Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { app, services, builder, flow } = *self;
        let service = service_fn(|request: Request<Incoming>| {
            let (app, services) = (Arc::clone(app), services.clone());
            // Both doors speak both protocols: clients and balancers may be given one address.
            async move {
                Ok::<Response<Body>, Infallible>(if is_grpc(&request) {
                    services.answer(&app, request, flow).await.map(Either::Right)
                } else {
                    crate::http::answer(app, request, flow).await.map(Either::Left)
                })
            }
        });
        let stream = FirstBytes::new(stream, app.config.head_limit.0);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            ended = watcher.watch(connection.into_owned()) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
            }
            () = app.life.reached(Phase::Ended) => {}
        }
    }
}
