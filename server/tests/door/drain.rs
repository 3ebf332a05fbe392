//! The end of a server.

use crate::kit::{Live, NOP, answer, request};
use serde_json::json;
use std::io::Write;

const SLOW: (&str, &str) = ("slow", "kind = \"nop_delay\"\n[settings]\nsize = 1\ndelay = 0.3\n");

fn row() -> Vec<u8> {
    let row = json!({ "inputs": [{ "name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1] }] });
    request("POST", "/v2/models/slow/infer", &[], row.to_string().as_bytes())
}

#[test]
fn what_is_at_work_is_answered_before_the_end() {
    let mut live = Live::new(&[SLOW]);
    let mut stream = live.connect();
    stream.write_all(&row()).unwrap();
    live.wait_for_metric("skep_requests_at_work 1");
    let mut server = live.server.take().unwrap();
    assert!(live.executor.block_on(server.drain()), "every request was answered");
    assert_eq!(answer(&mut stream).status, 200);
    assert!(std::net::TcpStream::connect(live.address).is_err(), "nobody listens any more");
}

#[test]
fn while_it_drains_requests_are_served_and_balancers_told() {
    let live = Live::with(&[NOP], |config| config.management = true);
    let drained = live.post("/drain", &json!({}));
    assert_eq!(drained.ok(), json!({ "drained": true, "at_work": 0 }));
    let ready = live.get("/v2/health/ready");
    assert_eq!((ready.status, &ready.json()["ready"]), (503, &json!(false)));
    assert_eq!(live.get("/v2/models/nop/ready").status, 503);
    assert_eq!(live.get("/v2/health/live").status, 200);
    let row = json!({ "inputs": [{ "name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2] }] });
    live.post("/v2/models/nop/infer", &row).ok();
}

#[test]
fn draining_over_the_network_is_asked_for_at_the_start() {
    let live = Live::new(&[NOP]);
    assert_eq!(live.post("/drain", &json!({})).error().0, 403);
    assert_eq!(live.get("/v2/health/ready").status, 200);
}

#[test]
fn an_abort_waits_for_nobody() {
    let mut live = Live::new(&[("slow", "kind = \"nop_delay\"\n[settings]\nsize = 1\ndelay = 2\n")]);
    let mut stream = live.connect();
    stream.write_all(&row()).unwrap();
    live.wait_for_metric("skep_requests_at_work 1");
    let server = live.server.take().unwrap();
    live.executor.block_on(server.abort());
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut rest).ok();
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 503"), "{}", String::from_utf8_lossy(&rest));
}
