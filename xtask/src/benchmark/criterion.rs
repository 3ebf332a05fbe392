//! What criterion measured, read from the files that it leaves under its folder:
//! `**/new/estimates.json` for the numbers and `**/new/benchmark.json` for the name and the throughput.

use crate::error::Error;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// One benchmark's result.
#[derive(Debug, PartialEq)]
pub(crate) struct Estimate {
    /// Criterion's name for it: group, function and parameter.
    pub(crate) name: String,
    /// Median time of one iteration, in nanoseconds.
    pub(crate) median: f64,
    /// Median absolute deviation from it, in nanoseconds.
    pub(crate) spread: f64,
    /// Elements (or bytes) per second at the median, where the benchmark says how many an iteration handles.
    pub(crate) per_second: Option<f64>,
}

/// All results under `folder` that are not older than `since`, by name. Criterion keeps those of earlier
/// runs there too. A folder that does not exist holds none.
pub(crate) fn read(folder: &Path, since: SystemTime) -> Result<Vec<Estimate>, Error> {
    let mut estimates = Vec::new();
    collect(folder, since, &mut estimates)?;
    estimates.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(estimates)
}

fn collect(folder: &Path, since: SystemTime, estimates: &mut Vec<Estimate>) -> Result<(), Error> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(Error::file("read", folder))? {
        let path = entry.map_err(Error::file("read", folder))?.path();
        let file = path.join("estimates.json");
        if path.file_name() == Some(OsStr::new("new")) && file.is_file() {
            let changed =
                fs::metadata(&file).and_then(|it| it.modified()).map_err(Error::file("read", &file))?;
            if changed >= since {
                estimates.push(estimate(&path)?);
            }
        } else {
            collect(&path, since, estimates)?;
        }
    }
    Ok(())
}

/// Reads one `new` folder.
fn estimate(folder: &Path) -> Result<Estimate, Error> {
    let (numbers, about) = (folder.join("estimates.json"), folder.join("benchmark.json"));
    let (estimates, benchmark) = (json(&numbers)?, json(&about)?);
    let point = |name: &str| {
        let value = estimates[name]["point_estimate"].as_f64();
        value.ok_or_else(|| Error::Content {
            path: numbers.clone(),
            reason: format!("no point estimate of `{name}`"),
        })
    };
    let name = benchmark["full_id"]
        .as_str()
        .ok_or_else(|| Error::Content { path: about.clone(), reason: "no `full_id`".to_owned() })?;
    let median = point("median")?;
    let handled = benchmark["throughput"].as_object().and_then(|it| it.values().next()?.as_f64());
    Ok(Estimate {
        name: name.to_owned(),
        median,
        spread: point("median_abs_dev")?,
        per_second: handled.map(|handled| handled * 1e9 / median),
    })
}

fn json(path: &Path) -> Result<Value, Error> {
    let text = fs::read(path).map_err(Error::file("read", path))?;
    serde_json::from_slice(&text).map_err(|source| Error::Json { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const ESTIMATES: &str = r#"{
        "mean": {"confidence_interval": {"confidence_level": 0.95, "lower_bound": 1.0, "upper_bound": 3.0},
                 "point_estimate": 2.5, "standard_error": 0.1},
        "median": {"point_estimate": 2000.0},
        "median_abs_dev": {"point_estimate": 30.5},
        "slope": null
    }"#;

    /// Writes one benchmark as criterion does.
    fn write(root: &Path, at: &str, estimates: &str, benchmark: &str) {
        let folder = root.join(at).join("new");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("estimates.json"), estimates).unwrap();
        fs::write(folder.join("benchmark.json"), benchmark).unwrap();
    }

    #[test]
    fn results_are_found_and_sorted_by_name() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "trip/lone", ESTIMATES, r#"{"full_id": "trip/lone", "throughput": null}"#);
        let saturated = r#"{"full_id": "saturated/64", "throughput": {"Elements": 8}}"#;
        write(root.path(), "saturated/64", ESTIMATES, saturated);
        fs::create_dir_all(root.path().join("trip/lone/base")).unwrap();
        fs::write(root.path().join("trip/lone/base/estimates.json"), "{}").unwrap();

        let expected = [("saturated/64", Some(4e6)), ("trip/lone", None)].map(|(name, per_second)| {
            Estimate { name: name.to_owned(), median: 2000.0, spread: 30.5, per_second }
        });
        assert_eq!(read(root.path(), SystemTime::UNIX_EPOCH).unwrap(), expected);
    }

    #[test]
    fn results_of_earlier_runs_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "old", ESTIMATES, r#"{"full_id": "old"}"#);
        write(root.path(), "now", ESTIMATES, r#"{"full_id": "now"}"#);
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (name, time) in [("old", since - Duration::from_secs(1)), ("now", since)] {
            let file =
                fs::File::options().write(true).open(root.path().join(name).join("new/estimates.json"));
            file.unwrap().set_modified(time).unwrap();
        }
        let names: Vec<_> = read(root.path(), since).unwrap().into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["now"]);
    }

    #[test]
    fn a_folder_that_does_not_exist_holds_no_results() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read(&root.path().join("criterion"), SystemTime::UNIX_EPOCH).unwrap(), []);
    }

    #[test]
    fn a_file_that_cannot_be_understood_is_named() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "a", r#"{"median": 1}"#, r#"{"full_id": "a"}"#);
        let error = read(root.path(), SystemTime::UNIX_EPOCH).unwrap_err().told();
        assert!(error.ends_with("estimates.json: no point estimate of `median`"), "{error}");

        write(root.path(), "a", "{torn", "{}");
        let error = read(root.path(), SystemTime::UNIX_EPOCH).unwrap_err().told();
        assert!(error.starts_with("cannot read ") && error.contains("estimates.json: "), "{error}");

        write(root.path(), "a", ESTIMATES, "{}");
        let error = read(root.path(), SystemTime::UNIX_EPOCH).unwrap_err().told();
        assert!(error.ends_with("benchmark.json: no `full_id`"), "{error}");
    }
}
