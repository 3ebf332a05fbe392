//! The demo serves each of the suite's folders and prints the first answer that `PyTorch` gives; what it refuses, it
//! refuses with status 2 and the reason.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

use crate::arguments::Arguments;
use crate::common::{BAD_INPUT, skep};
use crate::run;
use clap::Parser;
use serde_json::Value;
use skep::models::Model;
use std::fs;
use std::path::{Path, PathBuf};

/// How much a number may differ from what `PyTorch` computes in f64.
const TOLERANCE: f64 = 1e-5;

/// Status, standard output and standard error.
fn demo(folder: &Path, more: &[&str]) -> (u8, String, String) {
    let folder = folder.to_str().unwrap();
    let words = ["embed", "--model-dir", folder, "--json", "--callers", "3", "--threads", "1"];
    let arguments = Arguments::try_parse_from(words.iter().chain(more)).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = run(&arguments, &mut out, &mut err);
    (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models")
}

fn json(text: impl AsRef<[u8]>) -> Value {
    serde_json::from_slice(text.as_ref()).unwrap()
}

#[test]
fn each_folder_is_served_and_its_first_answer_printed() {
    let folders = fs::read_dir(data().join("fixtures")).unwrap();
    let mut count = 0;
    for folder in folders.map(|entry| entry.unwrap().path()) {
        let expected = json(fs::read(folder.join("expected.json")).unwrap());
        let model = Model::read(&folder).unwrap();
        if expected["kind"] == "pair" && model.labels().is_some_and(|labels| !labels.pairs) {
            println!("left out: {} does not say that it judges pairs", folder.display());
            continue;
        }
        let ask = &expected["asks"][0];
        let (key, text) = match expected["kind"].as_str().unwrap() {
            "embed" => ("vector", &ask["text"]),
            "pair" => ("scores", &ask["pair"]),
            "classify" => ("scores", &ask["text"]),
            _ => ("labels", &ask["text"]),
        };
        let scratch = tempfile::tempdir().unwrap();
        let sentences = scratch.path().join("sentences.txt");
        fs::write(&sentences, format!("{}\na dog\n", text.as_str().unwrap())).unwrap();
        let query = ask["text"].as_str().unwrap();
        let mut more = vec!["--text", sentences.to_str().unwrap(), "--query", query];
        more.extend(ask["prompt"].as_str().into_iter().flat_map(|prompt| ["--prompt", prompt]));
        let (status, out, err) = demo(&folder, &more);
        assert_eq!(status, 0, "{}: {err}", folder.display());
        let printed = json(out);
        let printed = printed["first_vector"].as_array().unwrap();
        let numbers = ask[key].as_array().unwrap();
        // A model of tokens gives the score of each one's best label.
        let numbers: Vec<f64> =
            numbers.iter().map(|it| it.as_f64().or_else(|| it[1].as_f64()).unwrap()).collect();
        assert_eq!(printed.len(), numbers.len(), "{}", folder.display());
        for (got, expected) in printed.iter().zip(&numbers) {
            let difference = (got.as_f64().unwrap() - expected).abs();
            assert!(difference <= TOLERANCE, "{}: {got} instead of {expected}", folder.display());
        }
        count += 1;
    }
    assert!(count >= 60);
}

#[test]
fn a_refused_folder_ends_with_status_2_and_the_reason() {
    let whole = data().join("fixtures/bert_mean");
    let scratch = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors", "tokenizer_config.json"] {
        fs::copy(whole.join(file), scratch.path().join(file)).unwrap();
    }
    let refused = |reason: &str| {
        let (status, out, err) = demo(scratch.path(), &[]);
        assert_eq!((status, out.as_str()), (BAD_INPUT, ""), "{err}");
        assert!(err.starts_with("error: ") && err.contains(reason), "{err}");
    };
    assert_eq!(demo(scratch.path(), &[]).0, 0, "whole, it is served");

    let config = fs::read_to_string(whole.join("config.json")).unwrap();
    fs::write(scratch.path().join("config.json"), config.replace("\"bert\"", "\"deberta\"")).unwrap();
    refused("`model_type` is \"deberta\", expected one of the families that are known: bert, electra");
    fs::write(scratch.path().join("config.json"), config).unwrap();

    fs::rename(scratch.path().join("tokenizer.json"), scratch.path().join("tokens.json")).unwrap();
    refused("tokenizer.json: there is no such file");
    fs::rename(scratch.path().join("tokens.json"), scratch.path().join("tokenizer.json")).unwrap();

    // What stands in the head is right; the numbers are read when the block is loaded.
    let mut weights = fs::read(whole.join("model.safetensors")).unwrap();
    let data = 8 + usize::try_from(u64::from_le_bytes(*weights.first_chunk().unwrap())).unwrap();
    weights[data..data + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(scratch.path().join("model.safetensors"), weights).unwrap();
    refused("infinite or not a number");

    let (status, _, err) = demo(&scratch.path().join("nowhere"), &[]);
    assert_eq!(status, BAD_INPUT);
    assert!(err.contains("config.json: there is no such file"), "{err}");
}

#[test]
fn what_is_cut_is_told() {
    let scratch = tempfile::tempdir().unwrap();
    let sentences = scratch.path().join("sentences.txt");
    fs::write(&sentences, format!("{}\nthe cat\n", "a dog and a cat ".repeat(20))).unwrap();
    let (status, out, err) =
        demo(&data().join("fixtures/bert_mean"), &["--text", sentences.to_str().unwrap()]);
    assert_eq!((status, json(out)["sentences_cut"].as_u64()), (0, Some(1)));
    assert!(err.contains("warning: 1 of 2 sentences were cut: the model takes 32 tokens"), "{err}");
}
