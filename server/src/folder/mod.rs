//! A folder of models, as it is found: what would be served, and what is wrong.
//!
//! The folder is itself a model, or each folder in it is one, and each `.pt` and `.pt2` file. A model is a published folder
//! (`config.json`), or says in `skep.toml` what it is, or is such a file, which may have a `.toml` of its name beside it. Names of models come from this reading alone, so no request leads to another path.

mod compiled;
mod error;
mod fingerprint;
mod manifest;
mod plan;

pub use error::PlanError;
use manifest::Manifest;
use plan::{MANIFEST, PUBLISHED, manifest_of};
pub use plan::{Plan, What};
use std::fs;
use std::path::{Path, PathBuf};

/// A model that was found, or what is wrong with it.
#[derive(Debug)]
pub struct Found {
    /// Its name: that of its folder, unless it has another.
    pub name: String,
    /// Its folder, or its file.
    pub folder: PathBuf,
    /// What is to be served.
    pub plan: Result<Plan, PlanError>,
}

/// Reads a folder of models, in the order of their names.
///
/// # Errors
///
/// Returns [`PlanError::Unreadable`] if the folder cannot be listed, and [`PlanError::Empty`] if there is no model in it.
pub fn read(folder: &Path) -> Result<Vec<Found>, PlanError> {
    let places = places(folder)?;
    if places.is_empty() {
        return Err(PlanError::Empty { path: folder.to_owned() });
    }
    let mut all: Vec<Found> = places.into_iter().map(found).collect();
    for i in 1..all.len() {
        let (before, rest) = all.split_at_mut(i);
        if let Some(first) = before.iter().find(|first| first.name == rest[0].name) {
            rest[0].plan =
                Err(PlanError::NameTwice { name: rest[0].name.clone(), other: first.folder.clone() });
        }
    }
    Ok(all)
}

/// Reads the model of this name; `None` if there is none. Of two, the first counts, as in [`read`].
pub(crate) fn find(folder: &Path, name: &str) -> Result<Option<Found>, PlanError> {
    let mut places = places(folder)?.into_iter();
    Ok(places.find(|place| named(place).0 == name).map(found))
}

/// The names of all models of a folder.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, PlanError> {
    Ok(places(folder)?.iter().map(|place| named(place).0).collect())
}

/// The folders and files that are models, in the order of their names.
fn places(folder: &Path) -> Result<Vec<PathBuf>, PlanError> {
    let unreadable = |source| PlanError::Unreadable { path: folder.to_owned(), source };
    // Of a relative name such as `.`, the last part says nothing.
    let folder = fs::canonicalize(folder).map_err(unreadable)?;
    if is_model(&folder) {
        return Ok(vec![folder]);
    }
    let unreadable = |source| PlanError::Unreadable { path: folder.clone(), source };
    let mut places = Vec::new();
    for entry in fs::read_dir(&folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && (path.is_dir() || compiled::kind(&path).is_some()) {
            places.push(path);
        }
    }
    places.sort();
    Ok(places)
}

fn is_model(folder: &Path) -> bool {
    folder.join(MANIFEST).is_file() || PUBLISHED.iter().any(|file| folder.join(file).is_file())
}

/// The name of the model in a folder or file, and its manifest.
fn named(place: &Path) -> (String, Result<Option<Manifest>, PlanError>) {
    let manifest = Manifest::read(&manifest_of(place));
    let own = if place.is_dir() { place.file_name() } else { place.file_stem() };
    let name = match &manifest {
        Ok(Some(Manifest { name: Some(name), .. })) => name.clone(),
        _ => own.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    (name, manifest)
}

fn found(place: PathBuf) -> Found {
    let (name, manifest) = named(&place);
    let plan = manifest.and_then(|manifest| Plan::of(&name, &place, manifest));
    Found { name, folder: place, plan }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_runtime_core::{Chain, PadTo, Padding};

    fn fixtures() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/models/fixtures")
    }

    fn folder(models: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in models {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join(MANIFEST), text).unwrap();
        }
        folder
    }

    fn told(text: &str) -> String {
        let folder = folder(&[("model", text)]);
        let found = read(folder.path()).unwrap().remove(0);
        let message = found.plan.map_or_else(|error| Chain(&error).to_string(), |_| "served".to_owned());
        message.replace(&fs::canonicalize(folder.path()).unwrap().display().to_string(), "")
    }

    #[test]
    fn a_published_folder_is_a_model_and_so_is_each_in_a_folder() {
        let alone = read(&fixtures().join("bert_mean")).unwrap();
        assert_eq!((alone.len(), alone[0].name.as_str()), (1, "bert_mean"));
        assert!(matches!(alone[0].plan.as_ref().unwrap().what, What::Text { .. }));
        let all = read(&fixtures()).unwrap();
        assert!(all.len() > 20 && all.iter().all(|found| found.plan.is_ok()));
    }

    #[test]
    fn a_block_says_what_it_is() {
        let text =
            "kind = \"ffn\"\nversion = \"3\"\n[settings]\ninput = 4\noutput = 2\n[pool]\nmax-rows = 8\n";
        let folder = folder(&[("digits", text)]);
        let plan = read(folder.path()).unwrap().remove(0).plan.unwrap();
        let What::Block { kind, config } = &plan.what else { panic!("{plan:?}") };
        assert_eq!((kind.as_str(), config.required::<usize>("input").unwrap()), ("ffn", 4));
        assert_eq!((plan.version.as_str(), plan.pool.max_rows), ("3", 8));
    }

    #[test]
    fn a_block_says_how_its_tasks_are_padded() {
        let padding = |rule: &str| {
            let folder = folder(&[("model", &format!("kind = \"transformer\"\n[pool.padding]\n{rule}"))]);
            read(folder.path()).unwrap().remove(0).plan.unwrap().pool.padding.unwrap()
        };
        assert_eq!(padding("to = \"longest\""), Padding::new(PadTo::Longest));
        assert_eq!(padding("to = [4, 16]"), Padding::new(PadTo::Buckets(vec![4, 16])));
        let rule = padding("to = 8\nmask = \"mask\"\nvalues = { ids = 1, x = -0.5 }");
        let expected = Padding::new(PadTo::Multiple(8)).with_mask("mask");
        assert_eq!(rule, expected.with_value("ids", 1.0).with_value("x", -0.5));
        for (wrong, expected) in [
            ("to = \"shortest\"", "expected \"longest\", a multiple like 8, or sizes like [16, 64]"),
            ("to = -1", "expected \"longest\", a multiple like 8, or sizes like [16, 64]"),
            ("mask = \"mask\"", "missing field `to`"),
            ("to = 8\nvalue = 1", "unknown field `value`, expected one of `to`, `values`, `mask`"),
        ] {
            let message = told(&format!("kind = \"transformer\"\n[pool.padding]\n{wrong}"));
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn texts_are_padded_as_their_model_says() {
        let folder = folder(&[]);
        let text = folder.path().join("text");
        fs::create_dir(&text).unwrap();
        for file in fs::read_dir(fixtures().join("bert_mean")).unwrap() {
            let file = file.unwrap();
            if file.path().is_file() {
                fs::copy(file.path(), text.join(file.file_name())).unwrap();
            }
        }
        fs::write(text.join(MANIFEST), "[pool.padding]\nto = 8\n").unwrap();
        let error = read(&text).unwrap().remove(0).plan.unwrap_err().to_string();
        let expected = "pool.padding is `there`, expected none: a published folder says how texts are padded";
        assert!(error.ends_with(expected), "{error}");

        fs::create_dir(text.join("1_Pooling")).unwrap();
        let pooling = fixtures().join("bert_mean").join("1_Pooling").join("config.json");
        fs::copy(pooling, text.join("1_Pooling").join("config.json")).unwrap();
        fs::write(text.join(MANIFEST), "rows = \"ragged\"\n").unwrap();
        let plan = read(&text).unwrap().remove(0).plan.unwrap();
        assert!(matches!(plan.what, What::Text { ragged: true, .. }));
        assert_eq!(plan.pool.padding, None, "there is nothing to fill up");
        assert!(
            told("kind = \"ffn\"\nrows = \"padded\"")
                .ends_with("rows is `there`, expected none: it is for published folders")
        );
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert_eq!(
            told("kind = \"ffn\"\nweigths = 1"),
            "/model/skep.toml: TOML parse error at line 2, column 1\n  |\n2 | weigths = 1\n  | ^^^^^^^\nunknown field `weigths`, expected one of `name`, `kind`, `version`, `precision`, `token-vectors`, `rows`, `weights`, `settings`, `pool`, `when-full`, `wait-limit`, `warm-up`, `optional`"
        );
        assert_eq!(
            told(""),
            "/model: has neither config.json, nor a `kind` in skep.toml, nor a .pt or .pt2 file, expected one of them"
        );
        assert_eq!(
            told("kind = \"ffn\"\nversion = \"one\""),
            "/model/skep.toml: version is `one`, expected a whole number"
        );
        assert_eq!(
            told("kind = \"ffn\"\nname = \"a/b\""),
            "/model: a model cannot be named `a/b`, expected letters, digits, `-`, `_` and `.`"
        );
        assert_eq!(
            told("kind = \"ffn\"\nweights = \"../../etc/passwd\""),
            "/model/skep.toml: weights is `../../etc/passwd`, expected a file in the model's folder"
        );
        assert_eq!(
            told("kind = \"ffn\"\n[settings]\ninput = [1]"),
            "/model/skep.toml: settings.input is `[1]`, expected a text, a number, true or false"
        );
        assert_eq!(
            told("kind = \"text_model\""),
            "/model/skep.toml: kind is `text_model`, expected a folder with config.json, for which no kind is named"
        );
    }

    #[test]
    fn a_file_is_a_model_with_what_stands_beside_it() {
        let folder = folder(&[("inside", "[settings]\ninputs = \"x:f32[4]\"")]);
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("inside/model.pt", "");
        write("expert.pt2", "");
        write("silent.pt", "");
        write("times.pt", "");
        write("times.toml", "version = \"2\"\n[settings]\ninputs = \"x:f32[4]\"\n[pool]\nmax-rows = 8\n");
        write("notes.txt", "");
        let all = read(folder.path()).unwrap();
        let names: Vec<_> = all.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, ["expert", "inside", "silent", "times"]);
        let block = |found: &Found| {
            let What::Block { kind, config } = &found.plan.as_ref().unwrap().what else {
                panic!("{found:?}")
            };
            (
                kind.clone(),
                config.required::<String>("file").unwrap(),
                config.optional::<String>("inputs").unwrap(),
            )
        };
        let at = |name: &str| fs::canonicalize(folder.path()).unwrap().join(name).display().to_string();
        let x = Some("x:f32[4]".to_owned());
        assert_eq!(block(&all[0]), ("package".to_owned(), at("expert.pt2"), None));
        assert_eq!(block(&all[1]), ("torch_script".to_owned(), at("inside/model.pt"), x.clone()));
        assert_eq!(block(&all[3]), ("torch_script".to_owned(), at("times.pt"), x));
        let plan = all[3].plan.as_ref().unwrap();
        assert_eq!((plan.version.as_str(), plan.pool.max_rows), ("2", 8));
        assert_eq!(
            all[2].plan.as_ref().unwrap_err().to_string(),
            format!(
                "{}: settings.inputs is `not there`, expected what the file takes, which it does not say itself, \
                 like `x:f32[4] ids:i64[..128]`",
                at("silent.toml")
            )
        );
        assert_eq!(find(folder.path(), "times").unwrap().unwrap().name, "times");
        assert!(find(folder.path(), "times.pt").unwrap().is_none());

        write("inside/other.pt2", "");
        let error = find(folder.path(), "inside").unwrap().unwrap().plan.unwrap_err().to_string();
        assert!(error.contains("has the files model.pt and other.pt2, expected one of them"), "{error}");
        write("times.toml", "kind = \"ffn\"");
        let error = find(folder.path(), "times").unwrap().unwrap().plan.unwrap_err().to_string();
        assert!(
            error.ends_with("kind is `ffn`, expected none, or `torch_script`, which the file is"),
            "{error}"
        );
    }

    #[test]
    fn two_models_of_one_name_are_told() {
        let folder = folder(&[("a", "kind = \"nop\""), ("b", "kind = \"nop\"\nname = \"a\"")]);
        let all = read(folder.path()).unwrap();
        assert!(all[0].plan.is_ok());
        let error = all[1].plan.as_ref().unwrap_err().to_string();
        assert!(error.starts_with("model name `a` is taken by "), "{error}");
    }

    #[test]
    fn no_folder_and_no_model_are_errors() {
        assert!(matches!(read(Path::new("/nowhere")), Err(PlanError::Unreadable { .. })));
        assert!(matches!(read(tempfile::tempdir().unwrap().path()), Err(PlanError::Empty { .. })));
    }
}
