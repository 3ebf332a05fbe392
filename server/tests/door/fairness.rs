//! What callers get of the device, and how much each may ask for.

use crate::kit::{Answer, Live, answer, request};
use serde_json::{Value, json};
use skep_server::{Config, Order};
use std::io::{Read, Write};
use std::net::TcpStream;

const ANN: &str = "Bearer 0123456789abcdef";
const BOB: &str = "Bearer fedcba9876543210";
const SLOW: (&str, &str) =
    ("slow", "kind = \"nop_delay\"\n[settings]\nsize = 1\ndelay = 0.03\n[pool]\nmax-rows = 1\n");

fn live(models: &[(&str, &str)], keys: &str, change: impl FnOnce(&mut Config)) -> Live {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), keys).unwrap();
    Live::with(models, |config| {
        config.keys = Some(file.path().to_owned());
        change(config);
    })
}

fn rows(rows: usize) -> String {
    let data = vec![1; rows];
    json!({ "inputs": [{ "name": "x", "shape": [rows, 1], "datatype": "FP32", "data": data }] }).to_string()
}

fn ask(live: &Live, key: &str, count: usize) -> Vec<TcpStream> {
    let ask = |_| {
        let mut stream = live.connect();
        let headers = [("authorization", key)];
        stream.write_all(&request("POST", "/v2/models/slow/infer", &headers, rows(1).as_bytes())).unwrap();
        stream
    };
    (0..count).map(ask).collect()
}

fn answers(streams: Vec<TcpStream>) {
    for mut stream in streams {
        assert_eq!(answer(&mut stream).status, 200);
    }
}

fn as_key(live: &Live, key: &str, method: &str, path: &str, body: &str) -> Answer {
    live.send(method, path, &[("authorization", key)], body.as_bytes())
}

/// Batches that have run.
fn batches(live: &Live) -> u64 {
    let stats = as_key(live, BOB, "GET", "/v2/models/slow/stats", "").ok();
    stats["model_stats"][0]["execution_count"].as_u64().unwrap()
}

/// How many batches have run in all, and how many of them since a caller asked, when he has his answer who came when
/// another had asked 30 times.
fn until_the_late_one_is_answered(order: Order) -> (u64, u64) {
    let keys = "ann 0123456789abcdef\nbob fedcba9876543210\n";
    let live = live(&[SLOW], keys, |config| config.policy = order);
    let many = ask(&live, ANN, 30);
    live.wait_for_metric("skep_submitted_total{pool=\"slow_forward\"} 30");
    let late = ask(&live, BOB, 1);
    live.wait_for_metric("skep_submitted_total{pool=\"slow_forward\"} 31");
    let before = batches(&live);
    answers(late);
    let ran = batches(&live);
    answers(many);
    (ran, ran - before)
}

#[test]
fn whoever_asks_seldom_does_not_wait_for_whoever_asks_a_lot() {
    let (_, since) = until_the_late_one_is_answered(Order::Fair);
    assert!(since < 10, "{since}");
    let (ran, _) = until_the_late_one_is_answered(Order::OldestFirst);
    assert!(ran > 25, "as it is asked for: {ran}");
}

#[test]
fn keys_have_shares_by_their_weights() {
    let keys = "ann 0123456789abcdef weight=5\nbob fedcba9876543210\n";
    let live = live(&[SLOW], keys, |_| {});
    let few = ask(&live, BOB, 20);
    live.wait_for_metric("skep_submitted_total{pool=\"slow_forward\"} 20");
    let many = ask(&live, ANN, 10);
    live.wait_for_metric("skep_submitted_total{pool=\"slow_forward\"} 30");
    let before = batches(&live);
    answers(many);
    // Two or three of them are bob's; of equals, half are.
    let since = batches(&live) - before;
    assert!(since < 17, "{since}");
    answers(few);
}

#[test]
fn a_key_has_so_many_rows_per_second() {
    let keys = "ann 0123456789abcdef rows=2\nbob fedcba9876543210\n";
    let nop = "kind = \"nop\"\n[settings]\nsize = 1\n";
    let live = live(&[("nop", nop), ("bert_mean", "")], keys, |_| {});
    let path = "/v2/models/nop/infer";
    // There are two left, so the request is served, and what is more than that is owed.
    as_key(&live, ANN, "POST", path, &rows(20)).ok();
    let told = as_key(&live, ANN, "POST", path, &rows(1));
    assert_eq!(told.error(), (429, "`ann` has asked for its 2 rows per second".to_owned()));
    let wait: u64 = told.headers["retry-after"].parse().unwrap();
    assert!((8..=9).contains(&wait), "18 rows are owed: {wait}");

    let texts = json!({ "input": "the cat", "inputs": "the cat" });
    let field = |name: &str| json!({ name: texts[name] }).to_string();
    let openai = as_key(&live, ANN, "POST", "/v1/embeddings", &field("input"));
    assert_eq!((openai.status, &openai.json()["error"]["type"]), (429, &json!("rate_limit_error")));
    let tei = as_key(&live, ANN, "POST", "/embed", &field("inputs"));
    assert_eq!((tei.status, &tei.json()["error_type"]), (429, &json!("Overloaded")));
    as_key(&live, BOB, "POST", "/embed", &field("inputs")).ok();
    as_key(&live, ANN, "GET", "/v2/models/nop", "").ok();
}

#[test]
fn texts_run_on_the_account_of_their_key() {
    let live = live(&[("bert_mean", "")], "ann 0123456789abcdef\nbob fedcba9876543210\n", |_| {});
    let openai = json!({ "input": ["the cat", "a dog"] }).to_string();
    as_key(&live, ANN, "POST", "/v1/embeddings", &openai).ok();
    let ids = json!({ "input": [[2, 5, 3]] }).to_string();
    as_key(&live, BOB, "POST", "/v1/embeddings", &ids).ok();
    let page = live.get("/metrics").text();
    for flow in [1, 2] {
        let series = format!("skep_flow_device_seconds{{pool=\"bert_mean_forward\",flow=\"{flow}\"}}");
        assert!(page.contains(&series), "{series} in {page}");
    }
}

#[test]
fn connections_are_not_told_apart_in_the_metrics() {
    let live = Live::new(&[SLOW]);
    let mut open = Vec::new();
    for _ in 0..3 {
        // With those before it open, each is another flow.
        let mut stream = live.connect();
        let body = rows(1);
        let head = format!(
            "POST /v2/models/slow/infer HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        stream.read_exact(&mut [0; 12]).unwrap();
        open.push(stream);
    }
    let page = live.get("/metrics").text();
    assert!(
        page.contains("skep_rows_total{pool=\"slow_forward\"} 3")
            && !page.contains("skep_flow_device_seconds{")
    );
}

#[test]
fn there_are_so_many_priorities() {
    let live = Live::new(&[SLOW]);
    let mut asked: Value = serde_json::from_str(&rows(1)).unwrap();
    for (priority, status) in [(0, 200), (32, 200), (33, 400)] {
        asked["parameters"] = json!({ "priority": priority });
        assert_eq!(live.post("/v2/models/slow/infer", &asked).status, status);
    }
    assert_eq!(live.get("/v2/models/slow/config").ok()["dynamic_batching"]["priority_levels"], 32);
}
