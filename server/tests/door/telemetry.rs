//! Spans, as a collector gets them.

use crate::kit::{NOP, folder, request};
use crate::program::skep;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderName;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};

/// Takes what is exported to it.
async fn collector(listener: tokio::net::TcpListener, got: Sender<Bytes>) {
    let (stream, _) = listener.accept().await.unwrap();
    let service = service_fn(move |request: Request<Incoming>| {
        let got = got.clone();
        async move {
            assert_eq!(request.uri().path(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
            got.send(request.into_body().collect().await.unwrap().to_bytes()).ok();
            // An empty message, and that all went well.
            let status =
                HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), "0".parse().unwrap())]);
            let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async { Some(Ok(status)) });
            let response = Response::builder().header("content-type", "application/grpc").body(body);
            Ok::<_, Infallible>(response.unwrap())
        }
    });
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await
        .ok();
}

#[test]
fn a_request_is_a_span_of_its_clients_trace() {
    let executor = tokio::runtime::Runtime::new().unwrap();
    let listener = executor.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, got) = channel();
    executor.spawn(collector(listener, sender));

    let models = folder(&[NOP]);
    let mut command = skep();
    command.arg("serve").arg(models.path()).args(["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]);
    command.args(["--drain-wait", "0s", "--log-format", "json", "--otlp", &format!("http://{address}")]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let ready = lines.find(|line| line.as_ref().unwrap().contains("\"ready\"")).unwrap().unwrap();
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let headers = [("traceparent", parent.as_str())];
    for path in ["/v2/models/nop", "/v2/health/live"] {
        let mut stream = TcpStream::connect(ready["http"].as_str().unwrap()).unwrap();
        stream.write_all(&request("GET", path, &headers, b"")).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
    assert!(Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap().success());
    assert!(child.wait().unwrap().success());

    let exported: Vec<u8> = got.try_iter().flatten().collect();
    let has = |bytes: &[u8]| exported.windows(bytes.len()).any(|window| window == bytes);
    let id: Vec<u8> = (0..16).map(|i| u8::from_str_radix(&trace[2 * i..2 * i + 2], 16).unwrap()).collect();
    assert!(has(&id), "it is of the client's trace");
    assert!(has(b"GET /v2/models/{m}") && has(b"service.name") && has(b"skep"));
    assert!(!has(b"/v2/health"), "probes are none");
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(rest.last().unwrap().contains("every request was answered"), "{rest:?}");
}
