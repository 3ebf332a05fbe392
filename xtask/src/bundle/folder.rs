//! A bundle on its way: a folder with programs, the libraries that they need, and a script that starts it all.

use crate::bundle::archive::compress;
use crate::bundle::contents::{LEFT_OUT, build};
use crate::bundle::manifest::{LIBRARIES, Manifest, PROGRAMS, Program};
use crate::combination::table::Combination;
use crate::error::Error;
use crate::fetch::cuda;
use crate::machine::libraries;
use crate::machine::process::{origin, root, run};
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// This program in a bundle.
const RUNNER: &str = "xtask";

const RUN: &str = "#!/bin/sh
# Runs what is packed here: `./run --help` tells what there is.
exec \"$(dirname \"$0\")/bin/xtask\" packed \"$@\"
";

/// Builds everything, and packs what runs without cargo.
pub(crate) fn pack(combination: &'static Combination, home: &Path) -> Result<PathBuf, Error> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn the_script_can_be_started() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("run");
        write_script(&script).unwrap();
        assert_eq!(fs::read_to_string(&script).unwrap(), RUN);
        assert!(run(Command::new("test").arg("-x").arg(script)).is_ok());
    }
}
