//! What a bundle does where it runs: that which `cargo xtask test`, `bench` and `demo` do in the workspace, with
//! the same tables, but with programs that are there instead of cargo.

use crate::benchmark::results::Results;
use crate::benchmark::{criterion, measure};
use crate::bundle::manifest::{Kind, LIBRARIES, Manifest, PROGRAMS, Program};
use crate::combination::choice;
use crate::combination::need::Need;
use crate::combination::table::{Backend, Device};
use crate::demos::{self, DEMOS};
use crate::error::Error;
use crate::fetch::{cuda, libtorch, sentence_model};
use crate::machine::libraries;
use crate::machine::process::{run, tell_cores};
use crate::machine::python::PythonLibraries;
use crate::report::summary::Summary;
use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// An unpacked bundle on a machine that can run it.
pub(crate) struct Bundle {
    folder: PathBuf,
    pub(crate) manifest: Manifest,
    /// Where its programs find their libraries.
    libraries: Vec<PathBuf>,
}

impl Bundle {
    /// The bundle of this manifest in its folder, on a machine that can run it; else what the machine lacks.
    pub(crate) fn open(folder: PathBuf, manifest: Manifest) -> Result<Self, (Manifest, String)> {
        match find_libraries(&manifest, &folder) {
            Ok(libraries) => Ok(Self { folder, manifest, libraries }),
            Err(lack) => Err((manifest, lack)),
        }
    }

    pub(crate) fn test(&self, summary: &mut Summary) {
        let model = self.model();
        let combination = self.manifest.combination;
        summary.run(combination, "test", || {
            self.each(Kind::Test, |command| {
                match &model {
                    Ok(folder) => command.env(sentence_model::VARIABLE, folder),
                    Err(_) => command.env_remove(sentence_model::VARIABLE),
                };
            })
        });
        if let Err(error) = &model {
            summary.skip(combination, "test of real embeddings", &error.told());
        }
        for left_out in &self.manifest.left_out {
            println!("not packed: {left_out}");
        }
    }

    pub(crate) fn bench(
        &self,
        quick: bool,
        filter: Option<&str>,
        summary: &mut Summary,
    ) -> Result<(), Error> {
        let combination = self.manifest.combination;
        let (folder, start) = (measure::folder(&self.folder, combination), SystemTime::now());
        summary.run(combination, "bench", || {
            self.each(Kind::Bench, |command| {
                // As cargo does it: without, criterion only tries each benchmark once.
                command.arg("--bench").args(measure::arguments(quick, filter)).env(measure::HOME, &folder);
            })
        });
        let mut results = Results::default();
        results.add(combination, &criterion::read(&folder, start)?, &folder);
        print!("{results}");
        Ok(())
    }

    /// A demo to run, whose name is the first argument where that is no option.
    pub(crate) fn demo(&self, mut arguments: Vec<OsString>) -> Result<Command, Error> {
        let is_name = |first: &OsString| !first.to_string_lossy().starts_with('-');
        let name = match arguments.first().filter(|first| is_name(first)) {
            Some(_) => demos::known(&arguments.remove(0).to_string_lossy())?,
            None => DEMOS[0],
        };
        demos::add_model(name, &mut arguments, || self.model())?;
        let mut command = self.command(&Program { kind: Kind::Demo, name: name.to_owned() })?;
        command.args(arguments);
        Ok(command)
    }

    /// Runs all programs of a kind, also after one has failed.
    fn each(&self, kind: Kind, prepare: impl Fn(&mut Command)) -> Result<(), Error> {
        let programs: Vec<_> = self.manifest.programs.iter().filter(|it| it.kind == kind).collect();
        let mut failed = Vec::new();
        for program in &programs {
            eprintln!("\n--- {}", program.name);
            let mut command = self.command(program)?;
            prepare(&mut command);
            if let Err(error) = run(&mut command) {
                eprintln!("error: {}", error.told());
                failed.push(program.name.clone());
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(Error::Programs { failed, of: programs.len() }) }
    }

    /// A program that finds the device's name and its libraries.
    fn command(&self, program: &Program) -> Result<Command, Error> {
        let mut command = Command::new(self.folder.join(PROGRAMS).join(program.file()));
        command.env("SKEP_DEVICE", choice::name(&self.manifest.combination.device));
        command.env(libraries::VARIABLE, libraries::join(&self.libraries)?);
        tell_cores(&mut command);
        Ok(command)
    }

    fn model(&self) -> Result<PathBuf, Error> {
        sentence_model::folder_or_in(|| Ok(self.folder.clone()))
    }
}

/// Where the programs find their libraries on this machine, or what it lacks.
fn find_libraries(manifest: &Manifest, folder: &Path) -> Result<Vec<PathBuf>, String> {
    let is_cuda = manifest.combination.device == Device::Cuda;
    if is_cuda && !Need::NvidiaGpu.met() {
        return Err(Need::NvidiaGpu.lack().to_owned());
    }
    let python = PythonLibraries::find();
    let mut path = Vec::new();
    if manifest.combination.backend == Backend::Tch {
        let libtorch = libtorch::to_run_with(&python, is_cuda).map_err(|error| error.told())?;
        println!("libtorch: {}", libtorch.display());
        path.push(libtorch.join("lib"));
    }
    path.extend(env::split_paths(&env::var_os(libraries::VARIABLE).unwrap_or_default()));
    path.push(folder.join(LIBRARIES));
    if is_cuda {
        path.extend(cuda::libraries());
        path.extend(python.cuda);
    }
    path.retain(|folder| !folder.as_os_str().is_empty());

    let mut missing = BTreeSet::new();
    for program in &manifest.programs {
        let program = folder.join(PROGRAMS).join(program.file());
        missing.extend(libraries::missing(&program, &path).map_err(|error| error.told())?);
    }
    if missing.is_empty() {
        return Ok(path);
    }
    let remedy = if is_cuda {
        "libcuda comes with the driver, the others with CUDA 13 or python3's torch 2.11.0"
    } else {
        "install what has it"
    };
    Err(Error::NoLibraries { libraries: missing.into_iter().collect(), remedy }.told())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::combination::table::COMBINATIONS;

    fn bundle(folder: &Path, programs: &[(Kind, &str)]) -> Bundle {
        let programs =
            programs.iter().map(|(kind, name)| Program { kind: *kind, name: (*name).to_owned() }).collect();
        let manifest =
            Manifest { combination: &COMBINATIONS[0], origin: String::new(), programs, left_out: Vec::new() };
        Bundle { folder: folder.to_owned(), manifest, libraries: vec![folder.join(LIBRARIES)] }
    }

    /// A program that is a script, where scripts can be programs.
    #[cfg(unix)]
    fn script(folder: &Path, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let file = folder.join(PROGRAMS).join(name);
        std::fs::create_dir_all(folder.join(PROGRAMS)).unwrap();
        std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn all_programs_run_and_those_that_failed_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("ran");
        script(folder.path(), "test-a", "exit 1");
        script(folder.path(), "test-b", &format!("echo $SKEP_DEVICE $LD_LIBRARY_PATH > {}", mark.display()));
        let bundle = bundle(folder.path(), &[(Kind::Test, "a"), (Kind::Test, "b"), (Kind::Bench, "c")]);
        let error = bundle.each(Kind::Test, |_| {}).unwrap_err().told();
        assert_eq!(error, "1 of 2 programs failed: a");
        let lib = folder.path().join(LIBRARIES);
        assert_eq!(std::fs::read_to_string(mark).unwrap(), format!("cpu {}\n", lib.display()));
    }

    #[test]
    fn a_demo_is_found_by_its_name_or_is_the_first() {
        let bundle = bundle(Path::new("b"), &[]);
        let demo = |arguments: &[&str]| bundle.demo(arguments.iter().map(Into::into).collect());
        let first = demo(&["--steps", "5"]).unwrap();
        assert_eq!(first.get_program(), Path::new("b/bin/demo-digits"));
        assert_eq!(first.get_args().collect::<Vec<_>>(), ["--steps", "5"]);
        let embed = demo(&["embed", "--model-dir", "m"]).unwrap();
        assert_eq!(embed.get_program(), Path::new("b/bin/demo-embed"));
        assert!(demo(&["digit"]).unwrap_err().told().contains("digits, embed"));
    }
}
