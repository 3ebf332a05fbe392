//! Requests with faults of every kind, the same in each run: whatever is sent is answered or not, and never a failure of the
//! server's.

use crate::target::{Dice, INFER, Target, request};
use std::sync::Mutex;

const IMPATIENT: [&str; 4] = ["--head-limit", "200ms", "--body-limit", "200ms"];

/// What readers of numbers and lengths stumble over.
const STUMBLES: [&str; 24] = [
    "-1",
    "0",
    "1e999",
    "18446744073709551616",
    "1152921504606846976",
    "9223372036854775807",
    "NaN",
    "null",
    "true",
    "{}",
    "[]",
    "[[[[[[[[",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "\u{feff}",
    "%00",
    "%ff",
    "..%2f",
    "\r\n\r\n",
    "chunked",
    ",",
    "\"",
    "}",
    "BYTES",
];

fn binary(dims: &str, size: &str) -> (String, Vec<u8>) {
    let json = format!(
        r#"{{"inputs": [{{"name": "x", "shape": {dims}, "datatype": "FP32", "parameters": {{"binary_data_size": {size}}}}}],
        "outputs": [{{"name": "y", "parameters": {{"binary_data": true}}}}]}}"#
    );
    let length = json.len().to_string();
    let mut body = json.into_bytes();
    body.extend_from_slice(&[0; 16]);
    (length, body)
}

/// Requests that are as they should be, one for each door and form.
fn right() -> Vec<Vec<u8>> {
    let json = br#"{"id": "a", "parameters": {"priority": 1, "timeout": 1000000}, "inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2.5], [3, -4e0]]}], "outputs": [{"name": "y", "parameters": {"classification": 1}}]}"#;
    let (length, body) = binary("[2, 2]", "16");
    let post = |path: &str, body: &str| {
        request("POST", path, &[("content-type", "application/json")], body.as_bytes())
    };
    vec![
        request("POST", INFER, &[("content-type", "application/json")], json),
        request("POST", INFER, &[("Inference-Header-Content-Length", &length)], &body),
        request("POST", INFER, &[("Inference-Header-Content-Length", "0")], &[0; 8]),
        post("/embed", r#"{"inputs": ["cat", "sat"], "truncate": true, "normalize": true, "dimensions": 3}"#),
        post("/v1/embeddings", r#"{"input": [[5, 6], [7]], "encoding_format": "base64", "dimensions": 2}"#),
        post("/similarity", r#"{"inputs": {"source_sentence": "cat", "sentences": ["sat", "mat"]}}"#),
        post("/tokenize", r#"{"inputs": "a cat", "add_special_tokens": true}"#),
        post("/rerank", r#"{"query": "cat", "texts": ["a", "b"], "return_text": true}"#),
        post("/v2/repository/index", r#"{"ready": true}"#),
        post("/v2/repository/models/nop/load", r#"{"parameters": {"config": "{}"}}"#),
        request("GET", "/v2/models/nop/versions/1/config", &[("endpoint-load-metrics-format", "text")], b""),
        request("GET", "/v2/models/nop/stats", &[("accept-encoding", "gzip;q=0.5, deflate")], b""),
    ]
}

/// The same with one to three faults.
fn faulty(right: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = right.to_vec();
    for _ in 0..=dice.throw(3) {
        let at = dice.throw(bytes.len() + 1);
        let upto = (at + dice.throw(12)).min(bytes.len());
        match dice.throw(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.throw(8),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..upto)),
            3 => drop(bytes.splice(at..at, dice.bytes(4))),
            4 => drop(bytes.splice(at..at, bytes[at..upto].repeat(3))),
            _ => drop(bytes.splice(at..upto, STUMBLES[dice.throw(STUMBLES.len())].bytes())),
        }
    }
    bytes
}

/// The length that is announced becomes that of the body, so that faults of the body are come to.
fn announced(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let line = bytes.windows(16).position(|window| window == b"content-length: ");
    if let (Some(end), Some(line)) = (end, line.map(|line| line + 16))
        && line < end
        && let Some(length) = bytes[line..].iter().position(|byte| *byte == b'\r')
    {
        let body = bytes.len() - end - 4;
        bytes.splice(line..line + length, body.to_string().bytes());
    }
    bytes
}

/// Sends all of them, several at once: those that are not whole are waited for until they are given up.
fn send_all(target: &Target, all: Vec<Vec<u8>>) {
    let all = Mutex::new(all);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                loop {
                    let next = all.lock().unwrap().pop();
                    let Some(sent) = next else { break };
                    target.send(&sent).is_no_failure(&sent);
                }
            });
        }
    });
}

#[test]
fn requests_with_faults_are_the_senders_fault() {
    let target = Target::start(&IMPATIENT);
    for bytes in right() {
        let told = target.send(&bytes);
        assert!(
            matches!(told.status(), Some(200 | 403 | 501)),
            "{told:?}\n{}",
            String::from_utf8_lossy(&bytes)
        );
    }
    target.endures(|target, round| {
        let mut dice = Dice::new(round);
        let sent =
            right().iter().cycle().take(480).map(|bytes| announced(faulty(bytes, &mut dice))).collect();
        send_all(target, sent);
    });
    target.ends_well();
}

#[test]
fn noise_is_no_request() {
    let target = Target::start(&IMPATIENT);
    target.endures(|target, round| {
        let mut dice = Dice::new(1000 + round);
        let mut all = Vec::new();
        for _ in 0..60 {
            let count = dice.throw(2000);
            let noise = dice.bytes(count);
            let head = b"POST /embed HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
            all.push([head, &*noise].concat());
            all.push(noise);
        }
        send_all(target, all);
    });
    target.ends_well();
}
