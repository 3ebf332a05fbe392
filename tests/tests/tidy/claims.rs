//! What ARCHITECTURE.md claims of threads and locks.
//!
//! It has one table of threads, whose head begins with `| thread |`, and one of locks, whose head begins with
//! `| lock |`; the first cell of each row holds names between backticks. A thread's is the name that it runs under,
//! with `N` for a number: `skep-sender-N`. A lock's is its file and its field: `pool/src/shared.rs: Shared.state`.

use crate::Breach;
use crate::house::House;
use crate::tree::read;
use std::path::Path;

const PAGE: &str = "ARCHITECTURE.md";

/// Names that threads are started with and that the table lacks, and the other way round; and threads without a name.
pub(crate) fn threads(root: &Path, house: &House, folders: &[&str]) -> Vec<Breach> {
    let scans = || house.crates(folders).flat_map(|it| &it.scans);
    let strings =
        scans().flat_map(|(file, scan)| scan.strings.iter().map(move |(text, line)| (file, text, *line)));
    let named: Vec<_> = strings.filter_map(|(file, text, line)| Some((thread(text)?, file, line))).collect();
    let mut breaches = compare("thread", &read(root, PAGE), &named);
    for arrow in house.crates(folders).flat_map(|it| house.arrows(it)) {
        if arrow.path.ends_with("thread::spawn") {
            let what = "a thread has a name: `std::thread::Builder::new().name(…)`";
            breaches.push(Breach::new(&arrow.file, arrow.line, what));
        }
    }
    breaches.sort();
    breaches
}

/// The name in the table of a thread that is named so: `skep-sender-{i}` is `skep-sender-N`. No other string of the
/// libraries begins like this.
fn thread(text: &str) -> Option<String> {
    text.strip_prefix("skep-")?;
    Some(match text.split_once('{') {
        Some((name, _)) => format!("{name}N"),
        None => text.to_owned(),
    })
}

/// Locks that the table lacks, and the other way round.
pub(crate) fn locks(root: &Path, house: &House, folders: &[&str], unlisted: &[&str]) -> Vec<Breach> {
    let scans = house.crates(folders).flat_map(|it| &it.scans);
    let scans = scans.filter(|(file, _)| !unlisted.iter().any(|folder| file.starts_with(folder)));
    let locks = scans.flat_map(|(file, scan)| scan.locks.iter().map(move |(name, line)| (file, name, *line)));
    let found: Vec<_> = locks.map(|(file, name, line)| (format!("{file}: {name}"), file, line)).collect();
    let mut breaches = compare("lock", &read(root, PAGE), &found);
    breaches.sort();
    breaches
}

/// Holds the table of `kind` against what was found, each with its file and line.
fn compare(kind: &str, page: &str, found: &[(String, &String, usize)]) -> Vec<Breach> {
    let Some(claims) = claims(kind, page) else {
        return vec![Breach::new(PAGE, 1, format!("there is no table whose head begins with `| {kind} |`"))];
    };
    let claimed = |name: &str| claims.iter().any(|(claim, _)| claim == name);
    let missing = found.iter().filter(|(name, ..)| !claimed(name)).map(|(name, file, line)| {
        Breach::new(file, *line, format!("the {kind} `{name}` is not in {PAGE}'s table"))
    });
    let invented = claims.iter().filter(|(claim, _)| !found.iter().any(|(name, ..)| name == claim));
    let invented =
        invented.map(|(claim, line)| Breach::new(PAGE, *line, format!("there is no {kind} `{claim}`")));
    missing.chain(invented).collect()
}

/// The names in the first column of a table, with their lines.
fn claims(kind: &str, page: &str) -> Option<Vec<(String, usize)>> {
    let head = format!("| {kind} |");
    let lines = || (1..).zip(page.lines());
    let (start, _) = lines().find(|(_, line)| line.starts_with(&head))?;
    let rows = lines().skip(start).take_while(|(_, line)| line.starts_with('|'));
    let cells = rows.filter_map(|(at, line)| Some((at, line.split('|').nth(1)?)));
    // Every second piece stands between backticks.
    let names = cells
        .flat_map(|(at, cell)| cell.split('`').skip(1).step_by(2).map(move |name| (name.to_owned(), at)));
    Some(names.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::{told, tree};

    const SOURCE: &str = r#"
struct Shared { state: std::sync::Mutex<u8> }
fn start(i: usize) {
    spawn("skep-loader", || ());
    spawn(format!("skep-sender-{i}"), || ());
}
"#;
    const PAGE: &str = "\
| thread | does |
|---|---|
| `skep-loader` | loads |
| `skep-sender-N` | sends |

| lock | guards |
|---|---|
| `one/src/lib.rs: Shared.state` | all |
";

    fn breaches(source: &str, page: &str) -> Vec<String> {
        let manifest = "[package]\nname = \"one\"\n";
        let tree =
            tree(&[("one/Cargo.toml", manifest), ("one/src/lib.rs", source), ("ARCHITECTURE.md", page)]);
        let (root, house) = (tree.path(), House::read(tree.path()));
        let both = [threads(root, &house, &["one"]), locks(root, &house, &["one"], &["one/src/sync/"])];
        told(&both.concat())
    }

    #[test]
    fn true_claims_are_kept() {
        assert_eq!(breaches(SOURCE, PAGE), [""; 0]);
    }

    #[test]
    fn what_the_page_leaves_out_is_found() {
        let source =
            SOURCE.to_owned() + "static ALL: Mutex<u8> = Mutex::new(0);\nfn f() { spawn(\"skep-new\"); }\n";
        let expected = [
            "one/src/lib.rs:8: the thread `skep-new` is not in ARCHITECTURE.md's table",
            "one/src/lib.rs:7: the lock `one/src/lib.rs: ALL` is not in ARCHITECTURE.md's table",
        ];
        assert_eq!(breaches(&source, PAGE), expected);
    }

    #[test]
    fn what_the_page_invents_is_found() {
        let page =
            PAGE.replace("`skep-loader`", "`skep-loader`, `skep-old`").replace("Shared.state", "Core.stage");
        let expected = [
            "ARCHITECTURE.md:3: there is no thread `skep-old`",
            "ARCHITECTURE.md:8: there is no lock `one/src/lib.rs: Core.stage`",
            "one/src/lib.rs:2: the lock `one/src/lib.rs: Shared.state` is not in ARCHITECTURE.md's table",
        ];
        assert_eq!(breaches(SOURCE, &page), expected);
        assert_eq!(
            breaches("", "nothing"),
            [
                "ARCHITECTURE.md:1: there is no table whose head begins with `| thread |`",
                "ARCHITECTURE.md:1: there is no table whose head begins with `| lock |`",
            ]
        );
    }

    #[test]
    fn a_thread_without_a_name_is_found() {
        let source = SOURCE.to_owned() + "use std::thread;\nfn f() { thread::spawn(|| ()); }\n";
        let expected = ["one/src/lib.rs:8: a thread has a name: `std::thread::Builder::new().name(…)`"];
        assert_eq!(breaches(&source, PAGE), expected);
    }
}
