//! The doors for texts, against what the models' own library gives.

use crate::kit::{Live, NOP, fixture};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

fn live() -> Live {
    Live::new(&[
        ("bert_mean", ""),
        ("bert_cross_encoder", ""),
        ("bert_sequence", ""),
        ("bert_token", ""),
        NOP,
    ])
}

fn expected(model: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(fixture(model).join("expected.json")).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    value["asks"].as_array().unwrap().clone()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[track_caller]
fn near(a: &[f64], b: &[f64]) {
    assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} {b:?}");
}

/// The plain questions among those whose answers are known: no prompt, and not cut.
fn plain(model: &str) -> Vec<Value> {
    let plain = |ask: &Value| ask["prompt"].is_null() && ask["tokens"].as_u64().unwrap() < 32;
    expected(model).into_iter().filter(plain).collect()
}

/// Whatever their lengths.
#[cfg(not(feature = "tch"))]
#[test]
fn texts_laid_end_to_end_get_the_same() {
    let live = Live::new(&[("bert_mean", "rows = \"ragged\"\n"), NOP]);
    let asks = expected("bert_mean");
    let asks: Vec<_> = asks.iter().filter(|ask| ask["prompt"].is_null()).collect();
    let texts: Vec<_> = asks.iter().map(|ask| ask["text"].clone()).collect();
    let answer = live.post("/embed", &json!({ "inputs": texts, "truncate": true })).ok();
    for (i, ask) in asks.iter().enumerate() {
        near(&numbers(&answer[i]), &numbers(&ask["vector"]));
    }
}

#[test]
fn embeddings_are_those_of_the_models_own_library() {
    let live = live();
    let asks = plain("bert_mean");
    assert!(asks.len() > 2);
    let texts: Vec<_> = asks.iter().map(|ask| ask["text"].clone()).collect();
    let answer = live.post("/embed", &json!({ "inputs": texts })).ok();
    let openai = live.post("/v1/embeddings", &json!({ "model": "bert_mean", "input": texts })).ok();
    let base64 = json!({ "input": texts, "encoding_format": "base64", "user": "me" });
    let base64 = live.post("/v1/embeddings", &base64).ok();
    for (i, ask) in asks.iter().enumerate() {
        let vector = numbers(&ask["vector"]);
        near(&numbers(&answer[i]), &vector);
        assert_eq!(openai["data"][i]["index"], i);
        near(&numbers(&openai["data"][i]["embedding"]), &vector);
        let bytes = STANDARD.decode(base64["data"][i]["embedding"].as_str().unwrap()).unwrap();
        let floats: Vec<f64> =
            bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four).into()).collect();
        near(&floats, &vector);
    }
    let tokens: u64 = asks.iter().map(|ask| ask["tokens"].as_u64().unwrap()).sum();
    assert_eq!(openai["usage"], json!({ "prompt_tokens": tokens, "total_tokens": tokens }));
    assert_eq!((&openai["object"], &openai["model"]), (&json!("list"), &json!("bert_mean")));
    let one = live.post("/embed", &json!({ "inputs": texts[0] })).ok();
    near(&numbers(&one[0]), &numbers(&asks[0]["vector"]));
}

#[test]
fn tokens_are_embedded_as_the_text_that_they_are_of() {
    let live = live();
    let text = "the cat sat";
    let pieces = live.post("/tokenize", &json!({ "inputs": text, "model": "bert_mean" })).ok();
    let ids: Vec<u64> =
        pieces[0].as_array().unwrap().iter().map(|piece| piece["id"].as_u64().unwrap()).collect();
    assert_eq!(pieces[0][1]["text"], "the");
    assert_eq!((&pieces[0][1]["start"], &pieces[0][1]["stop"]), (&json!(0), &json!(3)));
    let of_text = live.post("/v1/embeddings", &json!({ "input": text })).ok();
    for input in [json!(ids), json!([ids])] {
        let of_ids = live.post("/v1/embeddings", &json!({ "input": input })).ok();
        near(&numbers(&of_ids["data"][0]["embedding"]), &numbers(&of_text["data"][0]["embedding"]));
        assert_eq!(of_ids["usage"], of_text["usage"]);
    }
}

#[test]
fn vectors_of_tokens_become_the_vector_of_the_text() {
    let files = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(fixture("bert_mean")).unwrap() {
        let file = file.unwrap();
        std::os::unix::fs::symlink(file.path(), files.path().join(file.file_name())).unwrap();
    }
    std::fs::write(files.path().join("skep.toml"), "token-vectors = true\n").unwrap();
    let live = Live::with(&[("bert_cls", "")], |config| {
        std::os::unix::fs::symlink(files.path(), config.folder.join("tokens")).unwrap();
    });
    let asks = plain("bert_mean");
    let texts: Vec<_> = asks.iter().map(|ask| ask["text"].clone()).collect();
    let answer = live.post("/embed_all", &json!({ "inputs": texts, "truncate": true })).ok();
    for (i, ask) in asks.iter().enumerate() {
        let vectors: Vec<Vec<f64>> = answer[i].as_array().unwrap().iter().map(numbers).collect();
        assert_eq!(vectors.len() as u64, ask["tokens"].as_u64().unwrap());
        let sum = |at: usize| vectors.iter().map(|vector| vector[at]).sum::<f64>();
        let sums: Vec<f64> = (0..vectors[0].len()).map(sum).collect();
        let length = sums.iter().map(|x| x * x).sum::<f64>().sqrt();
        near(&sums.iter().map(|x| x / length).collect::<Vec<_>>(), &numbers(&ask["vector"]));
    }
    let pieces = live.post("/tokenize", &json!({ "inputs": texts[0], "model": "tokens" })).ok();
    let ids: Vec<u64> =
        pieces[0].as_array().unwrap().iter().map(|piece| piece["id"].as_u64().unwrap()).collect();
    let of_ids = live.post("/embed_all", &json!({ "inputs": [ids], "model": "tokens" })).ok();
    for (of_id, of_text) in of_ids[0].as_array().unwrap().iter().zip(answer[0].as_array().unwrap()) {
        near(&numbers(of_id), &numbers(of_text));
    }
    // The other doors give the text's own vector, and V2 both.
    let one = live.post("/embed", &json!({ "inputs": [ids], "model": "tokens" })).ok();
    near(&numbers(&one[0]), &numbers(&asks[0]["vector"]));
    let metadata = live.get("/v2/models/tokens").ok();
    assert_eq!(
        metadata["outputs"][1],
        json!({ "name": "token_embeddings", "datatype": "FP32", "shape": [-1, -1, 12] })
    );
    let wrong = live.post("/embed_all", &json!({ "inputs": "a", "model": "bert_cls" }));
    assert_eq!(wrong.status, 422, "{wrong:?}");
}

#[test]
fn dimensions_are_cut_and_brought_to_unit_length() {
    let live = live();
    let ask = |dimensions: u64| json!({ "input": "the cat", "dimensions": dimensions });
    let answer = live.post("/v1/embeddings", &ask(4)).ok();
    let vector = numbers(&answer["data"][0]["embedding"]);
    assert_eq!(vector.len(), 4);
    assert!((vector.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-5);
    for wrong in [0, 13] {
        let answer = live.post("/v1/embeddings", &ask(wrong));
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["error"]["message"], format!("dimensions is {wrong}, expected 1 to 12"));
    }
}

#[test]
fn documents_are_ranked() {
    let live = live();
    let asks: Vec<_> = expected("bert_cross_encoder");
    let first = asks[0]["text"].as_str().unwrap();
    let pairs: Vec<_> =
        asks.iter().filter(|ask| ask["text"] == first && ask["tokens"].as_u64().unwrap() < 32).collect();
    let texts: Vec<_> = pairs.iter().map(|ask| ask["pair"].clone()).collect();
    let request = json!({ "query": first, "texts": texts, "return_text": true });
    let ranked = live.post("/rerank", &request).ok();
    let ranked = ranked.as_array().unwrap();
    assert_eq!(ranked.len(), texts.len());
    assert!(ranked.windows(2).all(|two| two[0]["score"].as_f64() >= two[1]["score"].as_f64()));
    for rank in ranked {
        let i = usize::try_from(rank["index"].as_u64().unwrap()).unwrap();
        assert_eq!(rank["text"], texts[i]);
        near(&[rank["score"].as_f64().unwrap()], &[pairs[i]["scores"][0].as_f64().unwrap()]);
    }
    let raw = live.post("/rerank", &json!({ "query": first, "texts": texts, "raw_scores": true })).ok();
    let (raw, score) = (raw[0]["score"].as_f64().unwrap(), ranked[0]["score"].as_f64().unwrap());
    near(&[1.0 / (1.0 + (-raw).exp())], &[score]);
}

#[test]
fn texts_are_classified_alone_and_in_lists() {
    let live = live();
    let asks = plain("bert_sequence");
    let single = live.post("/predict", &json!({ "inputs": asks[0]["text"], "model": "bert_sequence" })).ok();
    let score = |predicted: &Value, label: &str| {
        let found = predicted.as_array().unwrap().iter().find(|it| it["label"] == label).unwrap();
        found["score"].as_f64().unwrap()
    };
    for (i, label) in ["red", "green", "blue"].iter().enumerate() {
        near(&[score(&single, label)], &[asks[0]["scores"][i].as_f64().unwrap()]);
    }
    let lists: Vec<_> = asks.iter().map(|ask| json!([ask["text"]])).collect();
    let many = live.post("/predict", &json!({ "inputs": lists, "model": "bert_sequence" })).ok();
    assert_eq!(many.as_array().unwrap().len(), asks.len());
    near(&[score(&many[1], "blue")], &[asks[1]["scores"][2].as_f64().unwrap()]);
}

#[test]
fn sentences_are_compared() {
    let live = live();
    let request =
        json!({ "inputs": { "source_sentence": "the cat", "sentences": ["the cat", "a dog ran"] } });
    let scores = numbers(&live.post("/similarity", &request).ok());
    near(&[scores[0]], &[1.0]);
    assert!(scores[1] < 0.9999);
}

#[test]
fn models_are_listed_and_described() {
    let live = live();
    let models = live.get("/v1/models").ok();
    assert_eq!(models["data"].as_array().unwrap().len(), 5);
    assert_eq!(live.get("/v1/models/bert_mean").ok()["id"], "bert_mean");
    let info = live.get("/info?model=bert_sequence").ok();
    assert_eq!(info["model_type"]["classifier"]["id2label"]["2"], "blue");
    assert_eq!((&info["max_input_length"], &info["model_dtype"]), (&json!(32), &json!("float32")));
    assert_eq!(live.get("/health").status, 200);
}

#[test]
fn each_door_tells_errors_in_its_own_form() {
    let live = live();
    let long = "the cat ".repeat(40);
    let tei = live.post("/embed", &json!({ "inputs": long }));
    assert_eq!((tei.status, tei.json()["error_type"].clone()), (422, json!("Validation")));
    assert!(tei.json()["error"].as_str().unwrap().contains("the model takes at most 32"));
    assert_eq!(live.post("/embed", &json!({ "inputs": long, "truncate": true })).status, 200);
    let openai = live.post("/v1/embeddings", &json!({ "input": long }));
    assert_eq!(
        (openai.status, openai.json()["error"]["type"].clone()),
        (400, json!("invalid_request_error"))
    );
    let wrong = |path: &str, request: Value| {
        let answer = live.post(path, &request);
        assert!((400..500).contains(&answer.status), "{path} {request}: {answer:?}");
    };
    wrong("/embed", json!({ "inputs": [] }));
    wrong("/embed", json!({ "inputs": [1, "a"] }));
    wrong("/embed", json!({ "inputs": [1, -1] }));
    wrong("/embed", json!({ "inputs": "a", "model": "bert_sequence" }));
    wrong("/embed", json!({ "inputs": "a", "prompt_name": "shout" }));
    wrong("/embed", json!({ "inputs": "a", "normalize": false }));
    wrong("/embed", json!({ "input": "a" }));
    wrong("/embed", json!({ "inputs": [[]] }));
    wrong("/embed", json!({ "inputs": [[4_000_000]] }));
    wrong("/v1/embeddings", json!({ "input": "a", "encoding_format": "int8" }));
    wrong("/v1/embeddings", json!({ "input": "a", "model": "gpt" }));
    wrong("/predict", json!({ "inputs": ["a", "b", "c"], "model": "bert_sequence" }));
    wrong("/predict", json!({ "inputs": "a" }));
    wrong("/rerank", json!({ "query": "a", "texts": [] }));
    wrong("/similarity", json!({ "inputs": { "source_sentence": "a", "sentences": [] } }));
    let offered = live.post("/embed_sparse", &json!({ "inputs": "a" }));
    assert_eq!((offered.status, offered.json()["error_type"].is_string()), (501, true));
    let told = live.post("/embed_all", &json!({ "inputs": "a" }));
    assert_eq!(told.status, 501);
    assert!(
        told.json()["error"].as_str().unwrap().contains("`token-vectors = true` in its skep.toml"),
        "{told:?}"
    );
}

#[test]
fn long_questions_are_asked_elsewhere() {
    let live = live();
    let long = "the cat ".repeat(4000);
    assert_eq!(live.post("/embed", &json!({ "inputs": long, "truncate": true })).status, 200);
}
