//! How tasks of different sizes share a batch: padded to one, or laid end to end.

use super::lengths::{Lengths, Ragged};
use super::plan::{Plan, Sizes};
use crate::contract::backend::{BlockInfo, Pass};
use crate::contract::error::control::StartError;
use crate::contract::padding::Padding;

/// The rule of one pool, looked up once. Without one, all tasks of a batch have the same sizes.
pub(crate) enum Sharing {
    Padded(Plan),
    Ragged(Ragged),
}

/// How a batch was gathered.
pub(crate) enum Laid {
    Padded(Sizes),
    Ragged(Lengths),
}

impl Sharing {
    pub(crate) fn new(
        padding: Option<Padding>,
        info: &BlockInfo,
        pass: Pass,
        pool: &str,
    ) -> Result<Option<Self>, StartError> {
        let takes =
            info.takes(pass).map_err(|source| StartError::Schema { block: info.name.clone(), source })?;
        match (padding, takes.offsets().is_some()) {
            (None, false) => Ok(None),
            (None, true) => Ok(Some(Self::Ragged(Ragged::new(&takes, &info.inputs)))),
            (Some(padding), false) => {
                Plan::new(padding, info, pass, pool).map(|plan| Some(Self::Padded(plan)))
            }
            (Some(_), true) => Err(StartError::Setting {
                of: format!("pool `{pool}`"),
                setting: "padding",
                got: "padding".to_owned(),
                expected: "none: the block takes tasks laid end to end",
            }),
        }
    }
}
