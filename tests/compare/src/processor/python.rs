//! The libraries from Python, in processes that are asked for one round after the other.

use crate::Result;
use crate::drive::Round;
use crate::peer::Peer;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPT: &str = include_str!("processor.py");

/// A library in a precision.
#[derive(Clone, Copy, Debug)]
pub(super) enum System {
    OnnxRuntime,
    OnnxRuntimeInt8,
    PyTorch,
    PyTorchBf16,
}

impl System {
    /// The first is what the others are compared with.
    pub(super) const ALL: [Self; 4] =
        [Self::OnnxRuntime, Self::OnnxRuntimeInt8, Self::PyTorch, Self::PyTorchBf16];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "ONNX Runtime, Python",
            Self::OnnxRuntimeInt8 => "ONNX Runtime int8, Python",
            Self::PyTorch => "PyTorch, Python",
            Self::PyTorchBf16 => "PyTorch bf16, Python",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "onnxruntime",
            Self::OnnxRuntimeInt8 => "onnxruntime-int8",
            Self::PyTorch => "pytorch",
            Self::PyTorchBf16 => "pytorch-bf16",
        }
    }
}

/// A Python that has both libraries, and the folder of the graphs.
pub(super) struct Python {
    program: PathBuf,
    model: Option<PathBuf>,
    out: PathBuf,
}

impl Python {
    /// Writes the graphs that ONNX Runtime is asked to run.
    pub(super) fn prepare(python: &Path, model: Option<&Path>, out: &Path) -> Result<Self> {
        std::fs::create_dir_all(out)?;
        #[cfg(feature = "ort")]
        if let Some(folder) = model {
            use skep_backend_ort::blocks::TextModel;
            use skep_backend_ort::models::{Model, Precision};
            let text =
                TextModel { model: std::sync::Arc::new(Model::read(folder)?), precision: Precision::F32 };
            // Where the script looks for it.
            text.save(out.join("minilm.onnx")).map_err(|error| error.to_string())?;
        }
        let status = Command::new(python).args(["-c", SCRIPT, "prepare"]).arg(out).status()?;
        if !status.success() {
            return Err(format!("the graphs cannot be written: {status}").into());
        }
        Ok(Self { program: python.to_owned(), model: model.map(Path::to_owned), out: out.to_owned() })
    }

    /// Starts a library at one kind of batch.
    pub(super) fn start<'a>(
        &self,
        system: System,
        workload: &str,
        rows: usize,
        tokens: usize,
        threads: usize,
    ) -> Result<Round<'a>> {
        let numbers = [rows, tokens, threads].map(|number| number.to_string());
        let mut command = Command::new(&self.program);
        command
            .args(["-c", SCRIPT, system.key()])
            .arg(&self.out)
            .arg(self.model.as_deref().unwrap_or(Path::new("")))
            .arg(workload)
            .args(numbers)
            .env("OMP_NUM_THREADS", threads.to_string());
        Ok(Peer::start(system.name(), command)?.round())
    }
}
