//! `skep.toml`: what a model says of itself.

use crate::folder::error::PlanError;
use crate::settings::WhenFull;
use crate::units::Time;
use serde::Deserialize;
use skep_pool::PoolOptions;
use skep_runtime_core::{PadTo, Padding, Priority};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The file's keys.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Manifest {
    pub(crate) name: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) precision: Option<String>,
    pub(crate) token_vectors: Option<bool>,
    pub(crate) rows: Option<Rows>,
    pub(crate) weights: Option<String>,
    pub(crate) settings: BTreeMap<String, toml::Value>,
    pub(crate) pool: Pool,
    pub(crate) when_full: Option<WhenFull>,
    pub(crate) wait_limit: Option<Time>,
    pub(crate) warm_up: Option<bool>,
    pub(crate) optional: bool,
}

/// The options of the pool, under the names that they have there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Pool {
    max_rows: Option<usize>,
    max_elements: Option<usize>,
    min_rows: Option<usize>,
    max_delay: Option<Time>,
    capacity: Option<usize>,
    capacity_rows: Option<usize>,
    reserve: Option<usize>,
    eviction: Option<bool>,
    priority: Option<i32>,
    split_large_tasks: Option<bool>,
    finite_inputs: Option<bool>,
    pub(crate) padding: Option<Pads>,
}

/// How texts of different lengths share batches.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Rows {
    /// Filled up.
    Padded,
    /// Laid end to end.
    Ragged,
}

/// A rule by which tasks of different sizes share batches.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Pads {
    to: To,
    #[serde(default)]
    values: BTreeMap<String, f64>,
    mask: Option<String>,
}

/// The size to which is padded, as people write it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected \"longest\", a multiple like 8, or sizes like [16, 64]")]
enum To {
    Name(Name),
    Multiple(usize),
    Buckets(Vec<usize>),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Name {
    Longest,
}

impl Pads {
    fn rule(&self) -> Padding {
        let to = match &self.to {
            To::Name(Name::Longest) => PadTo::Longest,
            To::Multiple(of) => PadTo::Multiple(*of),
            To::Buckets(sizes) => PadTo::Buckets(sizes.clone()),
        };
        let values = self.values.iter();
        let rule = values.fold(Padding::new(to), |rule, (input, value)| rule.with_value(input, *value));
        self.mask.iter().fold(rule, Padding::with_mask)
    }
}

impl Manifest {
    /// Reads the file; `None` if there is none.
    pub(crate) fn read(file: &Path) -> Result<Option<Self>, PlanError> {
        match std::fs::read_to_string(file) {
            Ok(text) => match toml::from_str(&text) {
                Ok(manifest) => Ok(Some(manifest)),
                Err(error) => Err(PlanError::File {
                    file: file.to_owned(),
                    reason: error.to_string().trim_end().to_owned(),
                }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(PlanError::Unreadable { path: file.to_owned(), source }),
        }
    }
}

impl Pool {
    /// The options, with the defaults of a server: tasks that are larger than a batch are split.
    pub(crate) fn options(&self) -> PoolOptions {
        let default = PoolOptions::default();
        let mut options = default
            .split_large_tasks(self.split_large_tasks.unwrap_or(true))
            .max_delay(self.max_delay.map(|time| time.0))
            .capacity_rows(self.capacity_rows)
            .max_elements(self.max_elements)
            .padding(self.padding.as_ref().map(Pads::rule))
            .finite_inputs(self.finite_inputs);
        options.max_rows = self.max_rows.unwrap_or(options.max_rows);
        options.min_rows = self.min_rows.unwrap_or(options.min_rows);
        options.capacity = self.capacity.unwrap_or(options.capacity);
        options.reserve = self.reserve.unwrap_or(options.reserve);
        options.eviction = self.eviction.unwrap_or(options.eviction);
        options.priority = self.priority.map_or(options.priority, Priority);
        options
    }
}
