//! Models that come and go while the server runs.

use crate::kit::{Live, NOP, answer, request};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const FFN: &str = "kind = \"ffn\"\nweights = \"model.safetensors\"\n[settings]\ninput = 1\nhidden = 1\noutput = 1\nactivation = \"relu\"\n";
const SLOW: &str = "kind = \"nop_delay\"\n[settings]\nsize = 1\ndelay = 0.3\n[pool]\nmax-rows = 1\n";

fn manager(models: &[(&str, &str)]) -> Live {
    Live::with(models, |config| config.management = true)
}

/// A folder with a model that multiplies by `factor`.
fn write_ffn(folder: &Path, name: &str, factor: f32) {
    let tensors = [
        ("fc1.weight", vec![1, 1], 1.0),
        ("fc1.bias", vec![1], 0.0),
        ("fc2.weight", vec![1, 1], factor),
        ("fc2.bias", vec![1], 0.0),
    ];
    let mut head = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, shape, value) in tensors {
        let start = data.len();
        data.extend_from_slice(&value.to_le_bytes());
        head.insert(
            name.into(),
            json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, start + 4] }),
        );
    }
    let head = Value::Object(head).to_string().into_bytes();
    let mut bytes = (head.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(&data);
    fs::create_dir_all(folder.join(name)).unwrap();
    // As a tool does it that others may read at any time.
    fs::write(folder.join(name).join("new"), bytes).unwrap();
    fs::rename(folder.join(name).join("new"), folder.join(name).join("model.safetensors")).unwrap();
    if !folder.join(name).join("skep.toml").exists() {
        fs::write(folder.join(name).join("skep.toml"), FFN).unwrap();
    }
}

fn change(live: &Live, name: &str, what: &str) -> Value {
    live.send("POST", &format!("/v2/repository/models/{name}/{what}"), &[], b"").ok()
}

fn row(value: f32) -> Value {
    json!({ "inputs": [{ "name": "x", "shape": [1, 1], "datatype": "FP32", "data": [value] }] })
}

fn times(live: &Live) -> f64 {
    live.post("/v2/models/times/infer", &row(3.0)).ok()["outputs"][0]["data"][0].as_f64().unwrap()
}

fn state(live: &Live, name: &str) -> (String, String) {
    let index = live.send("POST", "/v2/repository/index", &[], b"").ok();
    let found = index.as_array().unwrap().iter().find(|model| model["name"] == name).unwrap();
    let text = |key: &str| found[key].as_str().unwrap().to_owned();
    (text("state"), text("reason"))
}

#[test]
fn a_model_goes_and_comes_back_at_every_door() {
    let live = manager(&[("bert_mean", ""), NOP]);
    let embed = json!({ "inputs": "the cat" });
    let before = live.post("/embed", &embed).ok();
    let gone = change(&live, "bert_mean", "unload");
    assert_eq!((&gone["name"], &gone["state"]), (&json!("bert_mean"), &json!("UNAVAILABLE")));
    assert_eq!(state(&live, "bert_mean"), ("UNAVAILABLE".to_owned(), "it was unloaded".to_owned()));
    assert_eq!(live.post("/embed", &embed).status, 501, "no model here embeds");
    assert_eq!(live.post("/v1/embeddings", &json!({ "input": "a", "model": "bert_mean" })).status, 404);
    assert_eq!(live.get("/v1/models").ok()["data"].as_array().unwrap().len(), 1);
    assert_eq!(live.get("/v2/models").ok(), json!({ "models": ["nop"] }));
    let told = (404, "model `bert_mean` is not served: it was unloaded".to_owned());
    for path in ["", "/ready", "/config", "/stats"] {
        assert_eq!(live.get(&format!("/v2/models/bert_mean{path}")).error(), told);
    }
    assert_eq!(live.get("/v2/health/ready").status, 200, "it was asked to go, so nothing is amiss");
    assert!(live.get("/metrics").text().contains("skep_served_models 1\n"));
    change(&live, "bert_mean", "unload");

    let back = change(&live, "bert_mean", "load");
    assert_eq!((&back["state"], &back["version"]), (&json!("READY"), &json!("1")));
    assert_eq!(state(&live, "bert_mean").0, "READY");
    assert_eq!(live.post("/embed", &embed).ok(), before);
    assert_eq!(live.get("/v2/models/bert_mean/ready").status, 200);
    let ready_only = live.post("/v2/repository/index", &json!({ "ready": true })).ok();
    assert_eq!(ready_only.as_array().unwrap().len(), 2);
}

#[test]
fn a_model_that_was_put_into_the_folder_can_be_loaded() {
    let live = manager(&[NOP]);
    write_ffn(live.folder(), "times", 2.0);
    assert_eq!(state(&live, "times"), ("UNAVAILABLE".to_owned(), "it is not loaded".to_owned()));
    assert_eq!(live.get("/v2/models/times").status, 404);
    change(&live, "times", "load");
    assert!((times(&live) - 6.0).abs() < 1e-6);
}

#[test]
fn new_weights_take_the_place_of_the_old_ones_under_load() {
    let live = manager(&[NOP]);
    write_ffn(live.folder(), "times", 2.0);
    change(&live, "times", "load");
    let stop = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut answers = vec![times(&live)];
                    while !stop.load(Ordering::Relaxed) {
                        answers.push(times(&live));
                    }
                    answers
                })
            })
            .collect();
        for factor in [5.0, 7.0] {
            write_ffn(live.folder(), "times", factor);
            change(&live, "times", "load");
            assert!((times(&live) - f64::from(3.0 * factor)).abs() < 1e-6, "no old answer comes any more");
        }
        stop.store(true, Ordering::Relaxed);
        let answers: Vec<f64> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        assert!(answers.iter().all(|answer| [6.0, 15.0, 21.0].iter().any(|own| (answer - own).abs() < 1e-6)));
        answers.len() as u64 + 2
    });
    let stats = live.get("/v2/models/times/stats").ok()["model_stats"][0].clone();
    assert_eq!(
        stats["inference_stats"]["success"]["count"], asked,
        "every request was answered, and counted once"
    );
    assert_eq!(stats["inference_count"], asked);
    assert!(!live.get("/metrics").text().contains("times@2"), "they took the old ones' place");
}

#[test]
fn a_model_that_has_changed_otherwise_is_put_beside_the_old_one() {
    let live = manager(&[("times", SLOW)]);
    let mut waits = live.connect();
    waits
        .write_all(&request("POST", "/v2/models/times/infer", &[], row(3.0).to_string().as_bytes()))
        .unwrap();
    live.wait_for_metric("skep_submitted_total{pool=\"times_forward\"} 1");
    write_ffn(live.folder(), "times", 2.0);
    fs::write(live.folder().join("times/skep.toml"), format!("version = \"2\"\n{FFN}")).unwrap();
    assert_eq!(change(&live, "times", "load")["version"], "2");
    assert!((times(&live) - 6.0).abs() < 1e-6);
    let old = answer(&mut waits).ok();
    assert_eq!((&old["model_version"], &old["outputs"][0]["data"]), (&json!("1"), &json!([3.0])));
    assert_eq!(live.get("/v2/models/times/versions/1").status, 404);
    let stats = live.get("/v2/models/times/stats").ok()["model_stats"][0].clone();
    assert_eq!(stats["inference_count"], 2, "the sums go on");
    let rows = "skep_rows_total{pool=\"times@2_forward\"} 1";
    assert!(live.get("/metrics").text().lines().any(|line| line == rows));
}

/// Six requests that the model `slow` has accepted.
fn six_for_slow(live: &Live) -> Vec<TcpStream> {
    let body = row(1.0).to_string();
    let ask = || {
        let mut stream = live.connect();
        stream.write_all(&request("POST", "/v2/models/slow/infer", &[], body.as_bytes())).unwrap();
        stream
    };
    let streams = std::iter::repeat_with(ask).take(6).collect();
    live.wait_for_metric("skep_submitted_total{pool=\"slow_forward\"} 6");
    streams
}

#[test]
fn what_was_accepted_is_answered_before_a_model_goes() {
    let live = manager(&[("slow", SLOW), NOP]);
    let streams = six_for_slow(&live);
    let told = std::thread::scope(|scope| {
        let unload = scope.spawn(|| change(&live, "slow", "unload"));
        live.wait_for_metric("skep_served_models 1");
        assert_eq!(state(&live, "slow").0, "UNLOADING");
        let late = live.post("/v2/models/slow/infer", &row(1.0));
        assert_eq!(late.error(), (404, "model `slow` is being unloaded".to_owned()));
        unload.join().unwrap()
    });
    assert_eq!(told["state"], "UNAVAILABLE");
    for mut stream in streams {
        assert_eq!(answer(&mut stream).status, 200);
    }
}

#[test]
fn a_model_that_is_slow_to_go_is_waited_for_as_long_as_the_server_would_be() {
    let live = Live::with(&[("slow", SLOW)], |config| {
        config.management = true;
        config.drain_limit = "1ms".parse().unwrap();
    });
    let streams = six_for_slow(&live);
    change(&live, "slow", "unload");
    let codes: Vec<u16> = streams.into_iter().map(|mut stream| answer(&mut stream).status).collect();
    assert!(codes.iter().all(|code| [200, 503].contains(code)) && codes.contains(&503), "{codes:?}");
    change(&live, "slow", "load");
    live.post("/v2/models/slow/infer", &row(1.0)).ok();
}

#[test]
fn what_cannot_be_loaded_is_told_and_what_is_served_goes_on() {
    let live = manager(&[NOP]);
    write_ffn(live.folder(), "times", 2.0);
    change(&live, "times", "load");
    fs::write(live.folder().join("times/skep.toml"), "kind = \"ffn\"\nweigths = 1").unwrap();
    let told = live.post("/v2/repository/models/times/load", &json!({})).error();
    assert!(told.0 == 400 && told.1.contains("unknown field `weigths`"), "{told:?}");
    assert!((times(&live) - 6.0).abs() < 1e-6);

    fs::create_dir(live.folder().join("torn")).unwrap();
    fs::write(live.folder().join("torn/skep.toml"), FFN).unwrap();
    fs::write(live.folder().join("torn/model.safetensors"), "no").unwrap();
    let told = live.post("/v2/repository/models/torn/load", &json!({})).error();
    assert!(told.0 == 500 && told.1.starts_with("model `torn` cannot be loaded: "), "{told:?}");
    assert_eq!(state(&live, "torn"), ("UNAVAILABLE".to_owned(), told.1));
}

#[test]
fn nothing_is_loaded_from_elsewhere() {
    let live = manager(&[NOP]);
    for name in ["other", "..%2F..%2Fetc", "%2Fetc", "nop%2F..%2Fnop", "."] {
        for what in ["load", "unload"] {
            let told = live.send("POST", &format!("/v2/repository/models/{name}/{what}"), &[], b"");
            assert_eq!(told.error().0, 404, "{name}");
        }
    }
    for key in ["config", "file:1/model.onnx"] {
        let body = json!({ "parameters": { key: "{}" } });
        let told = live.post("/v2/repository/models/nop/load", &body).error();
        assert_eq!(
            told,
            (501, format!("parameter `{key}` is not offered: models are what their folders say"))
        );
    }
    let body = json!({ "parameters": { "unload_dependents": true } });
    live.post("/v2/repository/models/nop/unload", &body).ok();
    assert_eq!(live.post("/v2/repository/models/nop/load", &json!({ "parameter": {} })).error().0, 400);
}

#[test]
fn loading_over_the_network_is_asked_for_at_the_start() {
    let live = Live::new(&[NOP]);
    for what in ["load", "unload"] {
        let told = live.post(&format!("/v2/repository/models/nop/{what}"), &json!({})).error();
        let message = "loading and unloading are not allowed: start the server with `--management`";
        assert_eq!(told, (403, message.to_owned()));
    }
    assert_eq!(live.get("/v2/models/nop/ready").status, 200);
}
