//! What people are shown who look at the page.

use crate::kit::{Live, NOP, request};
use serde_json::{Value, json};
use std::io::Write;

const INFER: &str = "/v2/models/nop/infer";

fn rows(rows: usize) -> Value {
    let data = vec![1; rows * 2];
    json!({ "inputs": [{ "name": "x", "shape": [rows, 2], "datatype": "FP32", "data": data }] })
}

#[test]
fn what_was_done_is_shown_by_time_and_size() {
    let live = Live::new(&[NOP]);
    for count in [1, 1, 3] {
        live.post(INFER, &rows(count)).ok();
    }
    let status = live.get("/status").ok();
    assert_eq!((&status["ready"], &status["obstacle"]), (&json!(true), &Value::Null));
    let nop = &status["models"][0];
    assert_eq!((&nop["name"], &nop["rows"], &nop["batches"]), (&json!("nop"), &json!(5), &json!(3)));
    assert_eq!(nop["batch_rows"], json!([{ "rows": 1, "batches": 2 }, { "rows": 3, "batches": 1 }]));
    assert_eq!(nop["queue"]["tasks"], 0);
    assert_eq!(nop["requests"]["success"]["count"], 3);
    let by_time = nop["latency"].as_array().unwrap();
    assert_eq!(by_time.len(), status["latency_seconds"].as_array().unwrap().len() + 1);
    assert_eq!(by_time.iter().map(|count| count.as_u64().unwrap()).sum::<u64>(), 3);
    assert_eq!(status["problems"], json!([]));
}

#[test]
fn a_queue_is_shown_while_it_waits() {
    let slow =
        "kind = \"nop_delay\"\n[settings]\nsize = 2\ndelay = 0.5\n[pool]\nmax-rows = 1\ncapacity = 9\n";
    let live = Live::new(&[("slow", slow)]);
    let body = rows(1).to_string();
    let ask = |_| {
        let mut stream = live.connect();
        stream.write_all(&request("POST", "/v2/models/slow/infer", &[], body.as_bytes())).unwrap();
        stream
    };
    let streams: Vec<_> = (0..8).map(ask).collect();
    live.wait_for_metric("skep_submitted_total{pool=\"slow_forward\"} 8");
    let queue = live.get("/status").ok()["models"][0]["queue"].clone();
    let (tasks, in_flight) = (queue["tasks"].as_u64().unwrap(), queue["in_flight"].as_u64().unwrap());
    assert!(tasks >= 1 && queue["rows"] == tasks && in_flight >= 1 && tasks + in_flight <= 8, "{queue}");
    assert_eq!(queue["capacity"], 9);
    // Whoever leaves is not waited for.
    drop(streams);
}

#[test]
fn callers_are_shown_by_their_names() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "ann 0123456789abcdef\nbob fedcba9876543210\n").unwrap();
    let live = Live::with(&[NOP], |config| config.keys = Some(file.path().to_owned()));
    let ann = [("authorization", "Bearer 0123456789abcdef")];
    let bob = [("authorization", "Bearer fedcba9876543210")];
    for (key, count) in [(&ann, 3), (&bob, 1), (&ann, 1)] {
        live.send("POST", INFER, key, rows(count).to_string().as_bytes()).ok();
    }
    assert_eq!(live.get("/status").status, 401, "callers are nobody else's business");
    let status = live.send("GET", "/status", &ann, b"").ok();
    let callers = status["models"][0]["callers"].as_array().unwrap();
    let of = |name: &str| callers.iter().find(|caller| caller["name"] == name).cloned().unwrap_or_default();
    assert_eq!((&of("ann")["rows"], &of("ann")["tasks"]), (&json!(4), &json!(2)), "{callers:?}");
    assert_eq!((&of("bob")["rows"], &of("bob")["tasks"]), (&json!(1), &json!(1)), "{callers:?}");
}

#[test]
fn padding_is_shown() {
    let live = Live::new(&[("bert_mean", "")]);
    // Five tokens, which are padded to six.
    live.post("/embed", &json!({ "inputs": "the cat sat" })).ok();
    let padding = live.get("/status").ok()["models"][0]["padding"].as_f64().unwrap();
    assert!(padding > 0.0 && padding < 0.5, "{padding}");
}

#[test]
fn problems_are_shown_with_their_reasons() {
    let live = Live::new(&[NOP]);
    let told = live.post(INFER, &rows(0)).error();
    live.post("/v2/models/nope/infer", &rows(1)).error();
    assert_eq!(live.post(INFER, &rows(0)).error(), told);
    let problems = live.get("/status").ok()["problems"].clone();
    let short = |problem: &Value| {
        ["asked", "code", "reason"].map(|name| problem[name].as_str().unwrap_or_default().to_owned())
    };
    let asked = format!("POST {INFER}");
    assert_eq!(short(&problems[0]), [asked, told.0.to_string(), told.1]);
    assert_eq!((&problems[0]["times"], &problems[1]["times"]), (&json!(2), &json!(1)));
    assert_eq!(problems[1]["asked"], "POST /v2/models/nope/infer");
    assert!(problems[1]["reason"].as_str().unwrap().contains("unknown model `nope`"), "{problems}");
    assert!(problems[0]["last_ms"].as_u64().unwrap() >= problems[1]["last_ms"].as_u64().unwrap());
}
