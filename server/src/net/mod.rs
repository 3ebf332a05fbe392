//! Connections: how they are accepted, what they may take, and who is behind them.

mod first_bytes;
pub(crate) mod flows;
pub(crate) mod guests;
pub(crate) mod identity;
pub(crate) mod keys;
pub(crate) mod tls;

use crate::app::App;
use crate::grpc::Services;
use crate::http::pieces::Pieces;
use crate::lifecycle::Phase;
use first_bytes::FirstBytes;
use guests::{Guest, Guests, Reading};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use skep_runtime_core::Flow;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How often an HTTP/2 connection is asked if it is still there.
const PING: Duration = Duration::from_secs(20);
/// As much as an HTTP/2 client may send before it hears that it was read, on a stream and on the connection. With less to
/// begin with, whoever sends a large tensor stands still until the window has grown.
const WINDOW: u32 = 16 << 20;
/// The most bytes of an HTTP/2 frame. Each is taken in whole, and costs a call of the system; clients that do not look send no
/// more than 16 KiB.
const FRAME: u32 = 256 << 10;
/// The pause after the system has no more descriptors, and until it is looked again who may leave.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until the server closes, and then waits for their requests.
pub(crate) async fn serve(app: Arc<App>, services: Services, listener: TcpListener) {
    let (places, guests) = (Arc::new(Semaphore::new(app.config.max_connections)), Guests::new());
    let builder = Arc::new(builder(&app));
    let graceful = GracefulShutdown::new();
    let closing = app.life.reached(Phase::Closing);
    tokio::pin!(closing);
    loop {
        // One connection more than may be waits in the system's queue, where it costs nothing.
        let place = tokio::select! {
            place = place(&places, &guests) => place,
            () = &mut closing => break,
        };
        let Some(place) = place else { break };
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
        let seated = guests.seat(numbered.flow);
        let (app, builder, services) = (Arc::clone(&app), Arc::clone(&builder), services.clone());
        tokio::spawn(async move {
            let (flow, guest) = (numbered.flow, &seated.guest);
            let serve = Serve { app: &app, services: &services, builder: &builder, flow, guest };
            tokio::select! {
                () = serve.stream(stream, watcher) => {}
                () = guest.told_to_leave() => tracing::debug!("idle connection made room for another"),
            }
            // The number is another's once it is free.
            drop(seated);
            drop((numbered, place));
        });
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = app.life.reached(Phase::Ended) => {}
    }
}

/// A place for one more connection; those that are idle make room. `None` once there are no places any more.
async fn place(places: &Arc<Semaphore>, guests: &Guests) -> Option<OwnedSemaphorePermit> {
    loop {
        let free = Arc::clone(places).acquire_owned();
        match tokio::time::timeout(PAUSE, free).await {
            Ok(place) => return place.ok(),
            Err(_) => guests.make_room(),
        };
    }
}

/// Errors after which the next connection may be accepted at once.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

type Builder = auto::Builder<TokioExecutor>;
type Body = Either<Pieces, tonic::body::Body>;

fn is_grpc<B>(request: &Request<B>) -> bool {
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
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(FRAME)
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
    guest: &'a Arc<Guest>,
}

impl Serve<'_> {
    async fn stream(&self, stream: TcpStream, watcher: Watcher) {
        match &self.app.tls {
            None => self.connection(stream, watcher).await,
            Some(tls) => match handshake(self.app, &tls.acceptor(), stream).await {
                Ok(stream) => self.connection(stream, watcher).await,
                Err(error) => tracing::debug!(%error, "no TLS came about"),
            },
        }
    }

    async fn connection<S>(&self, stream: S, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { app, services, builder, flow, guest } = *self;
        let service = service_fn(|request: Request<Incoming>| {
            let (app, services, at_work) = (Arc::clone(app), services.clone(), guest.begin());
            let request = request.map(|body| Reading::new(body, Arc::clone(guest)));
            // Both doors speak both protocols: clients and balancers may be given one address.
            async move {
                let _at_work = at_work;
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
