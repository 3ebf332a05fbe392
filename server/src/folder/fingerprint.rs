//! Whether a model is the same but for its weights.

use crate::folder::error::PlanError;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

/// What settings, tokenizers and manifests are written in.
const WRITTEN: [&str; 4] = ["json", "toml", "txt", "model"];
/// Folders in folders that are looked through.
const DEEPEST: usize = 3;

/// A number for all files of a folder that are no weights: the same as long as these are. Of a model that is a file, it
/// is for the one that says more of it, if there is one.
pub(crate) fn of(place: &Path, manifest: &Path) -> Result<u64, PlanError> {
    let mut hasher = DefaultHasher::new();
    if place.is_dir() {
        walk(place, DEEPEST, &mut hasher)?;
    } else if manifest.is_file() {
        file(manifest, &mut hasher)?;
    }
    Ok(hasher.finish())
}

fn file(path: &Path, hasher: &mut DefaultHasher) -> Result<(), PlanError> {
    path.hash(hasher);
    let unreadable = |source| PlanError::Unreadable { path: path.to_owned(), source };
    fs::read(path).map_err(unreadable)?.hash(hasher);
    Ok(())
}

fn walk(folder: &Path, deeper: usize, hasher: &mut DefaultHasher) -> Result<(), PlanError> {
    let unreadable = |source| PlanError::Unreadable { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        paths.push(entry.map_err(unreadable)?.path());
    }
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if deeper > 0 {
                walk(&path, deeper - 1, hasher)?;
            }
        } else if path.extension().is_some_and(|extension| WRITTEN.iter().any(|own| extension == *own)) {
            file(&path, hasher)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_changes_with_everything_but_the_weights() {
        let folder = tempfile::tempdir().unwrap();
        let of = |folder: &Path| of(folder, Path::new("none"));
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("skep.toml", "kind = \"ffn\"");
        write("model.safetensors", "old");
        let before = of(folder.path()).unwrap();
        write("model.safetensors", "new");
        assert_eq!(of(folder.path()).unwrap(), before);
        fs::create_dir(folder.path().join("1_Pooling")).unwrap();
        write("1_Pooling/config.json", "{}");
        let deeper = of(folder.path()).unwrap();
        assert_ne!(deeper, before);
        write("1_Pooling/config.json", "{ }");
        assert_ne!(of(folder.path()).unwrap(), deeper);
    }
}
