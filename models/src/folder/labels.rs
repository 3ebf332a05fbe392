//! What a classifier's numbers stand for, and what is done with them.

use crate::description::{Activation, Kind};
use crate::error::Result;
use crate::folder::sentence::Sentence;
use crate::folder::settings::Settings;
use crate::folder::torch::torch_activation;
use crate::model::{Labels, Scores};
use serde_json::{Value, json};

/// More are no model's.
const MAX_LABELS: usize = 1 << 20;

/// The labels of a classifier.
#[derive(Debug)]
pub(crate) struct Labelled {
    /// How many numbers come out.
    pub(crate) count: usize,
    /// `None` for an embedding model.
    pub(crate) labels: Option<Labels>,
}

/// Reads the labels in `config.json`, and what the folder says is done with their numbers.
pub(crate) fn read(
    config: &mut Settings,
    sentence: &Sentence,
    architecture: Option<&str>,
    kind: Kind,
) -> Result<Labelled> {
    let problem = config.optional_text("problem_type")?;
    let own = names(config)?;
    let count = config.optional_size("num_labels")?.or(config.optional_size("_num_labels")?);
    // Where cross-encoders kept it before version 6, and before 4.
    let mut activation = sentence.activation;
    if let Some(mut inner) = config.optional_inner("sentence_transformers")? {
        inner.skip(&["version"]);
        activation = activation.or(torch_activation(&mut inner, "activation_fn")?);
        inner.finish()?;
    }
    activation = activation.or(torch_activation(config, "sbert_ce_default_activation_function")?);
    if kind == Kind::Embedding {
        return Ok(Labelled { count: 0, labels: None });
    }
    let of_class = |suffix: &str| architecture == Some(suffix);
    let default = match (count, kind) {
        (Some(count), _) => count,
        // A cross-encoder that was no classifier gets one label.
        (None, Kind::Sequence) if !of_class("ForSequenceClassification") => 1,
        _ => 2,
    };
    let names = own.unwrap_or_else(|| (0..default.min(MAX_LABELS)).map(|i| format!("LABEL_{i}")).collect());
    if let Some(count) = count.filter(|count| *count != names.len()) {
        let expected = format!("{}, the number of `id2label`", names.len());
        return Err(config.invalid("num_labels", &json!(count), expected));
    }
    let one = names.len() == 1;
    let pipeline = match problem.as_deref() {
        Some("regression") => Scores::AsTheyAre,
        Some("multi_label_classification") => Scores::Each(Activation::Sigmoid),
        None if one => Scores::Each(Activation::Sigmoid),
        None | Some("single_label_classification") => Scores::Softmax,
        Some(other) => {
            let expected = "regression, single_label_classification or multi_label_classification";
            return Err(config.invalid("problem_type", &json!(other), expected));
        }
    };
    // One label's softmax is 1 whatever the model says.
    let pipeline =
        if one && pipeline == Scores::Softmax { Scores::Each(Activation::Sigmoid) } else { pipeline };
    let pair = match activation {
        Some(Activation::Identity) => Scores::AsTheyAre,
        Some(activation) => Scores::Each(activation),
        None if one => Scores::Each(Activation::Sigmoid),
        None => Scores::AsTheyAre,
    };
    let is_cross_encoder = sentence.is_cross_encoder() || activation.is_some();
    let classify = if is_cross_encoder && kind == Kind::Sequence { pair } else { pipeline };
    Ok(Labelled {
        count: names.len(),
        labels: Some(Labels { names, classify, rank: pair, pairs: is_cross_encoder }),
    })
}

/// `id2label`, whose keys are 0, 1, 2 …; `label2id` says the same the other way.
fn names(config: &mut Settings) -> Result<Option<Vec<String>>> {
    let back = config.optional_inner("label2id")?;
    let Some(inner) = config.optional_inner("id2label")? else { return Ok(None) };
    let map = inner.rest();
    let mut names = vec![None; map.len()];
    for (id, name) in &map {
        let place = id.parse::<usize>().ok().and_then(|id| names.get_mut(id));
        // What Python writes of a number as a label.
        let text = match name {
            Value::String(name) => Some(name.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let (Some(place @ None), Some(text)) = (place, text) else {
            let expected = format!("a text, and keys from 0 to {}", map.len().saturating_sub(1));
            return Err(config.invalid(&format!("id2label.{id}"), name, expected));
        };
        *place = Some(text);
    }
    let names: Vec<String> = names.into_iter().flatten().collect();
    if names.is_empty() {
        return Err(config.invalid("id2label", &json!({}), "a label at least"));
    }
    for (name, id) in back.map(Settings::rest).unwrap_or_default() {
        let place = id.as_u64().and_then(|id| usize::try_from(id).ok());
        if place.and_then(|place| names.get(place)) != Some(&name) {
            let expected = "the place that `id2label` gives this label";
            return Err(config.invalid(&format!("label2id.{name}"), &id, expected));
        }
    }
    Ok(Some(names))
}
