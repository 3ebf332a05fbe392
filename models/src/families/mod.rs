//! Families of models: how each reads its `config.json` and names its parameters.
//!
//! A family is one file with one [`Family`] in it, listed in [`ALL`]. It takes every key that it honours, skips those
//! that have no influence on answers, and fills in an [`Encoder`]. What all of `transformers`' models share is read in
//! [`common`].

mod bert;
mod common;
mod distilbert;
mod family;
mod heads;
mod modernbert;
mod mpnet;
mod nomic_bert;
mod qwen3;
mod roberta;

use crate::error::{ModelError, Result};
use crate::folder::settings::Settings;
use serde_json::Value;

pub(crate) use family::{Family, Head, HeadSizes};

/// Every family that there is.
const ALL: [&Family; 8] = [
    &bert::BERT,
    &bert::ELECTRA,
    &roberta::ROBERTA,
    &distilbert::DISTILBERT,
    &mpnet::MPNET,
    &modernbert::MODERNBERT,
    &nomic_bert::NOMIC,
    &qwen3::QWEN3,
];

/// The family that `config.json` names, and the name.
pub(crate) fn find(config: &mut Settings) -> Result<(&'static Family, String)> {
    let known: Vec<&str> = ALL.iter().flat_map(|family| family.names).copied().collect();
    let expected = format!("one of the families that are known: {}", known.join(", "));
    let name = config.text("model_type", &expected)?;
    match ALL.iter().find(|family| family.names.contains(&name.as_str())) {
        Some(family) => Ok((family, name)),
        None => Err(ModelError::value(config.file(), "model_type", format!("{name:?}"), expected)),
    }
}

/// The last part of the architecture's name (`ForSequenceClassification`), if the file has one and it is one of this
/// family's.
pub(crate) fn architecture(config: &mut Settings, family: &Family) -> Result<Option<String>> {
    let Some(list) = config.optional_list("architectures")? else { return Ok(None) };
    let [Value::String(name)] = &*list else {
        return Err(config.invalid("architectures", &Value::Array(list.clone()), "a list of one name"));
    };
    let starts = family.architectures.iter().filter_map(|start| name.strip_prefix(start));
    // `XLMRoberta` is no `Roberta`, and `ModernBert` no `Bert`: the rest begins with what it is for.
    let known = ["Model", "For", "LMHeadModel"];
    if let Some(rest) = starts.into_iter().find(|rest| known.iter().any(|known| rest.starts_with(known))) {
        return Ok(Some(rest.to_owned()));
    }
    let expected = format!(
        "an architecture of `model_type` {}: {}Model, …ForSequenceClassification, …ForTokenClassification",
        family.names[0], family.architectures[0]
    );
    Err(config.invalid("architectures", &Value::String(name.clone()), expected))
}
