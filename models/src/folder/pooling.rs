//! The settings of sentence-transformers' Pooling.

use crate::description::Pool;
use crate::error::Result;
use crate::folder::files::Folder;
use serde_json::{Value, json};

/// The booleans of before version 6, in the order in which what they ask for is joined.
const OLD_POOLS: [(&str, Pool); 6] = [
    ("pooling_mode_cls_token", Pool::First),
    ("pooling_mode_max_tokens", Pool::Max),
    ("pooling_mode_mean_tokens", Pool::Mean),
    ("pooling_mode_mean_sqrt_len_tokens", Pool::MeanSqrt),
    ("pooling_mode_weightedmean_tokens", Pool::WeightedMean),
    ("pooling_mode_lasttoken", Pool::Last),
];

/// Reads the settings of a Pooling module: the ways in their order, and whether a prompt is left out of them.
pub(crate) fn read(folder: &Folder, hidden: usize) -> Result<(Vec<Pool>, bool)> {
    let mut settings = folder.settings("config.json", "the settings of the pooling")?;
    for key in ["embedding_dimension", "word_embedding_dimension"] {
        if let Some(size) = settings.optional_size(key)?
            && size != hidden
        {
            return Err(settings.invalid(key, &json!(size), format!("{hidden}, the model's hidden size")));
        }
    }
    let mut old = Vec::new();
    for (key, pool) in OLD_POOLS {
        if settings.flag_or(key, false)? {
            old.push(pool);
        }
    }
    let pools = match settings.take("pooling_mode") {
        None if old.is_empty() => vec![Pool::Mean],
        None => old,
        Some(value) => {
            let names = match &value {
                Value::Array(names) if !names.is_empty() => names.clone(),
                name => vec![name.clone()],
            };
            let pools: Option<Vec<Pool>> = names.iter().map(|name| pool_of(name.as_str()?)).collect();
            let expected =
                "cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken, or a list of these";
            pools.ok_or_else(|| settings.invalid("pooling_mode", &value, expected))?
        }
    };
    // What is joined is as long as all of them together: a list without an end is no model's.
    if pools.len() > OLD_POOLS.len() {
        return Err(settings.invalid("pooling_mode", &json!(pools.len()), "at most 6 ways"));
    }
    let without_prompt = !settings.flag_or("include_prompt", true)?;
    settings.finish()?;
    Ok((pools, without_prompt))
}

fn pool_of(name: &str) -> Option<Pool> {
    Some(match name {
        "cls" => Pool::First,
        "max" => Pool::Max,
        "mean" => Pool::Mean,
        "mean_sqrt_len_tokens" => Pool::MeanSqrt,
        "weightedmean" => Pool::WeightedMean,
        "lasttoken" => Pool::Last,
        _ => return None,
    })
}
