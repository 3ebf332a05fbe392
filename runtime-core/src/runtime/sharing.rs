//! How tasks of different sizes share a batch: padded to one, or laid end to end.

use super::batch::CutBatch;
use super::plan::{Plan, Sizes};
use super::ragged::{Lengths, Ragged};
use crate::contract::backend::{BlockInfo, Pass};
use crate::contract::error::control::StartError;
use crate::contract::padding::Padding;
use crate::contract::schema::TensorSpec;
use smallvec::SmallVec;
use std::ops::Range;

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

/// What tasks have along dim 0.
pub(crate) type Spans = SmallVec<[usize; 1]>;

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

impl<T> CutBatch<T> {
    /// What some of the tasks have along dim 0 of the output at `at`: rows, or elements if the output is laid end to end.
    pub(crate) fn spans(&self, at: usize, tasks: Range<usize>) -> Spans {
        let headers = self.headers.get(tasks.clone()).unwrap_or_default();
        let mut spans = Spans::with_capacity(headers.len());
        match self.lengths().filter(|_| self.is_laid(at)) {
            Some(lengths) => {
                let lengths = lengths.of(tasks).iter();
                spans.extend(headers.iter().zip(lengths).map(|(header, length)| header.rows * length));
            }
            // Pushed, because that costs less: measured.
            None => headers.iter().for_each(|header| spans.push(header.rows)),
        }
        spans
    }

    /// Returns true if the output at `at` is laid end to end.
    pub(crate) fn is_laid(&self, at: usize) -> bool {
        self.lengths().is_some()
            && self.station.gives().and_then(|promised| promised.get(at)).is_some_and(TensorSpec::is_laid)
    }

    pub(crate) fn lengths(&self) -> Option<&Lengths> {
        match self.laid.as_deref() {
            Some(Laid::Ragged(lengths)) => Some(lengths),
            Some(Laid::Padded(_)) | None => None,
        }
    }
}
