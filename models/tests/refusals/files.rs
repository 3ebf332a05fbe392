//! Files that are missing, torn, or in a form that is not read.

use crate::common::{self, Copy};
use crate::{refused, set};
use serde_json::{Value, json};
use skep_models::Model;
use std::fs;

#[test]
fn files_that_are_missing() {
    refused(&Copy::of("bert_mean").remove("config.json"), &["config.json", "no such file"]);
    refused(&Copy::of("bert_mean").remove("model.safetensors"), &["model.safetensors", "no such file"]);
    refused(&Copy::of("bert_mean").remove("1_Pooling"), &["1_Pooling", "the settings of the pooling"]);
    refused(
        &Copy::of("bert_joined_dense").remove("2_Dense/model.safetensors"),
        &["2_Dense", "weights of the module"],
    );
    refused(&Copy::of("bert_sharded").remove("model-00002-of-00002.safetensors"), &["00002", "no such file"]);
    // Texts cannot be read, and only that is refused.
    assert!(Model::read(Copy::of("bert_mean").remove("tokenizer.json").path()).unwrap().tokens().is_none());
}

#[test]
fn pickles() {
    let folder = Copy::of("bert_mean").rename("model.safetensors", "pytorch_model.bin");
    refused(&folder, &["pytorch_model.bin", "can run code", "safe_serialization"]);
    let folder =
        Copy::of("bert_joined_dense").rename("2_Dense/model.safetensors", "2_Dense/pytorch_model.bin");
    refused(&folder, &["2_Dense", "pytorch_model.bin", "can run code"]);
}

#[test]
fn pointers_of_git_lfs() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 90868376\n";
    for file in ["model.safetensors", "tokenizer.json", "config.json"] {
        refused(&Copy::of("bert_mean").write(file, pointer), &[file, "git-lfs", "git lfs pull"]);
    }
}

#[test]
fn torn_files() {
    let whole = fs::read(common::fixtures().join("bert_mean/model.safetensors")).unwrap();
    for length in [0, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
        let folder = Copy::of("bert_mean").write("model.safetensors", &whole[..length]);
        refused(&folder, &["model.safetensors"]);
    }
    let longer = [&whole[..], &[0; 4]].concat();
    refused(&Copy::of("bert_mean").write("model.safetensors", longer), &["bytes of tensors"]);
    for file in
        ["config.json", "tokenizer.json", "modules.json", "tokenizer_config.json", "1_Pooling/config.json"]
    {
        let text = fs::read(common::fixtures().join("bert_mean").join(file)).unwrap();
        let folder = Copy::of("bert_mean").write(file, &text[..text.len() / 2]);
        refused(&folder, &[file, "is not JSON", "EOF"]);
    }
    refused(&Copy::of("bert_mean").write("config.json", "[]"), &["config.json", "an object of keys"]);
}

#[test]
fn heads_that_lie() {
    let name = "embeddings.word_embeddings.weight";
    let folder = |change: &dyn Fn(&mut Value)| {
        Copy::of("bert_mean").edit_head("model.safetensors", |head| change(&mut head[name]))
    };
    refused(&folder(&|entry| entry["shape"] = json!([73, 13])), &[name, "data_offsets", "bytes for f32"]);
    refused(&folder(&|entry| entry["shape"] = json!([1_u64 << 40, 1_u64 << 40])), &[name]);
    refused(&folder(&|entry| entry["dtype"] = json!("F8_E4M3")), &[name, "dtype", "F8_E4M3"]);
    refused(&folder(&|entry| entry["dtype"] = json!("I32")), &[name, "of dtype i32"]);
    refused(&folder(&|entry| entry["data_offsets"] = json!([0])), &[name, "data_offsets"]);
    refused(&folder(&|entry| *entry = json!(3)), &[name]);
}

#[test]
fn weights_that_are_no_numbers() {
    let mut bytes = fs::read(common::fixtures().join("bert_mean/model.safetensors")).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    let folder = Copy::of("bert_mean").write("model.safetensors", bytes);
    let model = Model::read(folder.path()).unwrap();
    let names: Vec<_> = model.weights().names().collect();
    let errors: Vec<_> = names.iter().filter_map(|name| model.weights().tensor(name).err()).collect();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].to_string().contains("infinite or not a number"), "{}", errors[0]);
}

#[test]
fn shards_that_do_not_go_together() {
    let index = "model.safetensors.index.json";
    let moved = |shard: Value| {
        Copy::of("bert_sharded").edit(index, |it| it["weight_map"]["embeddings.LayerNorm.bias"] = shard)
    };
    refused(
        &moved(json!("model-00002-of-00002.safetensors")),
        &[index, "weight_map.embeddings.LayerNorm.bias"],
    );
    refused(&moved(json!("../model.safetensors")), &[index, "beside it"]);
    refused(&moved(json!("/etc/passwd")), &[index, "beside it"]);
    refused(&moved(json!(1)), &[index, "beside it"]);
    let more = Copy::of("bert_sharded").edit(index, |it| {
        it["weight_map"]["more"] = json!("model-00001-of-00002.safetensors");
    });
    refused(&more, &[index, "weight_map.more"]);
    refused(&Copy::of("bert_sharded").edit(index, set("weight_map", json!([]))), &[index, "`weight_map`"]);
}
