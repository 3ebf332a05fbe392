//! What one client may take, and what it cannot do to the others.

use crate::kit::{Live, NOP, answer, request};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use std::io::{Read, Write};

const INFER: &str = "/v2/models/nop/infer";

fn slow(more: &str) -> String {
    format!(
        "kind = \"nop_delay\"\n{more}\n[settings]\nsize = 1\ndelay = 0.5\n[pool]\nmax-rows = 1\ncapacity = 1\n"
    )
}

fn row() -> serde_json::Value {
    json!({ "inputs": [{ "name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1] }] })
}

#[test]
fn bodies_have_a_bound_before_and_after_they_are_unpacked() {
    let live = Live::with(&[NOP], |config| config.max_body = "100KiB".parse().unwrap());
    let announced = live.send("POST", INFER, &[], &vec![b' '; 200 << 10]);
    assert_eq!(announced.error(), (413, "body is larger than the 102400 bytes that are taken".to_owned()));

    let mut stream = live.connect();
    stream
        .write_all(b"POST /v2/models/nop/infer HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        .unwrap();
    let chunk = [format!("{:x}\r\n", 50 << 10).into_bytes(), vec![b' '; 50 << 10], b"\r\n".to_vec()].concat();
    for _ in 0..3 {
        // It may be refused before the last one is out.
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    assert_eq!(answer(&mut stream).status, 413);

    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(&vec![b' '; 50 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 60 << 10);
    let bombed = live.send("POST", INFER, &[("content-encoding", "gzip")], &bomb);
    assert_eq!(bombed.error().0, 413);
    assert_eq!(live.get("/v2/health/live").status, 200);
}

#[test]
fn whoever_sends_no_head_is_given_up() {
    let live = Live::with(&[NOP], |config| config.head_limit = "50ms".parse().unwrap());
    for begun in ["", "P", "GET /v2 HTTP/1.1\r\nhost: a very patient client\r\n"] {
        let mut stream = live.connect();
        stream.write_all(begun.as_bytes()).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).ok();
        assert!(
            rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"),
            "{begun}: {}",
            String::from_utf8_lossy(&rest)
        );
    }
}

#[test]
fn whoever_sends_a_body_too_slowly_is_told() {
    let live = Live::with(&[NOP], |config| config.body_limit = "50ms".parse().unwrap());
    let mut stream = live.connect();
    stream
        .write_all(b"POST /v2/models/nop/infer HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{")
        .unwrap();
    let told = answer(&mut stream);
    assert_eq!((told.status, told.headers["connection"].as_str()), (408, "close"));
}

#[test]
fn heads_have_a_bound() {
    let live = Live::with(&[NOP], |config| config.max_head = "8KiB".parse().unwrap());
    let mut stream = live.connect();
    let head = request("GET", "/v2", &[("x", &"a".repeat(200 << 10))], b"");
    stream.write_all(&head).ok();
    let mut told = Vec::new();
    stream.read_to_end(&mut told).ok();
    assert!(told.is_empty() || told.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&told));
    assert_eq!(live.get("/v2").status, 200);
}

#[test]
fn a_full_queue_refuses_and_says_when_to_come_back() {
    let live = Live::new(&[("slow", &slow(""))]);
    // One runs, one is gathered ahead, one waits.
    let body = row().to_string();
    let busy: Vec<_> = (0..6)
        .map(|_| {
            let mut stream = live.connect();
            stream.write_all(&request("POST", "/v2/models/slow/infer", &[], body.as_bytes())).unwrap();
            stream
        })
        .collect();
    let answers: Vec<_> = busy.into_iter().map(|mut stream| answer(&mut stream)).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!(!refused.is_empty() && refused.len() < answers.len(), "{answers:?}");
    for answer in refused {
        assert!(answer.error().1.starts_with("Exceeds maximum queue size"), "{answer:?}");
        assert!(answer.headers["retry-after"].parse::<u64>().unwrap() >= 1);
    }
    assert!(answers.iter().all(|answer| answer.status == 200 || answer.status == 503));
}

#[test]
fn a_model_may_let_requests_wait_for_room() {
    let live = Live::new(&[("slow", &slow("when-full = \"wait\""))]);
    let body = row().to_string();
    let busy: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = live.connect();
            stream.write_all(&request("POST", "/v2/models/slow/infer", &[], body.as_bytes())).unwrap();
            stream
        })
        .collect();
    for mut stream in busy {
        assert_eq!(answer(&mut stream).status, 200);
    }
}

#[test]
fn a_request_whose_time_is_up_is_told_so() {
    let live = Live::new(&[("slow", &slow("when-full = \"wait\""))]);
    let mut first = live.connect();
    first.write_all(&request("POST", "/v2/models/slow/infer", &[], row().to_string().as_bytes())).unwrap();
    live.wait_for_metric("skep_requests_at_work 1");
    let mut late = row();
    late["parameters"] = json!({ "timeout": 1000 });
    let told = live.post("/v2/models/slow/infer", &late);
    let (status, text) = told.error();
    assert!(status == 503 && text.starts_with("Request timeout expired"), "{told:?}");
    assert_eq!(answer(&mut first).status, 200);
}

#[test]
fn a_request_that_its_client_has_left_is_cancelled() {
    let live = Live::new(&[("slow", &slow("when-full = \"wait\""))]);
    let body = row().to_string();
    let streams: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = live.connect();
            stream.write_all(&request("POST", "/v2/models/slow/infer", &[], body.as_bytes())).unwrap();
            stream
        })
        .collect();
    live.wait_for_metric("skep_requests_at_work 4");
    drop(streams);
    live.wait_for_metric("skep_requests_at_work 0");
    live.wait_for_metric("skep_http_requests_total{endpoint=\"/v2/models/{m}/infer\",code=\"499\"} 4");
}

#[test]
fn keys_are_asked_for_where_there_are_some() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "ann 0123456789abcdef\n").unwrap();
    let live = Live::with(&[NOP], |config| config.keys = Some(file.path().to_owned()));
    let refused = live.get("/v2");
    assert_eq!((refused.status, refused.headers["www-authenticate"].as_str()), (401, "Bearer"));
    assert_eq!(live.send("GET", "/v2", &[("authorization", "Bearer 0123456789abcdeX")], b"").status, 401);
    assert_eq!(live.send("GET", "/v2", &[("authorization", "Bearer 0123456789abcdef")], b"").status, 200);
    assert_eq!(live.get("/v2/health/live").status, 200);
    assert_eq!(live.get("/metrics").status, 200);
}

#[test]
fn metrics_are_for_prometheus() {
    let live = Live::new(&[NOP]);
    live.post(
        INFER,
        &json!({ "inputs": [{ "name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2] }] }),
    )
    .ok();
    let page = live.get("/metrics");
    assert!(page.headers["content-type"].starts_with("text/plain; version=0.0.4"));
    let text = page.text();
    for line in [
        "skep_ready 1",
        "skep_served_models 1",
        "skep_rows_total{pool=\"nop_forward\"} 1",
        "skep_batch_rows_bucket{pool=\"nop_forward\",le=\"1\"} 1",
        "skep_http_requests_total{endpoint=\"/v2/models/{m}/infer\",code=\"200\"} 1",
    ] {
        assert!(text.lines().any(|own| own == line), "{line} in {text}");
    }
}

#[test]
fn many_strange_requests_leave_the_server_as_it_was() {
    let live = Live::new(&[NOP]);
    let strange: [&[u8]; 8] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 something encrypted",
        b"GET / HTTP/9.9\r\n\r\n and then some more of it",
        b"POST /v2/models/nop/infer HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\n",
        b"POST /v2/models/nop/infer HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"GET /v2/models/%00%00/ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n",
        b"POST /v2/models/nop/infer HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    ];
    for bytes in strange {
        let mut stream = live.connect();
        stream.write_all(bytes).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        stream.read_to_end(&mut Vec::new()).ok();
        assert_eq!(live.get("/v2/health/live").status, 200);
    }
}
