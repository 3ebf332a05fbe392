//! `cargo xtask compare`: Skep beside other systems, with the program of `tests/compare`.

use crate::benchmark::comparison::build;
use crate::benchmark::tei;
use crate::combination::choice::{self, Choice};
use crate::combination::table::{self, Backend, Device, Use};
use crate::error::Error;
use crate::fetch::{environment, libtorch, onnxruntime, sentence_model};
use crate::machine::libraries;
use crate::machine::process::{root, run, target};
use clap::Args;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

#[derive(Args, Debug)]
pub(crate) struct Compare {
    /// Which backend runs the models: candle or tch; the scenarios `processor` and `devices` take all
    #[arg(long, default_value = "candle", value_parser = choice::one::<Backend>)]
    backend: Backend,
    /// Threads that one product of matrices may use, in every system
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
    /// Leave out what runs in Python, which takes an environment of 5 GB
    #[arg(long)]
    no_python: bool,
    /// Text-embeddings-inference's candle backend takes part in `texts`: a checkout of its sources
    #[arg(long, value_name = "CHECKOUT")]
    tei: Option<PathBuf>,
    /// Write the results into docs/benchmarks.md: between the marks of this backend, and of the scenarios that were asked
    /// for by name
    #[arg(long)]
    publish: bool,
    /// Arguments of the comparison itself: see `cargo xtask compare -- --help`
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

impl Compare {
    /// Builds and runs the comparison.
    pub(crate) fn run(&self) -> Result<ExitCode, Error> {
        if self.backend == Backend::Ort && self.about_all().is_none() {
            let usage = format!(
                "backend ort is compared in the scenarios {}",
                OF_ALL.map(|name| format!("`{name}`")).join(", ")
            );
            return Err(Error::Usage(usage));
        }
        let target = target()?.join("compare");
        let backends = self.backends();
        let mut command = Command::new(build(&target, &features(&backends))?);
        let name = self.about_all().map_or_else(|| choice::name(&self.backend), ToOwned::to_owned);
        let out = target.join(format!("results-{name}"));
        command.arg("--out").arg(&out);
        match sentence_model::folder() {
            Ok(folder) => drop(command.arg("--minilm").arg(folder)),
            Err(error) => eprintln!("without MiniLM: {}", error.told()),
        }
        if let Some(checkout) = &self.tei {
            command.arg("--tei").arg(tei::build(checkout, &target)?);
        }
        let wanted =
            if self.about_all().is_some() { &environment::LIBRARIES } else { &environment::HIVEMIND };
        let python = if self.no_python {
            Err("--no-python".to_owned())
        } else if self.about_all().is_some_and(|name| name != "processor") {
            Err("nothing of it takes part".to_owned())
        } else {
            environment::environment(wanted, &target)
        };
        match python {
            Ok(python) => command.arg("--python").arg(python),
            // In one word: the reason may begin with a hyphen.
            Err(reason) => command.arg(format!("--no-python={reason}")),
        };
        let threads = self.threads.to_string();
        for variable in ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS", "OMP_NUM_THREADS"] {
            // Who compares one thread with two sets them for each.
            if self.about_all().is_some() {
                command.env_remove(variable);
            } else {
                command.env(variable, &threads);
            }
        }
        for backend in backends {
            let combination = table::select(Choice::One(backend), Choice::One(Device::Cpu))[0];
            combination.prepare(Use::Run)?;
            combination.tell(&mut command);
            if backend == Backend::Tch {
                command.env(libraries::VARIABLE, libtorch::get()?.join("lib"));
            }
        }
        run(command.args(&self.arguments))?;
        println!("\nresults: {}", out.display());
        if self.publish {
            publish(&out, &published_as(&name, &self.arguments))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The scenario of all backends that was asked for, if one was.
    fn about_all(&self) -> Option<&'static str> {
        OF_ALL.into_iter().find(|name| self.arguments.iter().any(|argument| argument == name))
    }

    /// The one that was asked for, or all that this machine can run.
    fn backends(&self) -> Vec<Backend> {
        if self.about_all().is_none() {
            return vec![self.backend];
        }
        let mut backends = vec![Backend::Candle];
        if libtorch::available() {
            backends.push(Backend::Tch);
        }
        if onnxruntime::available() {
            backends.push(Backend::Ort);
        }
        backends
    }
}

/// The scenarios that take all backends: their names in `tests/compare`.
const OF_ALL: [&str; 5] = ["processor", "devices", "budget", "come-and-go", "loss"];

/// cargo's arguments.
fn features(backends: &[Backend]) -> Vec<String> {
    let names: Vec<_> = backends.iter().map(choice::name).collect();
    vec!["--no-default-features".to_owned(), "--features".to_owned(), names.join(",")]
}

/// The backend, and the scenarios that were asked for by name.
fn published_as(backend: &str, arguments: &[OsString]) -> String {
    let scenarios =
        arguments.iter().map(|word| word.to_string_lossy()).take_while(|word| !word.starts_with('-'));
    // The scenario of all backends is published as itself.
    let scenarios = scenarios.filter(|word| !OF_ALL.contains(&word.as_ref()));
    scenarios.fold(backend.to_owned(), |name, scenario| format!("{name}-{scenario}"))
}

/// Puts the table between the marks of its name in docs/benchmarks.md, and the picture and the rows beside it.
fn publish(out: &Path, name: &str) -> Result<(), Error> {
    let docs = root().join("docs");
    let page = docs.join("benchmarks.md");
    let text = fs::read_to_string(&page).map_err(Error::file("read", &page))?;
    let file = out.join("table.md");
    let table = fs::read_to_string(&file).map_err(Error::file("read", &file))?;
    let marks = [format!("<!-- compare {name}: begin -->"), format!("<!-- compare {name}: end -->")];
    let text = replace_between(&text, [&marks[0], &marks[1]], &table).ok_or_else(|| {
        Error::Usage(format!("{} has no `{}` and `{}`", page.display(), marks[0], marks[1]))
    })?;
    fs::write(&page, text).map_err(Error::file("write", &page))?;
    let folder = docs.join("benchmarks");
    fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    for (file, extension) in [("compare", "svg"), ("rows", "json")] {
        let to = folder.join(format!("{name}.{extension}"));
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
    fn results_are_published_by_backend_and_scenarios() {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(published_as("candle", &words(&[])), "candle");
        assert_eq!(published_as("candle", &words(&["--rounds", "3"])), "candle");
        assert_eq!(published_as("tch", &words(&["texts", "--rounds", "3"])), "tch-texts");
        assert_eq!(published_as("candle", &words(&["riders", "aging"])), "candle-riders-aging");
    }

    #[test]
    fn the_page_has_the_marks() {
        let page = fs::read_to_string(root().join("docs").join("benchmarks.md")).unwrap();
        let order = "candle-short-beside-long-closed-loop-pools-riders-aging";
        for backend in ["candle", "tch", "candle-texts", "tch-texts", order].into_iter().chain(OF_ALL) {
            let marks =
                [format!("<!-- compare {backend}: begin -->"), format!("<!-- compare {backend}: end -->")];
            assert!(replace_between(&page, [&marks[0], &marks[1]], "").is_some(), "{backend}");
        }
    }
}
