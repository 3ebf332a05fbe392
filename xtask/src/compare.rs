//! Skep beside other systems: builds `tests/compare`, which is a workspace of its own, gets what it compares
//! with, and runs it.

use crate::combos::{self, Choice, Use};
use crate::combos::{Backend, Device};
use crate::error::Error;
use crate::process::{cargo, root, run, target};
use crate::{model, wheel};
use clap::Args;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// hivemind as it is compared with, and the torch that it runs on.
const HIVEMIND: [&str; 2] = ["hivemind==1.1.12", "torch==2.11.0"];

#[derive(Args, Debug)]
pub(crate) struct CompareOptions {
    /// Which backend runs the models: candle or tch
    #[arg(long, default_value = "candle", value_parser = combos::one::<Backend>)]
    backend: Backend,
    /// Threads that one product of matrices may use, in every system
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
    /// Leave hivemind out, which takes a Python environment of 5 GB
    #[arg(long)]
    no_python: bool,
    /// Write the results into docs/benchmarks.md
    #[arg(long)]
    publish: bool,
    /// Arguments of the comparison itself: see `cargo xtask compare -- --help`
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// Builds and runs the comparison.
pub(crate) fn compare(options: &CompareOptions) -> Result<(), Error> {
    let target = target()?.join("compare");
    let mut features: Vec<&str> = Vec::new();
    let mut library = None;
    if options.backend == Backend::Tch {
        features.extend(["--no-default-features", "--features", "tch"]);
        let combination = combos::select(Choice::One(Backend::Tch), Choice::One(Device::Cpu))[0];
        combination.prepare(Use::Run)?;
        library = Some(crate::libtorch::get()?.join("lib"));
    }
    let program = build(&target, "skep-compare", &features)?;
    let out = target.join(format!("results-{}", combos::name(&options.backend)));
    let mut command = Command::new(program);
    command.arg("--out").arg(&out);
    match model::folder() {
        Ok(folder) => drop(command.arg("--minilm").arg(folder)),
        Err(error) => eprintln!("without MiniLM: {error}"),
    }
    let python = if options.no_python { Err("--no-python".to_owned()) } else { environment(&target) };
    match python {
        Ok(python) => command.arg("--python").arg(python),
        // In one word: the reason may begin with a hyphen.
        Err(reason) => command.arg(format!("--no-python={reason}")),
    };
    let threads = options.threads.to_string();
    for variable in ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS", "OMP_NUM_THREADS"] {
        command.env(variable, &threads);
    }
    if let Some(library) = library {
        command.env("LD_LIBRARY_PATH", library);
    }
    run(command.args(&options.arguments))?;
    println!("\nresults: {}", out.display());
    if options.publish { publish(&out, combos::name(&options.backend).as_str()) } else { Ok(()) }
}

/// Builds one program of the comparison, optimised, and returns its path.
pub(crate) fn build(target: &Path, name: &str, features: &[&str]) -> Result<PathBuf, Error> {
    let manifest = root().join("tests").join("compare").join("Cargo.toml");
    let mut command = cargo("build");
    command.args(["--release", "--locked", "--bin", name, "--manifest-path"]).arg(manifest);
    command.arg("--target-dir").arg(target).args(features);
    run(&mut command)?;
    Ok(target.join("release").join(name).with_extension(env::consts::EXE_EXTENSION))
}

/// The Python of an environment that has hivemind, made where it is not there yet; or why there is none.
fn environment(target: &Path) -> Result<PathBuf, String> {
    if !cfg!(target_os = "linux") {
        return Err("hivemind is driven through /proc, which only Linux has".to_owned());
    }
    let cache = wheel::cache(|name| env::var_os(name), target);
    let python = |folder: &Path| folder.join("bin").join("python");
    let has_hivemind = |folder: &Path| {
        let import = Command::new(python(folder))
            .args(["-c", "import hivemind"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        import.is_ok_and(|status| status.success())
    };
    let made = wheel::whole(&cache, "hivemind-1.1.12", has_hivemind, |base, work| {
        eprintln!("making a Python environment with hivemind: about 2.5 GB to download");
        let folder = work.join("environment");
        run(Command::new(base).args(["-m", "venv"]).arg(&folder))?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(python(&folder)).args(install).args(HIVEMIND))?;
        Ok(folder)
    });
    made.map(|folder| python(&folder)).map_err(|error| error.to_string())
}

/// Puts the table between the marks of its backend in docs/benchmarks.md, and the picture and the rows beside it.
fn publish(out: &Path, backend: &str) -> Result<(), Error> {
    let docs = root().join("docs");
    let page = docs.join("benchmarks.md");
    let text = fs::read_to_string(&page).map_err(Error::file("read", &page))?;
    let file = out.join("table.md");
    let table = fs::read_to_string(&file).map_err(Error::file("read", &file))?;
    let marks = [format!("<!-- compare {backend}: begin -->"), format!("<!-- compare {backend}: end -->")];
    let text = replace_between(&text, [&marks[0], &marks[1]], &table).ok_or_else(|| {
        Error::Usage(format!("{} has no `{}` and `{}`", page.display(), marks[0], marks[1]))
    })?;
    fs::write(&page, text).map_err(Error::file("write", &page))?;
    let folder = docs.join("benchmarks");
    fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    for (file, extension) in [("compare", "svg"), ("rows", "json")] {
        let to = folder.join(format!("{backend}.{extension}"));
        fs::copy(out.join(format!("{file}.{extension}")), &to).map_err(Error::file("write", &to))?;
    }
    println!("published in {}", page.display());
    Ok(())
}

/// The text with what is between the two marks replaced; `None` where they are not there in this order.
fn replace_between(text: &str, [begin, end]: [&str; 2], new: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n\n{}\n\n{end}{after}", new.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let marks = ["<b>", "<e>"];
        assert_eq!(replace_between("a <b> old <e> z", marks, "new\n").unwrap(), "a <b>\n\nnew\n\n<e> z");
        assert_eq!(replace_between("a <e> old <b> z", marks, "new"), None);
        assert_eq!(replace_between("a z", marks, "new"), None);
    }

    #[test]
    fn the_page_has_the_marks() {
        let page = fs::read_to_string(root().join("docs").join("benchmarks.md")).unwrap();
        for backend in ["candle", "tch"] {
            let marks =
                [format!("<!-- compare {backend}: begin -->"), format!("<!-- compare {backend}: end -->")];
            assert!(replace_between(&page, [&marks[0], &marks[1]], "").is_some(), "{backend}");
        }
    }
}
