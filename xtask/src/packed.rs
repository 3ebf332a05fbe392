//! What a bundle does where it runs: that which `cargo xtask test`, `bench` and `demo` do in the workspace, with
//! the same tables, but with programs that are there instead of cargo.

use crate::bench::{self, Report};
use crate::bundle::{LIBRARIES, PROGRAMS};
use crate::cli::{Packed, PackedTask as Task};
use crate::combos::{self, Backend, Device, Need};
use crate::cuda;
use crate::demo;
use crate::error::Error;
use crate::estimates;
use crate::libraries::{self, OfPython};
use crate::libtorch;
use crate::manifest::{Kind, Manifest, Program};
use crate::model;
use crate::process::{run as run_command, tell_cores};
use crate::summary::Summary;
use clap::Parser;
use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::SystemTime;

/// The exit code where this machine cannot run the bundle at all.
const NOT_HERE: u8 = 3;

/// An unpacked bundle on a machine that can run it.
struct Bundle {
    folder: PathBuf,
    manifest: Manifest,
    /// Where its programs find their libraries.
    libraries: Vec<PathBuf>,
}

/// Does what the arguments ask for with the bundle that this program is part of.
pub(crate) fn run(arguments: Vec<OsString>) -> Result<ExitCode, Error> {
    let task = Packed::parse_from(arguments).task;
    let program = env::current_exe().map_err(Error::file("find", Path::new("run")))?;
    let folder = program.ancestors().nth(2).unwrap_or(&program).to_owned();
    let manifest = Manifest::read(&folder)?;
    println!("{}: {}", manifest.combination, manifest.origin);
    let libraries = match libraries(&manifest, &folder) {
        Ok(libraries) => libraries,
        Err(lack) => return Ok(not_here(&manifest, &task, &lack)),
    };
    if manifest.combination.device == Device::Cuda {
        for gpu in cuda::gpus() {
            println!("{gpu}");
        }
    }
    let bundle = Bundle { folder, manifest, libraries };
    let mut summary = Summary::default();
    let strict = match task {
        Task::Demo { arguments } => {
            return bundle.demo(arguments).and_then(|mut demo| demo::replace(&mut demo));
        }
        Task::Test { strict } => {
            bundle.test(&mut summary);
            strict
        }
        Task::Bench { quick, filter } => {
            bundle.bench(quick.quick, filter.as_deref(), &mut summary)?;
            false
        }
        Task::All { quick, strict } => {
            bundle.test(&mut summary);
            bundle.bench(quick.quick, None, &mut summary)?;
            summary.run(bundle.manifest.combination, "demo", || run_command(&mut bundle.demo(Vec::new())?));
            strict
        }
    };
    print!("\n{summary}");
    summary.verdict(strict)?;
    Ok(ExitCode::SUCCESS)
}

/// Nothing of the task can run, and the table says so.
fn not_here(manifest: &Manifest, task: &Task, lack: &str) -> ExitCode {
    let steps: &[&str] = match task {
        Task::Test { .. } => &["test"],
        Task::Demo { .. } => &["demo"],
        Task::Bench { .. } => &["bench"],
        Task::All { .. } => &["test", "bench", "demo"],
    };
    let mut summary = Summary::default();
    for step in steps {
        summary.skip(manifest.combination, step, lack);
    }
    print!("\n{summary}");
    ExitCode::from(NOT_HERE)
}

/// Where the programs find their libraries on this machine, or what it lacks.
fn libraries(manifest: &Manifest, folder: &Path) -> Result<Vec<PathBuf>, String> {
    let is_cuda = manifest.combination.device == Device::Cuda;
    if is_cuda && !Need::NvidiaGpu.met() {
        return Err(Need::NvidiaGpu.lack().to_owned());
    }
    let python = OfPython::find();
    let mut path = Vec::new();
    if manifest.combination.backend == Backend::Tch {
        let libtorch = libtorch::to_run_with(&python, is_cuda).map_err(|error| error.to_string())?;
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
        missing.extend(libraries::missing(&program, &path).map_err(|error| error.to_string())?);
    }
    if missing.is_empty() {
        return Ok(path);
    }
    let remedy = if is_cuda {
        "libcuda comes with the driver, the others with CUDA 13 or python3's torch 2.11.0"
    } else {
        "install what has it"
    };
    Err(Error::NoLibraries { libraries: missing.into_iter().collect(), remedy }.to_string())
}

impl Bundle {
    fn test(&self, summary: &mut Summary) {
        let model = self.model();
        let combination = self.manifest.combination;
        summary.run(combination, "test", || {
            self.each(Kind::Test, |command| {
                match &model {
                    Ok(folder) => command.env(model::VARIABLE, folder),
                    Err(_) => command.env_remove(model::VARIABLE),
                };
            })
        });
        if let Err(error) = &model {
            summary.skip(combination, "test of real embeddings", &error.to_string());
        }
        for left_out in &self.manifest.left_out {
            println!("not packed: {left_out}");
        }
    }

    fn bench(&self, quick: bool, filter: Option<&str>, summary: &mut Summary) -> Result<(), Error> {
        let combination = self.manifest.combination;
        let (folder, start) = (bench::folder(&self.folder, combination), SystemTime::now());
        summary.run(combination, "bench", || {
            self.each(Kind::Bench, |command| {
                // As cargo does it: without, criterion only tries each benchmark once.
                command.arg("--bench").args(bench::arguments(quick, filter)).env(bench::HOME, &folder);
            })
        });
        let mut report = Report::default();
        report.add(combination, &estimates::read(&folder, start)?, &folder);
        print!("{report}");
        Ok(())
    }

    /// A demo to run, whose name is the first argument where that is no option.
    fn demo(&self, mut arguments: Vec<OsString>) -> Result<Command, Error> {
        let is_name = |first: &OsString| !first.to_string_lossy().starts_with('-');
        let name = match arguments.first().filter(|first| is_name(first)) {
            Some(_) => demo::known(&arguments.remove(0).to_string_lossy())?,
            None => demo::DEMOS[0],
        };
        demo::add_model(name, &mut arguments, || self.model())?;
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
            if let Err(error) = run_command(&mut command) {
                eprintln!("error: {error}");
                failed.push(program.name.clone());
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(Error::Programs { failed, of: programs.len() }) }
    }

    /// A program that finds the device's name and its libraries.
    fn command(&self, program: &Program) -> Result<Command, Error> {
        let mut command = Command::new(self.folder.join(PROGRAMS).join(program.file()));
        command.env("SKEP_DEVICE", combos::name(&self.manifest.combination.device));
        command.env(libraries::VARIABLE, libraries::join(&self.libraries)?);
        tell_cores(&mut command);
        Ok(command)
    }

    fn model(&self) -> Result<PathBuf, Error> {
        model::folder_or_in(|| Ok(self.folder.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(folder: &Path, programs: &[(Kind, &str)]) -> Bundle {
        let programs =
            programs.iter().map(|(kind, name)| Program { kind: *kind, name: (*name).to_owned() }).collect();
        let manifest = Manifest {
            combination: &combos::COMBINATIONS[0],
            origin: String::new(),
            programs,
            left_out: Vec::new(),
        };
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
        let error = bundle.each(Kind::Test, |_| {}).unwrap_err().to_string();
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
        assert!(demo(&["digit"]).unwrap_err().to_string().contains("digits, embed"));
    }
}
