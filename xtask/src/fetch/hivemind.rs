//! A Python environment with hivemind, beside which Skep is measured.

use crate::fetch::cache;
use crate::machine::process::run;
use crate::machine::python;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// hivemind as it is compared with, and the torch that it runs on.
const HIVEMIND: [&str; 2] = ["hivemind==1.1.12", "torch==2.11.0"];

/// The Python of an environment that has hivemind, made where it is not there yet; or why there is none.
pub(crate) fn environment(target: &Path) -> Result<PathBuf, String> {
    if !cfg!(target_os = "linux") {
        return Err("hivemind is driven through /proc, which only Linux has".to_owned());
    }
    let folder = cache::folder(|name| env::var_os(name), target);
    let python = |folder: &Path| folder.join("bin").join("python");
    let has_hivemind = |folder: &Path| {
        let import = Command::new(python(folder))
            .args(["-c", "import hivemind"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        import.is_ok_and(|status| status.success())
    };
    let made = cache::whole(&folder, "hivemind-1.1.12", has_hivemind, |work| {
        let base = python::with_pip()?;
        eprintln!("making a Python environment with hivemind: about 2.5 GB to download");
        let folder = work.join("environment");
        run(Command::new(base).args(["-m", "venv"]).arg(&folder))?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(python(&folder)).args(install).args(HIVEMIND))?;
        Ok(folder)
    });
    made.map(|folder| python(&folder)).map_err(|error| error.told())
}
