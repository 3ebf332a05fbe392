//! `tokenizer_config.json`: what `transformers` says about a tokenizer beside `tokenizer.json`.

use crate::error::Result;
use crate::folder::files::Folder;
use crate::folder::settings::{MAX_SIZE, Settings};
use serde_json::{Value, json};

const FILE: &str = "tokenizer_config.json";

/// Keys that say nothing about the ids of a text.
const WITHOUT_INFLUENCE: &[&str] = &[
    "backend",
    "clean_up_tokenization_spaces",
    "cls_token_box",
    "device_map",
    "do_basic_tokenize",
    "errors",
    "extra_ids",
    "from_slow",
    "fix_mistral_regex",
    "is_local",
    "legacy",
    "local_files_only",
    // Of the call that saved it; a call that cuts says so itself.
    "max_length",
    "name_or_path",
    "never_split",
    "pad_to_multiple_of",
    "pad_token_type_id",
    "padding",
    "padding_side",
    "processor_class",
    "sp_model_kwargs",
    "special_tokens_map_file",
    "stride",
    "tokenizer_file",
    "truncation",
    "truncation_strategy",
    "use_fast",
    "vocab_file",
    "vocab_size",
    "auto_map",
];

/// Named tokens: each must be in the vocabulary, or the library would make a new one.
const NAMED: [&str; 7] =
    ["unk_token", "sep_token", "pad_token", "cls_token", "mask_token", "bos_token", "eos_token"];

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct TokenizerConfig {
    /// The class of tokenizer, without `Fast`.
    pub(crate) class: Option<String>,
    pub(crate) max_tokens: Option<usize>,
    /// Whether texts that are too long are cut on the left.
    pub(crate) cut_left: Option<bool>,
    /// Whether the model is given the types of tokens, where the file says so.
    pub(crate) token_types: Option<bool>,
    /// Tokens by the name of their use.
    pub(crate) named: Vec<(&'static str, String)>,
    /// Ids and the tokens that have them.
    pub(crate) added: Vec<(u32, String)>,
    /// What may also stand in `tokenizer.json`, under the name that it has there.
    pub(crate) claims: Vec<Claim>,
    pub(crate) has_template: bool,
}

/// A setting that `tokenizer.json` must have as well.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) key: &'static str,
    pub(crate) value: Value,
}

impl TokenizerConfig {
    /// Reads the file, if it is there.
    pub(crate) fn read(folder: &Folder) -> Result<Self> {
        let Some(mut settings) = folder.optional_settings(FILE)? else { return Ok(Self::default()) };
        settings.skip(WITHOUT_INFLUENCE);
        settings.only("split_special_tokens", &[json!(false)])?;
        let class = settings.optional_text("tokenizer_class")?;
        let class = class.map(|class| class.strip_suffix("Fast").unwrap_or(&class).to_owned());
        let cut_left = match settings.optional_text("truncation_side")?.as_deref() {
            None => None,
            Some("right") => Some(false),
            Some("left") => Some(true),
            Some(other) => return Err(settings.invalid("truncation_side", &json!(other), "left or right")),
        };
        let mut config = Self {
            class,
            max_tokens: limit(&mut settings, "model_max_length")?.or(limit(&mut settings, "max_len")?),
            cut_left,
            token_types: inputs(&mut settings)?,
            ..Self::default()
        };
        for name in NAMED {
            if let Some(value) = settings.take(name) {
                let token = content(&value).ok_or_else(|| settings.invalid(name, &value, "a token"))?;
                config.named.push((name, token));
            }
        }
        for key in ["additional_special_tokens", "extra_special_tokens"] {
            for token in extra(&mut settings, key)? {
                config.named.push((key, token));
            }
        }
        if let Some(inner) = settings.optional_inner("added_tokens_decoder")? {
            for (id, token) in inner.rest() {
                let parsed = id.parse().ok().zip(content(&token));
                let key = format!("added_tokens_decoder.{id}");
                config
                    .added
                    .push(parsed.ok_or_else(|| settings.invalid(&key, &token, "a token, and an id"))?);
            }
        }
        let keys = [
            "do_lower_case",
            "strip_accents",
            "tokenize_chinese_chars",
            "add_prefix_space",
            "trim_offsets",
            "add_bos_token",
            "add_eos_token",
        ];
        for key in keys {
            if let Some(value) = settings.take(key) {
                if !value.is_boolean() {
                    return Err(settings.invalid(key, &value, "true or false"));
                }
                config.claims.push(Claim { key, value });
            }
        }
        // Of embedding models some have one and are not asked through it: the first module's settings say so.
        config.has_template = settings.take("chat_template").is_some() || folder.has("chat_template.jinja");
        settings.finish()?;
        Ok(config)
    }
}

/// A number of tokens; those that stand for no limit are 10 to the power of 30.
fn limit(settings: &mut Settings, key: &str) -> Result<Option<usize>> {
    let Some(value) = settings.take(key) else { return Ok(None) };
    match (value.as_f64(), value.as_u64().and_then(|number| usize::try_from(number).ok())) {
        (_, Some(number)) if (1..=MAX_SIZE).contains(&number) => Ok(Some(number)),
        (Some(number), _) if number > MAX_SIZE as f64 => Ok(None),
        _ => Err(settings.invalid(key, &value, "a number of tokens, at least 1")),
    }
}

/// Whether the types of tokens are among the model's inputs.
fn inputs(settings: &mut Settings) -> Result<Option<bool>> {
    let Some(list) = settings.optional_list("model_input_names")? else { return Ok(None) };
    let known = ["input_ids", "attention_mask", "token_type_ids", "special_tokens_mask"];
    match list.iter().find(|name| !name.as_str().is_some_and(|name| known.contains(&name))) {
        Some(other) => {
            Err(settings.invalid("model_input_names", other, format!("one of {}", known.join(", "))))
        }
        None => Ok(Some(list.iter().any(|name| name.as_str() == Some("token_type_ids")))),
    }
}

/// The text of a token, which may stand with its properties.
fn content(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned)
}

/// Further tokens, in a list or by name.
fn extra(settings: &mut Settings, key: &str) -> Result<Vec<String>> {
    let Some(value) = settings.take(key) else { return Ok(Vec::new()) };
    let tokens: Option<Vec<String>> = match &value {
        Value::Array(list) => list.iter().map(content).collect(),
        Value::Object(map) => map.values().map(content).collect(),
        _ => None,
    };
    tokens.ok_or_else(|| settings.invalid(key, &value, "a list of tokens"))
}
