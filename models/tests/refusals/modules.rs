//! The files of sentence-transformers.

use crate::common::Copy;
use crate::{refused, set};
use serde_json::json;

#[test]
fn modules_that_are_not_known() {
    let change = |i: usize, key: &'static str, value: &str| {
        let value = json!(value);
        Copy::of("bert_mean").edit("modules.json", move |modules| modules[i][key] = value)
    };
    for kind in ["WeightedLayerPooling", "CNN", "LSTM", "WordEmbeddings", "CLIPModel", "StaticEmbedding"] {
        let name = format!("sentence_transformers.models.{kind}");
        refused(&change(1, "type", &name), &["modules.json", "1.type", kind, "Dense"]);
    }
    refused(&change(2, "type", "my_package.Normalize"), &["2.type", "my_package.Normalize"]);
    refused(&change(1, "path", "../1_Pooling"), &["1.path", "in this one"]);
    refused(&change(1, "type", "sentence_transformers.models.Normalize"), &["1.type", "Pooling"]);
    let without = Copy::of("bert_mean").edit("modules.json", |modules| {
        modules.as_array_mut().unwrap().truncate(1);
    });
    refused(&without, &["modules.json", "a Pooling after the Transformer"]);
    refused(&Copy::of("bert_mean").write("modules.json", "[]"), &["modules.json", "a list of modules"]);
}

#[test]
fn poolings_and_dense_layers_that_are_not_known() {
    let pooling = |key, value| Copy::of("bert_mean").edit("1_Pooling/config.json", set(key, value));
    refused(
        &pooling("pooling_mode", json!("attention")),
        &["1_Pooling", "pooling_mode", "attention", "lasttoken"],
    );
    refused(&pooling("pooling_mode", json!(["mean", 3])), &["pooling_mode"]);
    refused(&pooling("embedding_dimension", json!(384)), &["embedding_dimension", "384", "12"]);
    let dense = |key, value| Copy::of("bert_joined_dense").edit("2_Dense/config.json", set(key, value));
    refused(
        &dense("activation_function", json!("my.Swish")),
        &["2_Dense", "activation_function", "my.Swish", "GELU"],
    );
    refused(&dense("in_features", json!(12)), &["in_features", "36"]);
    refused(&dense("out_features", json!(7)), &["2_Dense", "linear.weight", "[6, 36]"]);
    refused(&dense("use_residual", json!(true)), &["use_residual"]);
    refused(&dense("module_input_name", json!("token_embeddings")), &["module_input_name"]);
}

#[test]
fn settings_of_sentence_transformers_that_are_not_known() {
    let sentence =
        |key, value| Copy::of("bert_mean").edit("config_sentence_transformers.json", set(key, value));
    refused(
        &sentence("model_type", json!("SparseEncoder")),
        &["model_type", "SparseEncoder", "CrossEncoder"],
    );
    refused(&sentence("similarity_fn_name", json!("maxsim")), &["similarity_fn_name", "maxsim"]);
    refused(&sentence("default_prompt_name", json!("q")), &["default_prompt_name", "document, query"]);
    refused(&sentence("truncate_dim", json!(13)), &["truncate_dim", "13", "12"]);
    let first = |key, value| Copy::of("bert_mean").edit("sentence_bert_config.json", set(key, value));
    let message = json!({"message": {"method": "forward", "method_output_name": "last_hidden_state"}});
    refused(&first("modality_config", message), &["modality_config.message"]);
    refused(&first("query_length", json!(16)), &["query_length"]);
    refused(&first("transformer_task", json!("fill-mask")), &["transformer_task"]);
    let template =
        Copy::of("bert_without_modules").edit("tokenizer_config.json", set("chat_template", json!("{{x}}")));
    refused(&template, &["tokenizer_config.json", "chat_template", "ignored_keys"]);
}
