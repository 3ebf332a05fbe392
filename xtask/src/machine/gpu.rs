//! The GPUs of this machine, as their driver tells.

use std::process::{Command, Stdio};

/// Whether there is one.
pub(crate) fn is_there() -> bool {
    ask(&["--list-gpus"]).is_some_and(|gpus| !gpus.is_empty())
}

/// Each with its driver's version.
pub(crate) fn names() -> Vec<String> {
    let told = ask(&["--query-gpu=name,driver_version", "--format=csv,noheader"]).unwrap_or_default();
    told.lines().map(|gpu| gpu.replace(", ", ", driver ")).collect()
}

/// What nvidia-smi answers.
fn ask(arguments: &[&str]) -> Option<String> {
    let answer = Command::new("nvidia-smi").args(arguments).stderr(Stdio::null()).output().ok()?;
    answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).into_owned())
}
