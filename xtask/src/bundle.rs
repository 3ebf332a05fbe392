//! Bundles: the programs of one combination, packed into one archive that runs on a machine without Rust. On the
//! other side, [`packed`](crate::packed) does what `cargo xtask test`, `bench` and `demo` do here.

use crate::combos::{Combination, Use};
use crate::cuda;
use crate::demo;
use crate::error::Error;
use crate::libraries;
use crate::manifest::{Kind, Manifest, Program};
use crate::process::{origin, output, root, run, target};
use crate::steps::workspace;
use crate::summary::Summary;
use serde_json::Value;
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the folders of a bundle keep programs and libraries.
pub(crate) const PROGRAMS: &str = "bin";
pub(crate) const LIBRARIES: &str = "lib";

/// This program in a bundle.
const RUNNER: &str = "xtask";

const RUN: &str = "#!/bin/sh
# Runs what is packed here: `./run --help` tells what there is.
exec \"$(dirname \"$0\")/bin/xtask\" packed \"$@\"
";

/// How the archive is compressed. The programs of one combination share most of their code, and of candle all
/// kernels for a GPU: with a dictionary that reaches over several programs, each costs little more than what it
/// does not share.
const COMPRESS: &str = "xz --lzma2=preset=3,dict=192MiB";

/// What cargo builds and a bundle leaves out: targets of a package, by folder and name, and why.
const LEFT_OUT: [(&str, &str, &str); 2] = [
    ("xtask", "skep-xtask", "unit tests of xtask: they start cargo and pip"),
    ("tests", "listed", "test `listed`: it reads the sources"),
];

/// Packs each combination.
///
/// # Errors
///
/// When the target folder is not known; a bundle that fails is a row of the summary.
pub(crate) fn pack(combinations: &[&'static Combination], summary: &mut Summary) -> Result<(), Error> {
    let home = target()?.join("bundle");
    let mut lines = Vec::new();
    for combination in combinations {
        summary.step(combination, "bundle", Use::Build, || {
            let archive = bundle(combination, &home)?;
            let bytes = fs::metadata(&archive).map_err(Error::file("read", &archive))?.len();
            lines.push(told(&archive, bytes));
            Ok(())
        });
    }
    for line in lines {
        print!("\n{line}");
    }
    Ok(())
}

/// What somebody with the archive in hand has to know.
fn told(archive: &Path, bytes: u64) -> String {
    let name = archive.file_name().unwrap_or_default().display().to_string();
    let folder = name.trim_end_matches(".tar.xz");
    let mib = bytes as f64 / f64::from(1 << 20);
    format!(
        "{}: {mib:.1} MiB\non the other machine: tar -xJf {name} && {folder}/run all\n",
        archive.display()
    )
}

fn bundle(combination: &'static Combination, home: &Path) -> Result<PathBuf, Error> {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        return Err(Error::Usage("bundles are made on Linux with glibc only".to_owned()));
    }
    for tool in ["strip", "tar", "xz"] {
        let has = Command::new(tool).arg("--version").stdout(Stdio::null()).status();
        has.map_err(|source| Error::NoTool { tool, source })?;
    }
    let name = format!("skep-{combination}").replace(' ', "-");
    let folder = home.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(Error::file("remove", &folder))?;
    }
    for part in [PROGRAMS, LIBRARIES] {
        let part = folder.join(part);
        fs::create_dir_all(&part).map_err(Error::file("create", &part))?;
    }
    let built = build(combination)?;
    let programs: Vec<_> = built.iter().map(|(program, _)| program.clone()).collect();
    let runner = env::current_exe().map_err(Error::file("find", Path::new(RUNNER)))?;
    let files =
        built.iter().map(|(program, file)| (program.file(), file)).chain([(RUNNER.to_owned(), &runner)]);
    for (name, file) in files {
        let packed = folder.join(PROGRAMS).join(name);
        run(Command::new("strip").arg("--strip-all").arg("-o").arg(&packed).arg(file))?;
    }
    libraries_of(&built, &folder.join(LIBRARIES))?;

    let left_out = LEFT_OUT.iter().map(|(.., why)| *why).chain(["documentation tests: they need rustdoc"]);
    let left_out: Vec<_> = left_out.map(str::to_owned).collect();
    Manifest { combination, origin: origin(), programs, left_out }.write(&folder)?;
    write_script(&folder.join("run"))?;
    for (from, to) in [
        ("LICENSE-APACHE", "LICENSE-APACHE"),
        ("LICENSE-MIT", "LICENSE-MIT"),
        ("tests/data/README.md", "LICENSE-digits.md"),
    ] {
        let from = root().join(from);
        fs::copy(&from, folder.join(to)).map_err(Error::file("copy", &from))?;
    }
    compress(home, &name)
}

/// Builds all targets, optimised, and gives those to pack with their files.
fn build(combination: &Combination) -> Result<Vec<(Program, PathBuf)>, Error> {
    let mut command = workspace("build", combination);
    command.args(["--release", "--all-targets", "--message-format=json-render-diagnostics"]);
    let messages = output(&mut command)?;
    Ok(programs(&String::from_utf8_lossy(&messages)))
}

/// The programs among cargo's messages, one per line.
fn programs(messages: &str) -> Vec<(Program, PathBuf)> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs: Vec<_> = messages.filter_map(|message| program(&message)).collect();
    programs.sort_by_key(|(program, _)| program.file());
    programs
}

fn program(message: &Value) -> Option<(Program, PathBuf)> {
    let file = PathBuf::from(message["executable"].as_str()?);
    let package = Path::new(message["manifest_path"].as_str()?).parent()?.file_name()?.to_str()?;
    let target = message["target"]["name"].as_str()?;
    if LEFT_OUT.iter().any(|(folder, name, _)| (*folder, *name) == (package, target)) {
        return None;
    }
    let is_test = message["profile"]["test"] == true;
    let (kind, name) = match message["target"]["kind"][0].as_str()? {
        "example" if demo::DEMOS.contains(&target) && !is_test => (Kind::Demo, target.to_owned()),
        "bench" => (Kind::Bench, format!("{package} {target}")),
        "test" => (Kind::Test, format!("{package} {target}")),
        "lib" if is_test => (Kind::Test, package.to_owned()),
        _ => return None,
    };
    Some((Program { kind, name }, file))
}

/// Copies what the programs ask for and the toolkit has. The rest, a driver's libraries and the large ones of an
/// installation, is the other machine's.
fn libraries_of(built: &[(Program, PathBuf)], folder: &Path) -> Result<(), Error> {
    let mut missing = BTreeSet::new();
    for (_, file) in built {
        missing.extend(libraries::missing(file, &[])?);
    }
    let toolkit = cuda::found().map(|toolkit| toolkit.home().join("lib"));
    for library in missing {
        match toolkit.as_ref().map(|lib| lib.join(&library)).filter(|file| file.is_file()) {
            Some(file) => {
                fs::copy(&file, folder.join(&library)).map_err(Error::file("copy", &file))?;
                eprintln!("packed from the toolkit: {library}");
            }
            None => eprintln!("left to the other machine: {library}"),
        }
    }
    Ok(())
}

#[cfg(unix)]
fn write_script(file: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(file, RUN).map_err(Error::file("write", file))?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).map_err(Error::file("change", file))
}

#[cfg(not(unix))]
fn write_script(file: &Path) -> Result<(), Error> {
    fs::write(file, RUN).map_err(Error::file("write", file))
}

/// Makes an archive of a folder, which is gone afterwards: uncompressed, it is large.
fn compress(home: &Path, name: &str) -> Result<PathBuf, Error> {
    let (folder, archive) = (home.join(name), home.join(format!("{name}.tar.xz")));
    let part = home.join(format!("{name}.part"));
    let mut tar = Command::new("tar");
    tar.args([
        "--use-compress-program",
        COMPRESS,
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
    ]);
    run(tar.arg("--create").arg("--file").arg(&part).arg("--directory").arg(home).arg(name))?;
    fs::rename(&part, &archive).map_err(Error::file("create", &archive))?;
    fs::remove_dir_all(&folder).map_err(Error::file("remove", &folder))?;
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_apart_by_what_they_are_for() {
        let message = |package: &str, kind: &str, name: &str, test: bool| {
            serde_json::json!({
                "reason": "compiler-artifact",
                "manifest_path": format!("/w/{package}/Cargo.toml"),
                "target": { "name": name, "kind": [kind] },
                "profile": { "test": test },
                "executable": format!("/t/{name}"),
            })
            .to_string()
        };
        let messages = [
            "not json".to_owned(),
            r#"{"reason":"compiler-artifact","target":{"name":"skep_pool","kind":["lib"]},"executable":null}"#.into(),
            message("pool", "lib", "skep_pool", true),
            message("tests", "test", "candle", true),
            message("tests", "test", "listed", true),
            message("tests", "bench", "device", true),
            message("tests", "example", "digits", false),
            message("stats", "example", "prometheus", false),
            message("xtask", "bin", "skep-xtask", true),
        ];
        let found: Vec<_> = programs(&messages.join("\n")).into_iter().map(|(it, _)| it.file()).collect();
        assert_eq!(found, ["bench-tests-device", "demo-digits", "test-pool", "test-tests-candle"]);
    }

    #[test]
    fn the_archive_is_told_with_its_size_and_what_to_do_with_it() {
        assert_eq!(
            told(Path::new("t/skep-candle-cuda.tar.xz"), 13 << 20),
            "t/skep-candle-cuda.tar.xz: 13.0 MiB\non the other machine: tar -xJf skep-candle-cuda.tar.xz && \
             skep-candle-cuda/run all\n"
        );
    }

    /// Needs the programs with which archives are made, as packing does.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_archive_holds_the_folder_and_takes_its_place() {
        if run(Command::new("xz").arg("--version").stdout(Stdio::null())).is_err() {
            return println!("skipped: no xz on this machine");
        }
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("skep")).unwrap();
        write_script(&home.path().join("skep/run")).unwrap();
        let archive = compress(home.path(), "skep").unwrap();
        assert!(!home.path().join("skep").exists());
        run(Command::new("tar").arg("-xJf").arg(archive).current_dir(home.path())).unwrap();
        assert_eq!(fs::read_to_string(home.path().join("skep/run")).unwrap(), RUN);
        assert!(run(Command::new("test").arg("-x").arg(home.path().join("skep/run"))).is_ok());
    }
}
