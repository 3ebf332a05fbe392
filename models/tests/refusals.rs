//! Folders that are refused, each with a message that names the file, the key, what stands there and what would be
//! right. None of them is served.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

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

#[test]
fn tokenizers_of_another_model() {
    let roberta = fs::read(common::fixtures().join("roberta_embedding/tokenizer.json")).unwrap();
    let folder =
        Copy::of("bert_without_modules").write("tokenizer.json", roberta).remove("tokenizer_config.json");
    refused(&folder, &["tokenizer.json", "`vocab_size`", "another model's"]);
    let smaller = fs::read(common::fixtures().join("bert_mean/tokenizer.json")).unwrap();
    let folder =
        Copy::of("roberta_embedding").write("tokenizer.json", smaller).remove("tokenizer_config.json");
    refused(&folder, &["tokenizer.json", "half of the", "another model's"]);
}

#[test]
fn tokenizers_that_contradict_their_settings() {
    let folder = |key, value| Copy::of("bert_mean").edit("tokenizer_config.json", set(key, value));
    refused(&folder("do_lower_case", json!(false)), &["normalizer.lowercase", "`do_lower_case` is false"]);
    refused(&folder("strip_accents", json!(true)), &["normalizer.strip_accents"]);
    refused(&folder("tokenize_chinese_chars", json!(false)), &["handle_chinese_chars"]);
    refused(&folder("cls_token", json!("<cls>")), &["tokenizer_config.json", "cls_token", "<cls>"]);
    refused(&folder("pad_token", json!("[UNK]")), &["tokenizer.json", "token 1", "pad_token_id"]);
    refused(&folder("added_tokens_decoder", json!({"7": {"content": "[CLS]"}})), &["added_tokens_decoder.7"]);
    refused(&folder("model_max_length", json!(0)), &["model_max_length"]);
    refused(&folder("model_max_length", json!(2)), &["more than the 2 that are put around"]);
    let roberta =
        Copy::of("roberta_embedding").edit("tokenizer_config.json", set("add_prefix_space", json!(true)));
    refused(&roberta, &["add_prefix_space"]);
}

#[test]
fn tokenizers_that_do_something_else() {
    let folder = |change: &dyn Fn(&mut Value)| Copy::of("bert_mean").edit("tokenizer.json", |it| change(it));
    refused(
        &folder(&|it| it["normalizer"] = json!({"type": "Magic"})),
        &["normalizer.type", "Magic", "NFKC"],
    );
    refused(
        &folder(&|it| it["pre_tokenizer"] = json!({"type": "FixedLength", "length": 0})),
        &["FixedLength"],
    );
    refused(&folder(&|it| it["model"]["type"] = json!("Lattice")), &["model.type", "Lattice", "WordPiece"]);
    refused(&folder(&|it| it["model"]["unk_token"] = json!("[NONE]")), &["model.unk_token", "[NONE]"]);
    refused(&folder(&|it| it["post_processor"] = Value::Null), &["post_processor", "BertTokenizer"]);
    let id = |it: &mut Value| it["post_processor"]["special_tokens"]["[CLS]"]["ids"] = json!([9]);
    refused(&folder(&id), &["post_processor", "[CLS]", "id 9"]);
    let kind = |it: &mut Value| it["post_processor"]["pair"][3]["Sequence"]["type_id"] = json!(2);
    refused(&folder(&kind), &["post_processor", "type 2", "type_vocab_size"]);
    let dropout =
        Copy::of("roberta_embedding").edit("tokenizer.json", |it| it["model"]["dropout"] = json!(0.1));
    refused(&dropout, &["model.dropout", "0.1"]);
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
