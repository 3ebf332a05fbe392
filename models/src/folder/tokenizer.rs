//! `tokenizer.json`: looked through before the library builds it, so that it is known what it does and that it can do
//! no harm.

use crate::error::{ModelError, Result, shown};
use crate::folder::files;
use crate::folder::precompiled;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The largest that are published have a quarter of it.
const MAX_FILE: u64 = 128 << 20;

const NORMALIZERS: &[&str] = &[
    "BertNormalizer",
    "ByteLevel",
    "Lowercase",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Nmt",
    "Precompiled",
    "Prepend",
    "Replace",
    "Sequence",
    "Strip",
    "StripAccents",
];
const PRE_TOKENIZERS: &[&str] = &[
    "BertPreTokenizer",
    "ByteLevel",
    "CharDelimiterSplit",
    "Digits",
    "Metaspace",
    "Punctuation",
    "Sequence",
    "Split",
    "UnicodeScripts",
    "Whitespace",
    "WhitespaceSplit",
];
const POST_PROCESSORS: &[&str] =
    &["BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing"];
const MODELS: &[&str] = &["BPE", "Unigram", "WordLevel", "WordPiece"];

/// A tokenizer's file, looked through.
#[derive(Debug)]
pub(crate) struct TokenizerFile {
    pub(crate) file: PathBuf,
    /// Without what is not for encoding.
    pub(crate) json: Map<String, Value>,
    /// Whether it cuts on the left.
    pub(crate) cut_left: Option<bool>,
    /// The id that it pads with.
    pub(crate) pad: Option<u32>,
    /// Tokens that the template puts around a text, and their ids.
    pub(crate) template: BTreeMap<String, u32>,
    /// The types that the template gives.
    pub(crate) largest_type: u32,
    /// Whether there is a template for two texts.
    pub(crate) pairs: bool,
}

impl TokenizerFile {
    /// Reads the file, if it is there.
    pub(crate) fn read(file: &Path) -> Result<Option<Self>> {
        let Some(bytes) = files::read(file, MAX_FILE)? else { return Ok(None) };
        let json = match files::parse(file, &bytes)? {
            Value::Object(json) => json,
            other => return Err(ModelError::form(file, shown(&other), "an object of keys and values")),
        };
        drop(bytes);
        let mut read = Self {
            file: file.to_owned(),
            json,
            cut_left: None,
            pad: None,
            template: BTreeMap::new(),
            largest_type: 0,
            pairs: false,
        };
        read.look_through()?;
        Ok(Some(read))
    }

    pub(crate) fn invalid(&self, key: &str, got: &Value, expected: impl Into<String>) -> ModelError {
        ModelError::value(&self.file, key, shown(got), expected)
    }

    fn look_through(&mut self) -> Result<()> {
        let known = [
            "version",
            "truncation",
            "padding",
            "added_tokens",
            "normalizer",
            "pre_tokenizer",
            "post_processor",
            "decoder",
            "model",
        ];
        if let Some((key, value)) = self.json.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            return Err(ModelError::UnknownKey {
                file: self.file.clone(),
                key: key.clone(),
                got: shown(value),
                known: known.join(", "),
            });
        }
        // How long texts are cut and padded to is the caller's, and text is never made of ids.
        let truncation = self.json.insert("truncation".to_owned(), Value::Null).unwrap_or_default();
        let padding = self.json.insert("padding".to_owned(), Value::Null).unwrap_or_default();
        self.json.insert("decoder".to_owned(), Value::Null);
        self.cut_left = match truncation.get("direction").and_then(Value::as_str) {
            None => None,
            Some("Right" | "right") => Some(false),
            Some("Left" | "left") => Some(true),
            Some(other) => return Err(self.invalid("truncation.direction", &json!(other), "Left or Right")),
        };
        self.pad = padding.get("pad_id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());

        self.component("normalizer", &self.part("normalizer"), NORMALIZERS, "normalizers")?;
        self.component("pre_tokenizer", &self.part("pre_tokenizer"), PRE_TOKENIZERS, "pretokenizers")?;
        self.component("post_processor", &self.part("post_processor"), POST_PROCESSORS, "processors")?;
        self.model()?;
        self.processor("post_processor", &self.part("post_processor"))
    }

    /// A part of the file; null if it is not there.
    pub(crate) fn part(&self, key: &str) -> Value {
        self.json.get(key).cloned().unwrap_or_default()
    }

    /// Refuses types that are not known, in a part and in those in it.
    fn component(&self, path: &str, value: &Value, known: &[&str], list: &str) -> Result<()> {
        if value.is_null() {
            return Ok(());
        }
        let name = value["type"].as_str().unwrap_or_default();
        if !known.contains(&name) {
            let expected = format!("one of {}", known.join(", "));
            return Err(self.invalid(&format!("{path}.type"), &value["type"], expected));
        }
        if name == "Sequence" {
            let parts = value[list].as_array();
            let parts =
                parts.ok_or_else(|| self.invalid(&format!("{path}.{list}"), &value[list], "a list"))?;
            for (i, part) in parts.iter().enumerate() {
                self.component(&format!("{path}.{i}"), part, known, list)?;
            }
        }
        if name == "Precompiled" {
            let key = "precompiled_charsmap";
            let fault = match value[key].as_str() {
                Some(text) => precompiled::fault(text),
                None => Some("missing"),
            };
            if let Some(fault) = fault {
                let expected = "a table of SentencePiece in base64";
                return Err(ModelError::value(&self.file, format!("{path}.{key}"), fault, expected));
            }
        }
        // A pattern of nothing is found everywhere and without an end.
        for pattern in ["String", "Regex"] {
            if value["pattern"][pattern].as_str() == Some("") {
                return Err(self.invalid(
                    &format!("{path}.pattern"),
                    &value["pattern"],
                    "a text to look for",
                ));
            }
        }
        Ok(())
    }

    fn model(&self) -> Result<()> {
        let Some(model) = self.json.get("model").filter(|model| model.is_object()) else {
            let expected = "the vocabulary, as an object of keys and values";
            return Err(self.invalid("model", &self.part("model"), expected));
        };
        // Files of before 2020 leave the type out; it shows in the other keys.
        if let Some(kind) = model.get("type")
            && !kind.as_str().is_some_and(|kind| MODELS.contains(&kind))
        {
            return Err(self.invalid("model.type", kind, format!("one of {}", MODELS.join(", "))));
        }
        // Ids would differ from call to call.
        if let Some(dropout) = model.get("dropout")
            && !dropout.is_null()
            && dropout.as_f64() != Some(0.0)
        {
            return Err(self.invalid("model.dropout", dropout, "null: ids must not be drawn at random"));
        }
        if model["type"] == "WordPiece" || model["type"] == "WordLevel" {
            let unknown = model["unk_token"].as_str().unwrap_or_default();
            if model["vocab"].get(unknown).is_none() {
                let expected = "a token of the vocabulary";
                return Err(self.invalid("model.unk_token", &model["unk_token"], expected));
            }
        }
        if model["type"] == "Unigram" {
            let pieces = model["vocab"].as_array().map_or(0, Vec::len) as u64;
            if model["unk_id"].as_u64().is_none_or(|id| id >= pieces) {
                let expected = format!("the place of a piece among {pieces}");
                return Err(self.invalid("model.unk_id", &model["unk_id"], expected));
            }
        }
        Ok(())
    }

    /// Finds what is put around texts.
    fn processor(&mut self, path: &str, value: &Value) -> Result<()> {
        match value["type"].as_str() {
            Some("Sequence") => {
                for (i, part) in value["processors"].as_array().into_iter().flatten().enumerate() {
                    self.processor(&format!("{path}.{i}"), part)?;
                }
                Ok(())
            }
            Some(kind @ ("BertProcessing" | "RobertaProcessing")) => {
                for key in ["sep", "cls"] {
                    let token = value[key].get(0).and_then(Value::as_str);
                    let id = value[key].get(1).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
                    let (Some(token), Some(id)) = (token, id) else {
                        return Err(self.invalid(
                            &format!("{path}.{key}"),
                            &value[key],
                            "a token and its id",
                        ));
                    };
                    self.template.insert(token.to_owned(), id);
                }
                self.largest_type = self.largest_type.max(u32::from(kind == "BertProcessing"));
                self.pairs = true;
                Ok(())
            }
            Some("TemplateProcessing") => self.template_processor(path, value),
            _ => Ok(()),
        }
    }

    fn template_processor(&mut self, path: &str, value: &Value) -> Result<()> {
        for (name, sequences) in [("single", &["A"][..]), ("pair", &["A", "B"])] {
            let pieces = value[name].as_array().cloned().unwrap_or_default();
            // The library may be given no template for pairs.
            if name == "pair" && pieces.is_empty() {
                continue;
            }
            let mut seen = Vec::new();
            for piece in &pieces {
                let key = format!("{path}.{name}");
                let invalid =
                    || self.invalid(&key, piece, "a SpecialToken of this file, or a Sequence A or B");
                let (part, is_sequence) = match (piece.get("Sequence"), piece.get("SpecialToken")) {
                    (Some(part), None) => (part, true),
                    (None, Some(part)) => (part, false),
                    _ => return Err(invalid()),
                };
                let kind = part["type_id"].as_u64().and_then(|kind| u32::try_from(kind).ok());
                let (Some(id), Some(kind)) = (part["id"].as_str(), kind) else { return Err(invalid()) };
                if is_sequence {
                    seen.push(id.to_owned());
                } else {
                    let token = self.special(path, value, id)?;
                    self.template.insert(id.to_owned(), token);
                }
                self.largest_type = self.largest_type.max(kind);
            }
            if seen.len() != sequences.len() || !sequences.iter().all(|name| seen.iter().any(|s| s == name)) {
                let expected = format!("{} once each", sequences.join(" and "));
                return Err(self.invalid(&format!("{path}.{name}"), &json!(seen), expected));
            }
            self.pairs |= name == "pair";
        }
        Ok(())
    }

    /// The id of a token of a template, which stands for itself and nothing else.
    fn special(&self, path: &str, value: &Value, name: &str) -> Result<u32> {
        let entry = &value["special_tokens"][name];
        let id = match entry["ids"].as_array().map(Vec::as_slice) {
            Some([id]) => id.as_u64().and_then(|id| u32::try_from(id).ok()),
            _ => None,
        };
        let same = entry["tokens"] == json!([name]) && entry["id"] == json!(name);
        id.filter(|_| same).ok_or_else(|| {
            let expected = format!("`{name}` and its id, once");
            self.invalid(&format!("{path}.special_tokens.{name}"), entry, expected)
        })
    }
}
