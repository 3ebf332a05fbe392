//! One file that holds a bundle.

use crate::error::Error;
use crate::machine::process::run;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How the archive is compressed. The programs of one combination share most of their code, and of candle all
/// kernels for a GPU: with a dictionary that reaches over several programs, each costs little more than what it
/// does not share.
const COMPRESS: &str = "xz --lzma2=preset=3,dict=192MiB";

/// Makes an archive of a folder, which is gone afterwards: uncompressed, it is large.
pub(crate) fn compress(home: &Path, name: &str) -> Result<PathBuf, Error> {
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

/// What somebody with the archive in hand has to know.
pub(crate) fn told(archive: &Path, bytes: u64) -> String {
    let name = archive.file_name().unwrap_or_default().display().to_string();
    let folder = name.trim_end_matches(".tar.xz");
    let mib = bytes as f64 / f64::from(1 << 20);
    format!(
        "{}: {mib:.1} MiB\non the other machine: tar -xJf {name} && {folder}/run all\n",
        archive.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

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
        if run(Command::new("xz").arg("--version").stdout(std::process::Stdio::null())).is_err() {
            return println!("skipped: no xz on this machine");
        }
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("skep")).unwrap();
        fs::write(home.path().join("skep/run"), "text").unwrap();
        let archive = compress(home.path(), "skep").unwrap();
        assert!(!home.path().join("skep").exists());
        run(Command::new("tar").arg("-xJf").arg(archive).current_dir(home.path())).unwrap();
        assert_eq!(fs::read_to_string(home.path().join("skep/run")).unwrap(), "text");
    }
}
