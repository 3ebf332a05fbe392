//! Arrows that must not be drawn, from one file to another or to something outside.

use crate::Breach;
use crate::house::{Arrow, House, Target};

/// One row of the table.
pub(crate) struct Never {
    /// A file or folder; also a part of a name, as `pool/src/queue` is of `queue.rs` and `queue/`.
    pub(crate) from: &'static str,
    pub(crate) to: &'static [&'static str],
    pub(crate) why: &'static str,
}

pub(crate) fn forbidden(house: &House, never: &[Never], except: &str) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for arrow in house.all_arrows().iter().filter(|arrow| arrow.file != except) {
        for rule in never.iter().filter(|rule| arrow.file.starts_with(rule.from)) {
            if let Some(to) = rule.to.iter().find(|to| leads_to(arrow, to)) {
                let what = format!("`{}` leads from {} to {to}: {}", arrow.path, rule.from, rule.why);
                breaches.push(Breach::new(&arrow.file, arrow.line, what));
            }
        }
    }
    breaches.sort();
    breaches.dedup();
    breaches
}

fn leads_to(arrow: &Arrow, to: &str) -> bool {
    match &arrow.to {
        Target::File { file, .. } if to.contains('/') => file.starts_with(to),
        Target::File { item, .. } => item.as_deref() == Some(to),
        Target::Outside(path) => to.contains("::") && path.starts_with(to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::{told, tree};

    const NEVER: &[Never] = &[
        Never { from: "core/src/low/", to: &["core/src/high/"], why: "low is below" },
        Never { from: "core/src/queue", to: &["Reply", "std::time::Instant::now"], why: "it is data" },
        Never { from: "server/src/", to: &["core/src/high/"], why: "it is a front end" },
    ];

    /// A tree that keeps the rules, but for one file.
    fn breaches(file: &str, text: &str) -> Vec<String> {
        let mut files = vec![
            ("core/Cargo.toml", "[package]\nname = \"core-of-us\"\n"),
            ("core/src/lib.rs", "mod high;\nmod low;\nmod queue;\npub use high::{High, Reply};\n"),
            (
                "core/src/high/mod.rs",
                "mod reply;\npub use reply::Reply;\npub struct High(crate::low::Low);\n",
            ),
            ("core/src/high/reply.rs", "pub struct Reply;\n"),
            ("core/src/low/mod.rs", "pub struct Low;\n#[cfg(test)]\nmod tests { use crate::high::High; }\n"),
            ("core/src/queue/mod.rs", "use std::time::Instant;\nfn f(_: Instant) {}\n"),
            ("server/Cargo.toml", "[package]\nname = \"server-of-us\"\n"),
            ("server/src/lib.rs", "mod backend;\n"),
            ("server/src/backend.rs", "use core_of_us::High;\n"),
        ];
        files.retain(|(name, _)| *name != file);
        files.push((file, text));
        told(&forbidden(&House::read(tree(&files).path()), NEVER, "server/src/backend.rs"))
    }

    #[test]
    fn the_rules_can_be_kept() {
        assert_eq!(breaches("core/src/other.rs", ""), [""; 0]);
    }

    #[test]
    fn an_arrow_that_is_drawn_back_is_found_through_whatever_hands_it_on() {
        let plain = breaches("core/src/low/mod.rs", "pub struct Low;\n\nuse crate::high::High;\n");
        assert_eq!(
            plain,
            [
                "core/src/low/mod.rs:3: `crate::high::High` leads from core/src/low/ to core/src/high/: low is below"
            ]
        );
        for text in [
            "use crate::High;",
            "use super::{super::low, High};",
            "use crate as us; fn f(_: us::High) {}",
            "fn f() { println!(\"{}\", crate::high::X) }",
        ] {
            assert_eq!(breaches("core/src/low/mod.rs", text).len(), 1, "{text}");
        }
    }

    #[test]
    fn an_item_and_a_clock_are_found_by_name() {
        let text =
            "use crate::Reply;\nuse std::time::*;\nuse std::time::Instant;\nfn f() { Instant::now(); }\n";
        let why = "it is data";
        assert_eq!(
            breaches("core/src/queue/mod.rs", text),
            [
                format!("core/src/queue/mod.rs:1: `crate::Reply` leads from core/src/queue to Reply: {why}"),
                format!(
                    "core/src/queue/mod.rs:4: `Instant::now` leads from core/src/queue to std::time::Instant::now: {why}"
                ),
            ]
        );
    }

    #[test]
    fn an_arrow_between_crates_is_found() {
        let told = breaches("server/src/lib.rs", "mod backend;\nuse core_of_us::High;\n");
        assert_eq!(
            told,
            [
                "server/src/lib.rs:2: `core_of_us::High` leads from server/src/ to core/src/high/: it is a front end"
            ]
        );
    }
}
