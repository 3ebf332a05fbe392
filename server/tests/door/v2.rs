//! `KServe` V2 over HTTP.

use crate::kit::{Live, NOP};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Value, json};
use std::io::{Read, Write};

fn nop() -> Live {
    Live::new(&[NOP])
}

#[allow(clippy::needless_pass_by_value, reason = "it is made for this")]
fn x(data: Value) -> Value {
    json!({ "id": "7", "inputs": [{ "name": "x", "shape": [2, 2], "datatype": "FP32", "data": data }] })
}

const INFER: &str = "/v2/models/nop/infer";

#[test]
fn a_server_describes_itself_and_its_models() {
    let live = nop();
    let server = live.get("/v2").ok();
    assert_eq!(server["name"], "skep");
    assert!(server["extensions"].as_array().unwrap().contains(&json!("binary_tensor_data")));
    assert_eq!(live.get("/v2/models").ok(), json!({ "models": ["nop"] }));
    for path in ["/v2/models/nop", "/v2/models/nop/versions/1"] {
        assert_eq!(
            live.get(path).ok(),
            json!({
                "name": "nop", "versions": ["1"], "platform": format!("skep_{}", skep_server::BACKEND),
                "inputs": [{ "name": "x", "datatype": "FP32", "shape": [-1, 2] }],
                "outputs": [{ "name": "y", "datatype": "FP32", "shape": [-1, 2] }],
            })
        );
    }
    let config = live.get("/v2/models/nop/config").ok();
    assert_eq!(config["max_batch_size"], 4096);
    assert_eq!(config["input"], json!([{ "name": "x", "data_type": "TYPE_FP32", "dims": [2] }]));
    assert_eq!(config["dynamic_batching"]["preferred_batch_size"], json!([4]));
    assert_eq!(live.get("/v2/models/nop/ready").ok(), json!({ "name": "nop", "ready": true }));
    for path in ["/v2/health/live", "/v2/health/ready"] {
        assert_eq!(live.get(path).ok(), json!({ "live": true, "ready": true }));
    }
    assert_eq!(
        live.post("/v2/repository/index", &json!({ "ready": true })).ok(),
        json!([{ "name": "nop", "version": "1", "state": "READY", "reason": "" }])
    );
    assert_eq!(live.send("POST", "/v2/repository/index", &[], b"").ok().as_array().unwrap().len(), 1);
}

#[test]
fn json_goes_in_flat_or_nested_and_comes_out_flat() {
    let live = nop();
    for data in [json!([1.0, 2.5, -3.0, 0.1]), json!([[1, 2.5], [-3, 0.1]])] {
        let answer = live.post(INFER, &x(data)).ok();
        assert_eq!(
            (&answer["model_name"], &answer["model_version"], &answer["id"]),
            (&json!("nop"), &json!("1"), &json!("7"))
        );
        assert_eq!(
            answer["outputs"],
            json!([{ "name": "y", "datatype": "FP32", "shape": [2, 2], "data": [1.0, 2.5, -3.0, 0.1] }])
        );
    }
}

#[test]
fn integers_and_wide_floats_are_taken_if_nothing_is_lost() {
    let live = nop();
    let mut request = x(json!([1, 2, 3, 4]));
    request["inputs"][0]["datatype"] = json!("INT64");
    assert_eq!(live.post(INFER, &request).ok()["outputs"][0]["data"], json!([1.0, 2.0, 3.0, 4.0]));
    request["inputs"][0]["data"] = json!([1, 2, 3, 16_777_217]);
    assert_eq!(
        live.post(INFER, &request).error(),
        (
            400,
            "input `x` has datatype INT64, expected FP32, which cannot hold its element 16777217".to_owned()
        )
    );
}

/// The bytes of `x`, and what stands before them.
fn binary(outputs: &str) -> (usize, Vec<u8>) {
    let head = format!(
        r#"{{"inputs":[{{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{{"binary_data_size":8}}}}]{outputs}}}"#
    );
    let mut body = head.clone().into_bytes();
    body.extend_from_slice(&[1.5_f32, -2.0].map(f32::to_le_bytes).concat());
    (head.len(), body)
}

#[test]
fn binary_tensors_follow_the_json_both_ways() {
    let live = nop();
    for outputs in [
        r#","parameters":{"binary_data_output":true}"#,
        r#","outputs":[{"name":"y","parameters":{"binary_data":true}}]"#,
    ] {
        let (length, body) = binary(outputs);
        let answer =
            live.send("POST", INFER, &[("Inference-Header-Content-Length", &length.to_string())], &body);
        assert_eq!(
            (answer.status, answer.headers["content-type"].as_str()),
            (200, "application/octet-stream")
        );
        let json_length: usize = answer.headers["inference-header-content-length"].parse().unwrap();
        let head: Value = serde_json::from_slice(&answer.body[..json_length]).unwrap();
        assert_eq!(
            head["outputs"],
            json!([{ "name": "y", "datatype": "FP32", "shape": [1, 2], "parameters": { "binary_data_size": 8 } }])
        );
        assert_eq!(answer.body[json_length..], [1.5_f32, -2.0].map(f32::to_le_bytes).concat());
    }
    let (length, body) = binary(
        r#","parameters":{"binary_data_output":true},"outputs":[{"name":"y","parameters":{"binary_data":false}}]"#,
    );
    let answer = live.send("POST", INFER, &[("Inference-Header-Content-Length", &length.to_string())], &body);
    assert_eq!(answer.ok()["outputs"][0]["data"], json!([1.5, -2.0]));
}

#[test]
fn a_body_without_json_is_one_row() {
    let live = nop();
    let row = [1.5_f32, -2.0].map(f32::to_le_bytes).concat();
    let answer = live.send("POST", INFER, &[("Inference-Header-Content-Length", "0")], &row);
    let json_length: usize = answer.headers["inference-header-content-length"].parse().unwrap();
    assert_eq!(answer.body[json_length..], row);
    let answer = live.send("POST", INFER, &[("Inference-Header-Content-Length", "0")], &row[1..]);
    assert!(answer.error().1.contains("7 bytes are no row of input `x`"), "{answer:?}");
}

#[test]
fn bodies_are_packed_both_ways() {
    let live = nop();
    let data: Vec<f32> = (0..1000_u16).map(f32::from).collect();
    let request = json!({ "inputs": [{ "name": "x", "shape": [500, 2], "datatype": "FP32", "data": data }] })
        .to_string();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(request.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let mut deflate = ZlibEncoder::new(Vec::new(), Compression::fast());
    deflate.write_all(request.as_bytes()).unwrap();
    let deflate = deflate.finish().unwrap();
    for (name, body) in [("gzip", gzip), ("deflate", deflate)] {
        let answer =
            live.send("POST", INFER, &[("content-encoding", name), ("accept-encoding", "gzip")], &body);
        assert_eq!((answer.status, answer.headers["content-encoding"].as_str()), (200, "gzip"));
        let mut text = String::new();
        GzDecoder::new(&answer.body[..]).read_to_string(&mut text).unwrap();
        let unpacked: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(unpacked["outputs"][0]["data"], json!(data));
    }
    let answer = live.send("POST", INFER, &[("content-encoding", "br")], b"");
    assert_eq!(answer.error(), (400, "content encoding is `br`, expected gzip, deflate or none".to_owned()));
}

#[test]
fn what_is_wrong_is_told() {
    let live = nop();
    let wrong = |change: &dyn Fn(&mut Value)| {
        let mut request = x(json!([1, 2, 3, 4]));
        change(&mut request);
        live.post(INFER, &request).error()
    };
    let input = |key: &'static str, value: Value| wrong(&|request| request["inputs"][0][key] = value.clone());
    let invalid = |text: &str| (400, text.to_owned());
    assert_eq!(input("name", json!("z")), invalid("model `nop` has no input `z`, expected one of [\"x\"]"));
    assert_eq!(
        input("datatype", json!("FLOAT")),
        invalid("input `x` has the unknown datatype `FLOAT`, expected one like FP32 or INT64")
    );
    assert_eq!(
        input("datatype", json!("BYTES")),
        invalid("input `x` has datatype BYTES, which no model takes")
    );
    assert_eq!(
        input("datatype", json!("FP16")),
        invalid("input `x` has datatype FP16, for which JSON has no form: send binary data")
    );
    assert_eq!(
        input("shape", json!([2, 3])),
        invalid("input `x`: there are 4 elements, expected the 6 of shape [2, 3]")
    );
    assert_eq!(input("shape", json!([4, 1])), invalid("input `x` has dims [4, 1], expected [batch, 2]"));
    assert_eq!(
        input("shape", json!([-1, 2])),
        invalid("input `x` has the dim -1 in its shape, expected 0 or more")
    );
    let huge = input("shape", json!([1_u64 << 60, 1_u64 << 60]));
    assert!(huge.0 == 400 && huge.1.ends_with("is too large"), "{huge:?}");
    assert_eq!(
        wrong(&|request| request["inputs"] = json!([])),
        invalid("input `x` must be given exactly once")
    );
    assert_eq!(
        wrong(&|request| request["outputs"] = json!([{ "name": "z" }])),
        invalid("model `nop` has no output `z`, expected one of [\"y\"]")
    );
    assert!(wrong(&|request| request["input"] = json!(1)).1.contains("unknown field `input`"));
    assert_eq!(wrong(&|request| request["parameters"] = json!({ "sequence_id": 3 })).0, 501);
    assert_eq!(
        wrong(&|request| request["inputs"][0]["parameters"] = json!({ "shared_memory_region": "r" })).0,
        501
    );
    let zero = json!({ "inputs": [{ "name": "x", "shape": [0, 2], "datatype": "FP32", "data": [] }] });
    assert_eq!(live.post(INFER, &zero).error(), invalid("task has 0 rows, expected at least 1"));
    for body in ["", "{", "[1]", "{\"inputs\": 3}", "\u{0}"] {
        assert_eq!(live.send("POST", INFER, &[], body.as_bytes()).error().0, 400, "{body}");
    }
    let too_long = live.send("POST", INFER, &[("Inference-Header-Content-Length", "99")], b"{}");
    assert_eq!(
        too_long.error(),
        invalid("Inference-Header-Content-Length is `99`, expected at most the body's 2 bytes")
    );
    let (length, mut body) = binary("");
    body.push(0);
    let length = length.to_string();
    let more = live.send("POST", INFER, &[("Inference-Header-Content-Length", &length)], &body);
    assert_eq!(more.error(), invalid("1 bytes follow the last input's"));
}

#[test]
fn what_is_not_there_is_not_found_and_what_is_not_offered_is_told() {
    let live = nop();
    assert_eq!(
        live.get("/v2/models/other").error(),
        (404, "unknown model `other`, expected one of [\"nop\"]".to_owned())
    );
    assert_eq!(
        live.get("/v2/models/nop/versions/2").error(),
        (404, "model `nop` has no version 2, expected 1".to_owned())
    );
    assert_eq!(live.get("/nothing").error(), (404, "Not Found".to_owned()));
    assert_eq!(live.get(INFER).error(), (405, "method is GET, expected POST".to_owned()));
    assert_eq!(live.get("/v2/systemsharedmemory/status").error().0, 501);
    assert_eq!(live.post("/v2/models/nop/generate", &json!({})).error().0, 501);
}

#[test]
fn statistics_count_requests_rows_and_batches() {
    let live = nop();
    for _ in 0..3 {
        live.post(INFER, &x(json!([1, 2, 3, 4]))).ok();
    }
    live.post(INFER, &x(json!([1, 2, 3])));
    let stats = live.get("/v2/models/nop/stats").ok()["model_stats"][0].clone();
    assert_eq!((&stats["inference_count"], &stats["execution_count"]), (&json!(6), &json!(3)));
    assert_eq!(stats["inference_stats"]["success"]["count"], 3);
    assert_eq!(stats["inference_stats"]["queue"]["count"], 3);
    assert_eq!(stats["batch_stats"][0]["batch_size"], 2);
    assert_eq!(stats["batch_stats"][0]["compute_infer"]["count"], 3);
    assert!(stats["last_inference"].as_u64().unwrap() > 1_600_000_000_000);
    assert_eq!(live.get("/v2/models/stats").ok()["model_stats"].as_array().unwrap().len(), 1);
}

#[test]
fn classes_are_the_best_of_each_row() {
    let live = Live::new(&[("bert_sequence", ""), NOP]);
    let outputs = json!([{ "name": "y", "parameters": { "classification": 1 } }]);
    let mut request = x(json!([1, 2, 4, 3]));
    request["outputs"] = outputs;
    let answer = live.post(INFER, &request).ok();
    assert_eq!(
        answer["outputs"],
        json!([{ "name": "y", "datatype": "BYTES", "shape": [2, 1], "data": ["2.000000:1", "4.000000:0"] }])
    );

    let ids = json!({ "name": "input_ids", "shape": [1, 3], "datatype": "INT64", "data": [2, 5, 3] });
    let mask = json!({ "name": "attention_mask", "shape": [1, 3], "datatype": "INT32", "data": [1, 1, 1] });
    let types = json!({ "name": "token_type_ids", "shape": [1, 3], "datatype": "INT64", "data": [0, 0, 0] });
    let outputs = json!([{ "name": "logits", "parameters": { "classification": 3 } }]);
    let request = json!({ "inputs": [ids, mask, types], "outputs": outputs });
    let answer = live.post("/v2/models/bert_sequence/infer", &request).ok();
    let classes: Vec<_> = answer["outputs"][0]["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(classes.len(), 3);
    assert!(classes.iter().any(|class| class.ends_with(":2:blue")), "{classes:?}");
}

#[test]
fn what_json_cannot_hold_is_asked_for_in_binary() {
    let live = nop();
    let (length, mut body) = binary("");
    body.truncate(length);
    body.extend_from_slice(&[f32::NAN, 1.0].map(f32::to_le_bytes).concat());
    let answer = live.send("POST", INFER, &[("Inference-Header-Content-Length", &length.to_string())], &body);
    let (status, text) = answer.error();
    assert!(status == 400 && text.ends_with("ask for binary data"), "{text}");
}

#[test]
fn request_ids_come_back() {
    let live = nop();
    let answer = live.send("GET", "/v2", &[("x-request-id", "mine-1")], b"");
    assert_eq!(answer.headers["x-request-id"], "mine-1");
    assert!(!live.get("/v2").headers["x-request-id"].is_empty());
}

#[test]
fn the_page_asks_nobody_else() {
    let live = nop();
    let page = live.get("/");
    assert_eq!((page.status, page.headers["content-type"].as_str()), (200, "text/html; charset=utf-8"));
    // An icon of no bytes: else browsers ask for one.
    let text = page.text().replace(r#"<link rel="icon" href="data:,">"#, "");
    for outside in ["http://", "https://", "src=", "@import", "<link"] {
        assert!(!text.contains(outside), "{outside}");
    }
}

#[test]
fn blocks_are_padded_as_their_file_says() {
    const TRANSFORMER: &str =
        "kind = \"transformer\"\n[settings]\nsize = 2\nheads = 1\n[pool.padding]\nto = 4\n";
    let live = Live::new(&[("layer", TRANSFORMER)]);
    let infer = |positions: usize| {
        let data = vec![0.5; 2 * positions];
        let x = json!({ "name": "x", "shape": [1, positions, 2], "datatype": "FP32", "data": data });
        live.post("/v2/models/layer/infer", &json!({ "inputs": [x] })).ok()
    };
    for positions in [3, 4, 5] {
        assert_eq!(infer(positions)["outputs"][0]["shape"], json!([1, positions, 2]));
    }
    // One position beside three, and three beside five.
    live.wait_for_metric("skep_padding_elements_total{pool=\"layer_forward\"} 4");
}

#[test]
fn a_block_that_cannot_be_padded_is_refused() {
    let live = Live::with(&[NOP], |config| config.management = true);
    let wrong = format!("{}[pool.padding]\nto = 4\n", NOP.1);
    std::fs::write(live.folder().join("nop/skep.toml"), wrong).unwrap();
    let (status, told) = live.post("/v2/repository/models/nop/load", &json!({})).error();
    assert!(status == 500 && told.contains("none: the block has no free dims"), "{status} {told}");
    live.post(INFER, &x(json!([1, 2, 3, 4]))).ok();
}
