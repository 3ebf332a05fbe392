//! The shared libraries that a program asks for when it starts, and which of them this machine lacks.

use crate::error::Error;
use crate::machine::process::output;
use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders in which the dynamic linker looks first.
pub(crate) const VARIABLE: &str = "LD_LIBRARY_PATH";

/// The libraries of a program that the dynamic linker does not find, with `folders` searched first.
pub(crate) fn missing(program: &Path, folders: &[PathBuf]) -> Result<BTreeSet<String>, Error> {
    // So asked, the dynamic linker lists what it finds and does not start the program. ldd does the same.
    let mut command = Command::new(program);
    command.env("LD_TRACE_LOADED_OBJECTS", "1").env(VARIABLE, join(folders)?);
    Ok(unresolved(&String::from_utf8_lossy(&output(&mut command)?)))
}

/// A value for the variable.
pub(crate) fn join(folders: &[PathBuf]) -> Result<OsString, Error> {
    env::join_paths(folders).map_err(|error| Error::Usage(format!("libraries cannot be looked for: {error}")))
}

fn unresolved(listed: &str) -> BTreeSet<String> {
    listed.lines().filter_map(|line| line.trim().strip_suffix(" => not found")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_linker_does_not_find_is_missing() {
        let listed = "\tlinux-vdso.so.1 (0x00007f3868407000)\n\tlibcuda.so.1 => not found\n\tlibcublas.so.13 => not \
                      found\n\tlibm.so.6 => /lib/libm.so.6 (0x00007f38682f4000)\n\tlibcuda.so.1 => not found\n";
        assert_eq!(unresolved(listed), ["libcublas.so.13", "libcuda.so.1"].map(str::to_owned).into());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn nothing_is_missing_of_a_program_that_runs() {
        assert_eq!(missing(&env::current_exe().unwrap(), &[]).unwrap(), BTreeSet::new());
    }
}
