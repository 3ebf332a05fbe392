//! Folders that are refused, each with a message that names the file, the key, what stands there and what would be
//! right. None of them is served.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;
mod files;
mod modules;
mod tokenizers;

use common::Copy;
use serde_json::{Value, json};
use skep_models::{Model, ReadOptions};
use std::fs;

/// The refusal of a folder has all these words.
#[track_caller]
fn refused(folder: &Copy, words: &[&str]) {
    let error = match Model::read(folder.path()) {
        Ok(model) => panic!("was read: {:?}", model.notes()),
        Err(error) => error,
    };
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

fn set(key: &'static str, value: Value) -> impl FnOnce(&mut Value) {
    move |settings| settings[key] = value
}

fn unset(key: &'static str) -> impl FnOnce(&mut Value) {
    move |settings| {
        settings.as_object_mut().unwrap().remove(key);
    }
}

/// A change of `config.json` of a folder of one family.
#[track_caller]
fn config_refused(name: &str, change: impl FnOnce(&mut Value), words: &[&str]) {
    refused(&Copy::of(name).edit("config.json", change), &[&["config.json"], words].concat());
}

#[test]
fn what_is_not_damaged_is_read() {
    for entry in fs::read_dir(common::fixtures()).unwrap() {
        Model::read(entry.unwrap().path()).unwrap();
    }
}

#[test]
fn families_that_are_not_known() {
    for family in ["t5", "deberta-v2", "albert", "xlnet", "new", "gemma3_text"] {
        config_refused(
            "bert_mean",
            set("model_type", json!(family)),
            &["`model_type`", family, "modernbert"],
        );
    }
    config_refused("bert_mean", unset("model_type"), &["`model_type` is missing"]);
}

#[test]
fn an_encoder_of_another_family_under_the_same_names() {
    let renamed = Copy::of("electra_embedding").edit("config.json", |config| {
        config["model_type"] = json!("bert");
        config["architectures"] = json!(["BertModel"]);
    });
    refused(&renamed, &["model.safetensors", "embeddings.word_embeddings.weight", "[72, 8]", "[72, 12]"]);
    let renamed = Copy::of("nomic_bert_embedding").edit("config.json", |config| {
        config["model_type"] = json!("bert");
        config["architectures"] = json!(["BertModel"]);
    });
    refused(&renamed, &["model.safetensors", "embeddings.position_embeddings.weight", "is missing"]);
}

#[test]
fn architectures_that_answer_something_else() {
    for task in ["BertForQuestionAnswering", "BertForMultipleChoice", "BertForNextSentencePrediction"] {
        config_refused(
            "bert_without_modules",
            set("architectures", json!([task])),
            &["architectures", "…For"],
        );
    }
    let task = json!(["JinaBertModel"]);
    config_refused("bert_without_modules", set("architectures", task), &["JinaBertModel", "BertModel"]);
}

#[test]
fn positions_that_are_not_absolute() {
    for kind in ["relative_key", "relative_key_query", "alibi"] {
        config_refused("bert_mean", set("position_embedding_type", json!(kind)), &[kind, "\"absolute\""]);
    }
}

#[test]
fn tables_of_relative_positions_whose_key_is_gone() {
    let folder = Copy::of("bert_without_modules").edit_head("model.safetensors", |head| {
        let entry = head["pooler.dense.bias"].take();
        head["encoder.layer.0.attention.self.distance_embedding.weight"] = entry;
        head.as_object_mut().unwrap().remove("pooler.dense.bias");
    });
    refused(&folder, &["distance_embedding.weight", "left over"]);
}

#[test]
fn fewer_layers_than_the_file_has() {
    let folder = Copy::of("bert_mean").edit("config.json", set("num_hidden_layers", json!(1)));
    refused(&folder, &["model.safetensors", "encoder.layer.1.", "left over", "and 15 more"]);
    let folder = Copy::of("bert_mean").edit("config.json", set("num_hidden_layers", json!(3)));
    refused(&folder, &["model.safetensors", "encoder.layer.2.", "is missing"]);
}

#[test]
fn sizes_that_are_not_those_of_the_file() {
    config_refused_by_weights("vocab_size", json!(74), "[72, 12]");
    config_refused_by_weights("intermediate_size", json!(15), "[14, 12]");
    config_refused_by_weights("max_position_embeddings", json!(512), "[32, 12]");
    config_refused_by_weights("type_vocab_size", json!(1), "[2, 12]");
    config_refused_by_weights("hidden_size", json!(16), "[72, 12]");
}

#[track_caller]
fn config_refused_by_weights(key: &'static str, value: Value, got: &str) {
    refused(&Copy::of("bert_mean").edit("config.json", set(key, value)), &["model.safetensors", got]);
}

#[test]
fn sizes_that_no_model_has() {
    for value in [json!(0), json!(-1), json!(1.5), json!("12"), json!(1_u64 << 40), json!([12]), json!({})] {
        config_refused("bert_mean", set("hidden_size", value), &["`hidden_size`", "a whole number from 1"]);
    }
    config_refused("bert_mean", set("num_attention_heads", json!(5)), &["num_attention_heads", "divisor"]);
    config_refused("bert_mean", set("layer_norm_eps", json!(-1e-5)), &["layer_norm_eps", "above 0"]);
    config_refused("qwen3_embedding", set("head_dim", json!(5)), &["head_dim", "even"]);
    config_refused(
        "qwen3_embedding",
        set("num_key_value_heads", json!(3)),
        &["num_key_value_heads", "divisor"],
    );
}

#[test]
fn keys_that_are_not_known() {
    config_refused(
        "bert_mean",
        set("attention_sinks", json!(4)),
        &["attention_sinks", "not known", "hidden_size"],
    );
    let folder = Copy::of("bert_mean").edit("config.json", set("attention_sinks", json!(4)));
    let options = ReadOptions { ignored_keys: vec!["attention_sinks".to_owned()] };
    Model::read_with(folder.path(), &options).unwrap();
    for file in ["sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json"] {
        let folder = Copy::of("bert_mean").edit(file, set("novelty", json!(true)));
        refused(&folder, &[file, "`novelty`", "true"]);
    }
    let folder = Copy::of("bert_mean").edit("tokenizer.json", set("novelty", json!(true)));
    refused(&folder, &["tokenizer.json", "`novelty`"]);
}

#[test]
fn what_changes_a_forward_pass() {
    config_refused("bert_mean", set("is_decoder", json!(true)), &["is_decoder", "false"]);
    config_refused("bert_mean", set("quantization_config", json!({"bits": 4})), &["quantization_config"]);
    config_refused(
        "bert_mean",
        set("hidden_act", json!("gelu_10")),
        &["hidden_act", "gelu_10", "quick_gelu"],
    );
    config_refused("bert_mean", set("auto_map", json!({"AutoModel": "m.M"})), &["auto_map"]);
    config_refused("qwen3_embedding", set("use_sliding_window", json!(true)), &["use_sliding_window"]);
    let scaled = json!({"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4});
    config_refused("qwen3_embedding", set("rope_parameters", scaled), &["rope_parameters.rope_type", "yarn"]);
    config_refused(
        "nomic_bert_published",
        set("rotary_scaling_factor", json!(2)),
        &["rotary_scaling_factor"],
    );
    config_refused(
        "modernbert_embedding",
        set("layer_types", json!(["full_attention"])),
        &["layer_types", "4 times"],
    );
    config_refused("mpnet_embedding", set("relative_attention_num_buckets", json!(16)), &["32"]);
}

#[test]
fn labels_that_do_not_go_together() {
    let labels = |change: &dyn Fn(&mut Value)| Copy::of("bert_sequence").edit("config.json", |it| change(it));
    refused(&labels(&|it| it["id2label"] = json!({"0": "a", "2": "b"})), &["id2label.2"]);
    refused(&labels(&|it| it["label2id"]["red"] = json!(2)), &["label2id.red"]);
    refused(&labels(&|it| it["id2label"]["0"] = json!([])), &["id2label.0"]);
    refused(&labels(&|it| it["num_labels"] = json!(7)), &["num_labels", "7", "3"]);
    refused(&labels(&|it| it["problem_type"] = json!("ranking")), &["problem_type", "ranking", "regression"]);
    // The classifier has three.
    let two = labels(&|it| {
        it["id2label"] = json!({"0": "red", "1": "green"});
        it["label2id"] = json!({"red": 0, "green": 1});
    });
    refused(&two, &["classifier.weight", "[3, 12]", "[2, 12]"]);
    let activation = json!({"activation_fn": "my.Activation", "version": "4.1.0"});
    let other =
        Copy::of("bert_cross_encoder_labels").edit("config.json", set("sentence_transformers", activation));
    refused(&other, &["sentence_transformers.activation_fn", "my.Activation"]);
    let modules = fs::read(common::fixtures().join("bert_mean/modules.json")).unwrap();
    let more = Copy::of("bert_cross_encoder").write("modules.json", modules);
    refused(&more, &["modules.json", "nothing after the Transformer"]);
}

#[test]
fn classifiers_without_a_classifier() {
    let folder = Copy::of("bert_without_modules").edit("config.json", |config| {
        config["architectures"] = json!(["BertForSequenceClassification"]);
    });
    refused(&folder, &["model.safetensors", "classifier.weight", "is missing"]);
}
