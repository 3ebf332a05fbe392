//! What a bundle says about itself, in its file `bundle.json`: written where it is packed, read where it runs.

use crate::combination::choice::{self, Choice};
use crate::combination::table::{self, Backend, Combination, Device};
use crate::error::Error;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Where the folders of a bundle keep programs and libraries.
pub(crate) const PROGRAMS: &str = "bin";
pub(crate) const LIBRARIES: &str = "lib";

/// The file's name.
const FILE: &str = "bundle.json";

/// What is in a bundle.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) combination: &'static Combination,
    /// Versions of what it was built from and with.
    pub(crate) origin: String,
    pub(crate) programs: Vec<Program>,
    /// What `cargo xtask test` runs and a bundle cannot, and why.
    pub(crate) left_out: Vec<String>,
}

/// One program of a bundle.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Program {
    pub(crate) kind: Kind,
    /// Its package's folder, and its own name where that is another: `tests candle`.
    pub(crate) name: String,
}

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Test,
    Bench,
    Demo,
}

impl Kind {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Test, "test"), (Self::Bench, "bench"), (Self::Demo, "demo")];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }
}

impl Program {
    /// Its file in the folder of programs.
    pub(crate) fn file(&self) -> String {
        format!("{}-{}", self.kind.name(), self.name.replace(' ', "-"))
    }
}

impl Manifest {
    pub(crate) fn write(&self, folder: &Path) -> Result<(), Error> {
        let programs: Vec<_> =
            self.programs.iter().map(|it| json!({ "kind": it.kind.name(), "name": it.name })).collect();
        let value = json!({
            "backend": choice::name(&self.combination.backend),
            "device": choice::name(&self.combination.device),
            "origin": self.origin,
            "programs": programs,
            "left_out": self.left_out,
        });
        let file = folder.join(FILE);
        fs::write(&file, format!("{value:#}\n")).map_err(Error::file("write", &file))
    }

    pub(crate) fn read(folder: &Path) -> Result<Self, Error> {
        let file = folder.join(FILE);
        let text = fs::read_to_string(&file).map_err(Error::file("read", &file))?;
        let value = serde_json::from_str(&text).unwrap_or_default();
        Self::from_json(&value).ok_or(Error::NoBundle { path: file })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let backend: Backend = choice::one(value["backend"].as_str()?).ok()?;
        let device: Device = choice::one(value["device"].as_str()?).ok()?;
        let program = |program: &Value| {
            let (kind, _) = Kind::ALL.into_iter().find(|(_, name)| program["kind"] == *name)?;
            Some(Program { kind, name: text(&program["name"])? })
        };
        Some(Self {
            combination: table::select(Choice::One(backend), Choice::One(device)).pop()?,
            origin: text(&value["origin"])?,
            programs: value["programs"].as_array()?.iter().map(program).collect::<Option<_>>()?,
            left_out: value["left_out"].as_array()?.iter().map(text).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let programs = [(Kind::Test, "pool"), (Kind::Bench, "tests device"), (Kind::Demo, "digits")]
            .map(|(kind, name)| Program { kind, name: name.to_owned() });
        let written = Manifest {
            combination: table::select(Choice::One(Backend::Tch), Choice::One(Device::Cuda))[0],
            origin: "skep 0.1.0".to_owned(),
            programs: programs.to_vec(),
            left_out: vec!["one thing".to_owned()],
        };
        written.write(folder.path()).unwrap();
        let read = Manifest::read(folder.path()).unwrap();
        assert_eq!(read.combination.to_string(), "tch cuda");
        assert_eq!((read.origin, read.left_out), (written.origin, written.left_out));
        assert_eq!(read.programs, programs);
        assert_eq!(read.programs[1].file(), "bench-tests-device");
    }

    #[test]
    fn a_file_that_is_no_manifest_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Manifest::read(folder.path()).unwrap_err().told();
        assert!(error.starts_with("cannot read ") && error.contains("bundle.json"), "{error}");
        for text in ["{torn", "{}", r#"{"backend": "candle", "device": "abacus"}"#] {
            fs::write(folder.path().join(FILE), text).unwrap();
            let error = Manifest::read(folder.path()).unwrap_err().told();
            assert!(
                error.ends_with("bundle.json is not what a bundle says of itself: pack it again"),
                "{error}"
            );
        }
    }
}
