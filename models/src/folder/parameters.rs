//! Parameters as families ask for them: looked up, measured, and ticked off, so that what is left over is seen.

use crate::description::{Linear, Norm, NormKind, Table};
use crate::error::{ModelError, Result};
use crate::weights::Weights;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The tensors of a folder, and which of them the model uses.
#[derive(Debug)]
pub(crate) struct Parameters {
    pub(crate) weights: Weights,
    used: BTreeSet<String>,
    /// The weights file, for messages about what is not in it.
    file: PathBuf,
}

/// Whether a layer has a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bias {
    Yes,
    No,
}

impl From<bool> for Bias {
    fn from(there: bool) -> Self {
        if there { Self::Yes } else { Self::No }
    }
}

impl Parameters {
    pub(crate) fn new(weights: Weights, file: PathBuf) -> Self {
        Self { weights, used: BTreeSet::new(), file }
    }

    /// The parameters whose names begin so.
    pub(crate) fn under(&mut self, prefix: impl Into<String>) -> Under<'_> {
        Under { parameters: self, prefix: prefix.into() }
    }

    /// Those of the encoder, which stand under one of these prefixes: `probe` is in each of them.
    pub(crate) fn encoder(&self, prefixes: &[&str], probe: &str) -> Result<String> {
        let has = |prefix: &&&str| self.weights.contains(&format!("{prefix}{probe}"));
        match prefixes.iter().find(has) {
            Some(prefix) => Ok((*prefix).to_owned()),
            None => Err(self.missing(probe, "")),
        }
    }

    fn missing(&self, name: &str, of: &str) -> ModelError {
        let expected = format!("a tensor{of}, which the sizes in config.json ask for");
        ModelError::NoKey { file: self.file.clone(), key: name.to_owned(), expected }
    }

    /// The tensors that nobody uses, but for those whose names begin with one of `known`; an error for the others.
    pub(crate) fn finish(&self, known: &[String]) -> Result<Vec<String>> {
        let left = self.weights.names().filter(|name| !self.used.contains(*name));
        let (known, unknown): (Vec<&str>, Vec<&str>) =
            left.partition(|name| known.iter().any(|known| name.starts_with(known.as_str())));
        let Some(first) = unknown.first() else {
            return Ok(known.into_iter().map(str::to_owned).collect());
        };
        let more = match unknown.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        let (file, name) = self.weights.place(first).unwrap_or((&self.file, first));
        let expected = "only tensors that the model of config.json has: nothing would be computed with it";
        Err(ModelError::value(file, format!("{name}{more}"), "left over", expected))
    }

    fn take(&mut self, name: &str, expected: &[usize]) -> Result<String> {
        let Some(dims) = self.weights.dims(name) else {
            return Err(self.missing(name, &format!(" of dims {expected:?}")));
        };
        let dtype = self.weights.dtype(name);
        let (file, stored) = self.weights.place(name).unwrap_or((&self.file, name));
        if dims != expected {
            let got = format!("of dims {dims:?}");
            return Err(ModelError::value(file, stored, got, format!("{expected:?}, as the settings say")));
        }
        if !dtype.is_some_and(skep_runtime_core::DType::is_float) {
            let got = dtype.map_or_else(String::new, |dtype| format!("of dtype {dtype}"));
            return Err(ModelError::value(file, stored, got, "f32, f16, bf16 or f64"));
        }
        self.used.insert(name.to_owned());
        Ok(name.to_owned())
    }
}

/// The parameters whose names begin in one way.
#[derive(Debug)]
pub(crate) struct Under<'a> {
    parameters: &'a mut Parameters,
    prefix: String,
}

impl Under<'_> {
    /// Those further below.
    pub(crate) fn under(&mut self, name: &str) -> Under<'_> {
        Under { prefix: format!("{}{name}", self.prefix), parameters: self.parameters }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.parameters.weights.contains(&self.full(name))
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(crate) fn table(&mut self, name: &str, rows: usize, size: usize) -> Result<Table> {
        let name = self.parameters.take(&self.full(&format!("{name}.weight")), &[rows, size])?;
        Ok(Table { name, rows, size })
    }

    pub(crate) fn linear(&mut self, name: &str, input: usize, output: usize, bias: Bias) -> Result<Linear> {
        let weight = self.parameters.take(&self.full(&format!("{name}.weight")), &[output, input])?;
        let bias = match bias {
            Bias::Yes => Some(self.parameters.take(&self.full(&format!("{name}.bias")), &[output])?),
            Bias::No => None,
        };
        Ok(Linear { weight, bias, input, output })
    }

    /// A layer norm; `gamma` and `beta` are its parameters in old files.
    pub(crate) fn norm(&mut self, name: &str, size: usize, eps: f64, bias: Bias) -> Result<Norm> {
        let old = self.has(&format!("{name}.gamma"));
        let [weight, offset] = if old { ["gamma", "beta"] } else { ["weight", "bias"] };
        let weight = self.parameters.take(&self.full(&format!("{name}.{weight}")), &[size])?;
        let bias = match bias {
            Bias::Yes => Some(self.parameters.take(&self.full(&format!("{name}.{offset}")), &[size])?),
            Bias::No => None,
        };
        Ok(Norm { kind: NormKind::Layer, weight, bias, size, eps })
    }

    pub(crate) fn rms_norm(&mut self, name: &str, size: usize, eps: f64) -> Result<Norm> {
        let norm = self.norm(name, size, eps, Bias::No)?;
        Ok(Norm { kind: NormKind::RootMeanSquare, ..norm })
    }
}
