//! Heads of classifiers that several families have.

use crate::description::{Activation, Pool, Step};
use crate::error::Result;
use crate::families::family::{Head, HeadSizes};
use crate::folder::parameters::{Bias, Under};
use crate::folder::settings::Settings;

/// The first token through `pooler.dense`, a tanh and `classifier`.
pub(super) fn pooler_and_classifier(
    _: &mut Settings,
    all: &mut Under<'_>,
    sizes: &HeadSizes<'_>,
) -> Result<Head> {
    let pooler = format!("{}pooler.dense", sizes.prefix);
    let steps = vec![
        Step::Linear(all.linear(&pooler, sizes.hidden, sizes.hidden, Bias::Yes)?),
        Step::Activation(Activation::Tanh),
        Step::Linear(all.linear("classifier", sizes.hidden, sizes.labels, Bias::Yes)?),
    ];
    Ok(Head { pooling: vec![Pool::First], steps })
}

/// The first token through `classifier.dense`, an activation and `classifier.out_proj`.
pub(super) fn dense_and_classifier(
    all: &mut Under<'_>,
    sizes: &HeadSizes<'_>,
    activation: Activation,
) -> Result<Head> {
    let steps = vec![
        Step::Linear(all.linear("classifier.dense", sizes.hidden, sizes.hidden, Bias::Yes)?),
        Step::Activation(activation),
        Step::Linear(all.linear("classifier.out_proj", sizes.hidden, sizes.labels, Bias::Yes)?),
    ];
    Ok(Head { pooling: vec![Pool::First], steps })
}

/// Each token through `classifier`.
pub(super) fn classifier(_: &mut Settings, all: &mut Under<'_>, sizes: &HeadSizes<'_>) -> Result<Head> {
    let steps = vec![Step::Linear(all.linear("classifier", sizes.hidden, sizes.labels, Bias::Yes)?)];
    Ok(Head { pooling: Vec::new(), steps })
}
