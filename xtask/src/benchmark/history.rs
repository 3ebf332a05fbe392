//! How the stored counts of instructions went: all versions of their file that git has, and the one that is not
//! committed yet, as a picture in the documentation.

use crate::benchmark::instructions::{Counts, STORED, read};
use crate::error::Error;
use crate::machine::process::{git, root};
use crate::report::line_chart::{Chart, Series, Time};
use crate::report::units::thousands;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// The picture, from the workspace's folder.
const PICTURE: &str = "docs/benchmarks/instructions.svg";

/// The counts at one time.
#[derive(Debug, PartialEq)]
struct Version {
    /// When they were committed, in seconds since 1970.
    at: u32,
    day: String,
    counts: Counts,
}

/// Draws the picture anew.
pub(crate) fn draw() -> Result<(), Error> {
    let versions = versions(root())?;
    let picture = root().join(PICTURE);
    fs::write(&picture, chart(&versions).to_svg()?).map_err(Error::file("write", &picture))?;
    println!("written: {} ({} versions of {STORED})", picture.display(), versions.len());
    Ok(())
}

/// All versions, the oldest first.
fn versions(repository: &Path) -> Result<Vec<Version>, Error> {
    if git(repository, &["rev-parse", "--is-shallow-repository"])?.trim() == "true" {
        return Err(Error::Usage("git has the last commits only here: git fetch --unshallow".to_owned()));
    }
    // `--raw` names the contents, so that a file which was moved is found where it was.
    let log = ["log", "--follow", "--reverse", "--raw", "--no-abbrev", "--format=%ct %cs", "--", STORED];
    let mut versions = Vec::new();
    for (at, day, content) in commits(&git(repository, &log)?) {
        let counts = read(&git(repository, &["cat-file", "blob", content])?);
        // A version that nobody can read is not worth losing the others for.
        versions.extend(counts.ok().map(|counts| Version { at, day: day.to_owned(), counts }));
    }
    let file = repository.join(STORED);
    let text = fs::read_to_string(&file).map_err(Error::file("read", &file))?;
    let now = read(&text).map_err(|source| Error::Json { path: file, source })?;
    if versions.last().is_none_or(|last| last.counts != now) {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let at = u32::try_from(seconds).unwrap_or(u32::MAX);
        versions.push(Version { at, day: day_of(at), counts: now });
    }
    Ok(versions)
}

/// Time, day and content of each commit in what git logs: a line with the first two, and one that begins with a
/// colon, whose fourth word is the content's name. It is all zeros where the file was removed.
fn commits(log: &str) -> impl Iterator<Item = (u32, &str, &str)> {
    let mut time = None;
    log.lines().filter_map(move |line| {
        let Some(change) = line.strip_prefix(':') else {
            time = line.split_once(' ').and_then(|(at, day)| Some((at.parse().ok()?, day))).or(time);
            return None;
        };
        let content = change.split(' ').nth(3).filter(|name| name.contains(|digit| digit != '0'))?;
        let (at, day) = time?;
        Some((at, day, content))
    })
}

/// The day of this second since 1970, in UTC, as git writes it.
fn day_of(at: u32) -> String {
    // After "chrono-compatible low-level date algorithms" (Howard Hinnant): years begin in March, so that a leap
    // day is the last of its year.
    let days = at / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, year) } else { (month - 9, year + 1) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year)
}

fn chart(versions: &[Version]) -> Chart {
    let names: BTreeSet<_> = versions.iter().flat_map(|version| version.counts.keys()).collect();
    let value = |count: &u64| u32::try_from(*count).map_or(f64::INFINITY, f64::from);
    let series = names.into_iter().map(|name| {
        let values: Vec<_> = versions.iter().map(|it| it.counts.get(name).map(value)).collect();
        let known = || values.iter().flatten();
        let ends =
            [known().next(), known().next_back()].map(|it| it.map_or_else(String::new, |it| thousands(*it)));
        Series { name: name.clone(), remark: ends.join(" → "), values }
    });
    Chart {
        title: "Instructions per task",
        about: format!("each version of {STORED}, counted by callgrind (cargo xtask bench --history)"),
        series: series.collect(),
        times: versions.iter().map(|it| Time { at: f64::from(it.at), day: it.day.clone() }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
100 2026-11-25

:000000 100644 0000000000000000000000000000000000000000 aaaa000000000000000000000000000000000000 A\tcounts.json
200 2026-11-26

:100644 100644 aaaa000000000000000000000000000000000000 bbbb000000000000000000000000000000000000 R100\tcounts.json\ttests/compare/counts.json
300 2026-11-27

:100644 000000 bbbb000000000000000000000000000000000000 0000000000000000000000000000000000000000 D\ttests/compare/counts.json
";

    #[test]
    fn each_commit_has_a_time_and_a_content() {
        let found: Vec<_> = commits(LOG).map(|(at, day, content)| (at, day, &content[..4])).collect();
        assert_eq!(found, [(100, "2026-11-25", "aaaa"), (200, "2026-11-26", "bbbb")]);
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(
            [0, 951_782_399, 951_782_400, 951_868_800, 1_795_698_770, 4_107_542_399].map(day_of).join(" "),
            "1970-01-01 2000-02-28 2000-02-29 2000-03-01 2026-11-26 2100-02-28"
        );
    }

    #[test]
    fn a_count_that_came_later_begins_later() {
        let version = |at, counts: &[(&str, u64)]| Version {
            at,
            day: day_of(at),
            counts: counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
        };
        let chart =
            chart(&[version(0, &[("lone", 9_862)]), version(9, &[("batched", 3_102), ("lone", 8_576)])]);
        let series: Vec<_> =
            chart.series.iter().map(|it| (&*it.name, &*it.remark, it.values.len())).collect();
        assert_eq!(series, [("batched", "3,102 → 3,102", 2), ("lone", "9,862 → 8,576", 2)]);
        assert_eq!(chart.series[0].values[0], None);
    }

    /// The working tree has at least what is committed; a copy of the sources without git has none of this.
    #[test]
    fn the_last_version_is_the_one_in_the_tree() {
        let Ok(versions) = versions(root()) else { return println!("skipped: no whole git history here") };
        let text = fs::read_to_string(root().join(STORED)).unwrap();
        assert_eq!(versions.last().unwrap().counts, read(&text).unwrap());
    }
}
