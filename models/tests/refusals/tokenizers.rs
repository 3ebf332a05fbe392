//! Tokenizers that are another model's, or do something else.

use crate::common::{self, Copy};
use crate::{refused, set};
use serde_json::{Value, json};
use std::fs;

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
