//! Where `tokenizer_config.json` and `tokenizer.json` both say how texts are taken apart, they say the same.

use crate::error::Result;
use crate::folder::tokenizer::TokenizerFile;
use crate::folder::tokenizer_config::{Claim, TokenizerConfig};
use serde_json::{Value, json};

/// Refuses a claim that the other file contradicts: one version of the library goes by one, and one by the other.
pub(crate) fn check(file: &TokenizerFile, claim: &Claim, config: &TokenizerConfig) -> Result<()> {
    let (path, key, part) = match claim.key {
        "do_lower_case" => ("normalizer", "lowercase", "BertNormalizer"),
        "strip_accents" => ("normalizer", "strip_accents", "BertNormalizer"),
        "tokenize_chinese_chars" => ("normalizer", "handle_chinese_chars", "BertNormalizer"),
        "add_prefix_space" => ("pre_tokenizer", "add_prefix_space", "ByteLevel"),
        "trim_offsets" => ("post_processor", "trim_offsets", "RobertaProcessing"),
        "add_bos_token" | "add_eos_token" => return check_ends(file, claim, config),
        _ => return Ok(()),
    };
    let root = file.part(path);
    let Some(found) = find(&root, part) else {
        if claim.key == "add_prefix_space"
            && let Some(space) = find(&root, "Metaspace")
        {
            let scheme = if claim.value == json!(true) { "never" } else { "always" };
            if space["prepend_scheme"] == scheme {
                return Err(file.invalid(
                    &format!("{path}.prepend_scheme"),
                    &space["prepend_scheme"],
                    says(claim),
                ));
            }
        }
        return Ok(());
    };
    if found[key] == claim.value {
        return Ok(());
    }
    Err(file.invalid(&format!("{path}.{key}"), &found[key], says(claim)))
}

fn says(claim: &Claim) -> String {
    format!("what tokenizer_config.json says: `{}` is {}", claim.key, claim.value)
}

/// Asked to put a token at an end, the library makes a template of its own.
fn check_ends(file: &TokenizerFile, claim: &Claim, config: &TokenizerConfig) -> Result<()> {
    let name = if claim.key == "add_bos_token" { "bos_token" } else { "eos_token" };
    let token = config.named.iter().find(|(named, _)| *named == name).map(|(_, token)| token);
    match token {
        Some(token) if claim.value == json!(true) && !file.template.contains_key(token) => {
            let expected = format!("{token:?} at an end of the text, as {}", says(claim));
            Err(file.invalid("post_processor", &file.part("post_processor"), expected))
        }
        _ => Ok(()),
    }
}

/// The first part of this type, in a part and in those in it.
fn find<'a>(value: &'a Value, kind: &str) -> Option<&'a Value> {
    if value["type"] == kind {
        return Some(value);
    }
    let lists = ["normalizers", "pretokenizers", "processors"];
    let mut parts = lists.iter().filter_map(|list| value[*list].as_array()).flatten();
    parts.find_map(|part| find(part, kind))
}
