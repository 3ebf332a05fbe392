//! What is run, and how it is told.

use crate::arguments::{Arguments, Contest};
use crate::device::Cost;
use crate::file;
use crate::result::Row;
use crate::rules::{Kind as Rule, Options, Order};
use crate::task::{MS, SECOND};
use crate::workload::{Caller, Kind, Workload};
use crate::world::run as run_world;
use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use std::error::Error;

const LOADS: [f64; 3] = [0.7, 1.0, 1.3];

/// Runs what was asked for.
pub(crate) fn run(arguments: &Arguments) -> Result<Vec<Row>, Box<dyn Error>> {
    let contests =
        if arguments.contests.is_empty() { Contest::value_variants() } else { &arguments.contests[..] };
    let mut rows = Vec::new();
    if let Some(path) = &arguments.file {
        let workload = file::read(path, arguments.cost)?;
        let load = file::load(&workload);
        let ours = [Options::DEFAULT, Options::OBJECTIVES, Options::FAIR].map(Rule::Skep);
        let rules = ours.into_iter().chain(Rule::OTHERS).filter(|rule| rule.name().contains(&arguments.rule));
        let ran = rules.map(|rule| {
            run_world(&workload, &mut rule.build(&workload)).row(workload.name, load, rule.name())
        });
        rows.extend(ran);
    }
    for contest in contests.iter().filter(|_| arguments.file.is_none()) {
        let one = |workload: &Workload, name: &str, load, rule: Rule| {
            let is_wanted = name.contains(&arguments.workload) && rule.name().contains(&arguments.rule);
            is_wanted.then(|| run_world(workload, &mut rule.build(workload)).row(name, load, rule.name()))
        };
        match contest {
            Contest::Goodput => goodput(arguments, one, &mut rows),
            Contest::ClosedLoop => closed_loop(arguments, one, &mut rows),
            Contest::Fairness => fairness(arguments, one, &mut rows),
            Contest::Aging => aging(arguments, one, &mut rows),
            Contest::Riders => riders(arguments, one, &mut rows),
            Contest::Devices => devices(arguments, one, &mut rows),
            Contest::Beside => beside(arguments, one, &mut rows),
        }
    }
    if rows.is_empty() {
        return Err("no workload and rule has such a name".into());
    }
    Ok(rows)
}

fn goodput(
    arguments: &Arguments,
    one: impl Fn(&Workload, &str, f64, Rule) -> Option<Row>,
    rows: &mut Vec<Row>,
) {
    for kind in Kind::ALL.into_iter().filter(|kind| kind.name().contains(&arguments.workload)) {
        for load in LOADS {
            let workload = kind.tasks(load, arguments.seconds * SECOND, arguments.seed);
            let ours = [Options::DEFAULT, Options::OBJECTIVES, Options::FAIR].map(Rule::Skep);
            for rule in ours.into_iter().chain(Rule::OTHERS) {
                rows.extend(one(&workload, workload.name, load, rule));
            }
        }
    }
}

/// Cost curves from constant to proportional.
const CURVES: [Cost; 10] = [
    Cost::line("a10-b0", 10e-3, 0.0),
    Cost::line("a10-b0.05", 10e-3, 0.05e-3),
    Cost::line("a10-b0.2", 10e-3, 0.2e-3),
    Cost::line("a5-b0.5", 5e-3, 0.5e-3),
    Cost::line("a2-b1", 2e-3, 1e-3),
    Cost::line("a0-b1", 0.0, 1e-3),
    Cost::line("a1-b0.1", 1e-3, 0.1e-3),
    Cost::line("a1-b0", 1e-3, 0.0),
    Cost::line("a50-b1", 50e-3, 1e-3),
    Cost::line("a0.3-b0.03", 0.3e-3, 0.03e-3),
];

fn closed_loop(
    arguments: &Arguments,
    one: impl Fn(&Workload, &str, f64, Rule) -> Option<Row>,
    rows: &mut Vec<Row>,
) {
    let never = Options { name: "skep-no-linger", linger: false, ..Options::DEFAULT };
    let early = Options { name: "skep-early", linger: false, just_in_time: false, ..Options::DEFAULT };
    for cost in CURVES {
        for callers in [1, 2, 4, 8, 16, 32, 64] {
            let workload = Workload::closed(cost, callers, 64, arguments.seconds * SECOND, arguments.seed);
            let name = format!("closed-{callers}-{}", cost.name);
            for rule in [Options::DEFAULT, never, early] {
                rows.extend(one(&workload, &name, f64::from(callers), Rule::Skep(rule)));
            }
        }
    }
    for cost in Cost::ALL {
        let workload = Workload::closed(cost, 64, 64, arguments.seconds * SECOND, arguments.seed);
        let name = format!("closed-64-{}", cost.name);
        for rule in [Options::DEFAULT, never, early].map(Rule::Skep).into_iter().chain(Rule::OTHERS) {
            rows.extend(one(&workload, &name, 64.0, rule));
        }
    }
}

fn fairness(
    arguments: &Arguments,
    one: impl Fn(&Workload, &str, f64, Rule) -> Option<Row>,
    rows: &mut Vec<Row>,
) {
    for (flows, models) in
        [(2, 1), (10, 1), (100, 1), (2, 10), (10, 10), (100, 10), (2, 100), (10, 100), (100, 100)]
    {
        let workload = Workload::flows(Cost::MIXED, flows, models, 32, arguments.seconds * SECOND);
        let name = format!("flows-{flows}-models-{models}");
        for rule in [Rule::Skep(Options::DEFAULT), Rule::Skep(Options::FAIR)] {
            rows.extend(one(&workload, &name, f64::from(flows), rule));
        }
    }
    let weighted = Options { name: "skep-fair-1-2-5", weights: &[1.0, 2.0, 5.0], ..Options::FAIR };
    let workload = Workload::flows(Cost::MIXED, 3, 1, 64, arguments.seconds * SECOND);
    rows.extend(one(&workload, "flows-3-weighted", 3.0, Rule::Skep(weighted)));
}

/// Callers of the highest class who fill the device, and one of the lowest.
fn aging(
    arguments: &Arguments,
    one: impl Fn(&Workload, &str, f64, Rule) -> Option<Row>,
    rows: &mut Vec<Row>,
) {
    let mut workload = Workload::closed(Cost::MIXED, 128, 32, arguments.seconds * SECOND, arguments.seed);
    workload.callers.iter_mut().for_each(|caller| caller.priority = -100);
    let lowest = Caller { priority: 100, flow: 2, from: 50 * MS, thinks: 10 * MS, ..workload.callers[0] };
    workload.callers.push(lowest);
    let order = Order::Aging(1);
    let classes = Options { name: "skep-classes-of-fair", order: Order::ClassesOfFair, ..Options::DEFAULT };
    for rule in [Options::DEFAULT, Options { name: "skep-aging-1ms", order, ..Options::DEFAULT }, classes] {
        rows.extend(one(&workload, "lowest-class", 1.0, Rule::Skep(rule)));
    }
}

/// A queue that is always full of tasks of the lowest class, and one urgent task now and then.
fn riders(
    arguments: &Arguments,
    one: impl Fn(&Workload, &str, f64, Rule) -> Option<Row>,
    rows: &mut Vec<Row>,
) {
    let cost = Cost::line("a0-b10", 0.0, 10e-3);
    let mut workload = Workload::closed(cost, 64, 16, arguments.seconds * SECOND, arguments.seed);
    workload.callers.iter_mut().for_each(|caller| caller.priority = 100);
    let urgent = Caller { priority: -100, flow: 2, from: 500 * MS, thinks: 600 * MS, ..workload.callers[0] };
    workload.callers.push(urgent);
    let full = Options { name: "skep-full", riders: f64::INFINITY, ..Options::DEFAULT };
    for rule in [Options::DEFAULT, full] {
        rows.extend(one(&workload, "urgent-before-background", 1.0, Rule::Skep(rule)));
    }
}

/// Short texts beside long ones, whose callers wait for their answers.
fn beside(
    arguments: &Arguments,
    one: impl Fn(&Workload, &str, f64, Rule) -> Option<Row>,
    rows: &mut Vec<Row>,
) {
    for longs in [0, 2, 16] {
        let workload = Workload::beside(16, longs, arguments.seconds * SECOND, arguments.seed);
        let name = format!("16-short-beside-{longs}-long");
        for rule in [Options::DEFAULT, Options::FAIR] {
            rows.extend(one(&workload, &name, f64::from(16 + longs), Rule::Skep(rule)));
        }
    }
}

/// The same load for each of several devices, to which tasks go in turn.
fn devices(
    arguments: &Arguments,
    one: impl Fn(&Workload, &str, f64, Rule) -> Option<Row>,
    rows: &mut Vec<Row>,
) {
    for devices in [1, 2, 4] {
        for kind in [Kind::Steady, Kind::Bursty, Kind::Zipf] {
            for load in LOADS {
                let time = arguments.seconds * SECOND;
                let mut workload = kind.tasks(load * f64::from(devices), time, arguments.seed);
                workload.devices = devices;
                let name = format!("{}-devices-{devices}", workload.name);
                let ours = [Options::DEFAULT, Options::OBJECTIVES].map(Rule::Skep);
                for rule in ours.into_iter().chain(Rule::OTHERS) {
                    rows.extend(one(&workload, &name, load, rule));
                }
            }
        }
    }
}

/// Most that are shown of flows.
const MOST_FLOWS: usize = 5;

/// The rows as a table.
pub(crate) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header([
        "workload",
        "load",
        "rule",
        "goodput",
        "p50 ms",
        "p99 ms",
        "busy",
        "padding",
        "fairness",
        "tasks/s",
        "rows/batch",
        "p50, p99, longest ms by class",
        "p50, p99 ms, device s by flow",
    ]);
    for row in rows {
        let classes = row.classes.iter().map(|class| {
            format!("{}: {:.0}, {:.0}, {:.0}", class.of, class.p50_ms, class.p99_ms, class.longest_ms)
        });
        // One flow is what stands before.
        let shown = if row.flows.len() > 1 { &row.flows[..row.flows.len().min(MOST_FLOWS)] } else { &[] };
        let flows = shown
            .iter()
            .map(|flow| format!("{}: {:.0}, {:.0}, {:.1}", flow.of, flow.p50_ms, flow.p99_ms, flow.served_s));
        let more = row.flows.len() - shown.len();
        let more = (shown.len() > 1 && more > 0).then(|| format!("and {more} more"));
        table.add_row([
            row.workload.clone(),
            format!("{:.1}", row.load),
            row.rule.clone(),
            format!("{:.3}", row.goodput),
            format!("{:.1}", row.p50_ms),
            format!("{:.1}", row.p99_ms),
            format!("{:.3}", row.busy),
            format!("{:.3}", row.padding),
            format!("{:.3}", row.fairness),
            format!("{:.0}", row.tasks_per_s),
            format!("{:.1}", row.rows_per_batch),
            classes.collect::<Vec<_>>().join("\n"),
            flows.chain(more).collect::<Vec<_>>().join("\n"),
        ]);
    }
    for column in table.column_iter_mut().filter(|column| ![0, 2, 11, 12].contains(&column.index)) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Class;
    use crate::task::{Nanos, Task};

    fn outcome(rule: Rule, load: f64, kind: Kind) -> Row {
        let workload = kind.tasks(load, SECOND, 7);
        run_world(&workload, &mut rule.build(&workload)).row(kind.name(), load, rule.name())
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let twice = [(); 2].map(|()| {
            let rows = [Options::DEFAULT, Options::OBJECTIVES, Options::FAIR].map(Rule::Skep);
            let rows: Vec<_> =
                rows.into_iter().chain(Rule::OTHERS).map(|rule| outcome(rule, 1.0, Kind::Zipf)).collect();
            serde_json::to_string(&rows).unwrap()
        });
        assert_eq!(twice[0], twice[1]);
    }

    #[test]
    fn programs_read_nine_keys() {
        let row = outcome(Rule::Tei, 0.7, Kind::Steady);
        let object = serde_json::to_value(&row).unwrap();
        let mut keys: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        let expected =
            ["busy", "fairness", "goodput", "load", "p50_ms", "p99_ms", "padding", "rule", "workload"];
        assert_eq!(keys, expected);
    }

    #[test]
    fn no_rule_loses_a_task_without_objectives() {
        for kind in Kind::ALL {
            for rule in [Options::DEFAULT, Options::FAIR].map(Rule::Skep).into_iter().chain([
                Rule::Hivemind,
                Rule::Tei,
                Rule::Triton,
            ]) {
                let row = outcome(rule, 0.7, kind);
                let answered: u64 = row.classes.iter().map(|class| class.answered).sum();
                assert_eq!(answered, row.tasks, "{} under {}", rule.name(), kind.name());
            }
        }
    }

    #[test]
    fn the_lowest_class_waits_no_longer_than_its_bound() {
        let order = Order::Aging(1);
        let mut workload = Workload::closed(Cost::MIXED, 128, 32, 20 * SECOND, 3);
        workload.callers.iter_mut().for_each(|caller| caller.priority = -100);
        let lowest = Caller { priority: 100, flow: 2, from: 50 * MS, thinks: 10 * MS, ..workload.callers[0] };
        workload.callers.push(lowest);
        let rule = Rule::Skep(Options { name: "aging", order, ..Options::DEFAULT });
        let row = run_world(&workload, &mut rule.build(&workload)).row("", 1.0, "");
        let class = row.classes.iter().find(|class| class.of == 100).unwrap();
        // Two hundred levels of a millisecond, and the tasks that came before: four batches of 20 ms, and its own.
        assert!(class.answered > 20 && class.longest_ms < 200.0 + 6.0 * 20.0, "{class:?}");
    }

    #[test]
    fn short_texts_keep_their_share_beside_long_ones() {
        let run = |longs| {
            let workload = Workload::beside(16, longs, 60 * SECOND, 3);
            let row = run_world(&workload, &mut Rule::Skep(Options::FAIR).build(&workload)).row("", 1.0, "");
            let sum = |are: bool, what: fn(&Class) -> f64| {
                row.flows.iter().filter(|flow| (flow.of <= 16) == are).map(what).sum::<f64>()
            };
            let (answered, device) =
                (sum(true, |flow| flow.answered as f64), |are| sum(are, |flow| flow.served_s));
            (answered, device(false) / (device(true) + device(false)))
        };
        let (alone, _) = run(0);
        for (longs, keep) in [(2, 0.8), (16, 0.45)] {
            let (answered, share) = run(longs);
            let due = f64::from(longs) / f64::from(16 + longs);
            println!("{longs}: {} of alone, the long ones {share} of {due}", answered / alone);
            assert!(answered >= keep * alone, "{answered} of {alone} beside {longs}");
            assert!(share >= 0.9 * due, "{share} of {due}");
        }
    }

    /// Where there is too much for all, and twice as many as first come, first served. All cells: `cargo xtask simulate goodput`.
    #[test]
    fn nobody_answers_more_in_time() {
        let cells = Kind::ALL.map(|kind| (kind, 1.3)).into_iter().chain([(Kind::ShortAndLong, 1.0)]);
        for (kind, load) in cells {
            let workload = kind.tasks(load, 20 * SECOND, 1);
            let goodput =
                |rule: Rule| run_world(&workload, &mut rule.build(&workload)).row("", load, "").goodput;
            let own = goodput(Rule::Skep(Options::OBJECTIVES));
            for other in Rule::OTHERS {
                let (theirs, name) = (goodput(other), kind.name());
                assert!(own >= theirs * 0.99, "{name} at {load}: {own}, {} has {theirs}", other.name());
                let is_first_come = matches!(other, Rule::Hivemind);
                assert!(!is_first_come || own >= 2.0 * theirs, "{name} at {load}: {own} of {theirs}");
            }
        }
    }

    /// Of three flows that always wait, each has its share of ten seconds by its weight, within 2 %.
    #[test]
    fn weights_share_ten_seconds() {
        let weights = &[1.0, 2.0, 5.0];
        let rule = Rule::Skep(Options { weights, ..Options::FAIR });
        // What a flow has had in the first second: nothing is known of the batches then.
        let served = |seconds: Nanos| -> Vec<f64> {
            let workload = Workload::flows(Cost::MIXED, 3, 1, 64, seconds * SECOND);
            let row = run_world(&workload, &mut rule.build(&workload)).row("", 1.0, "");
            row.flows.iter().map(|flow| flow.served_s).collect()
        };
        let served: Vec<f64> = served(11).iter().zip(served(1)).map(|(end, begin)| end - begin).collect();
        let all: f64 = served.iter().sum();
        for (served, weight) in served.iter().zip(weights) {
            let due = all * weight / 8.0;
            assert!((served - due).abs() <= 0.02 * due, "{served}: {due} is due");
        }
    }

    #[test]
    fn an_urgent_task_is_not_kept_by_riders() {
        let task = |id, priority, arrived| Task {
            id,
            model: 0,
            flow: 1,
            priority,
            elements: 16,
            arrived,
            objective: SECOND,
            caller: None,
        };
        let cost = Cost::line("a0-b10", 0.0, 10e-3);
        let mut workload = Workload::closed(cost, 0, 16, 30 * SECOND, 1);
        workload.tasks = (0..800).map(|id| task(id, 100, u64::from(id) * MS)).collect();
        workload.tasks.push(task(800, -100, 4 * SECOND));
        let rule = Rule::Skep(Options::DEFAULT);
        let row = run_world(&workload, &mut rule.build(&workload)).row("", 1.0, "");
        let urgent = &row.classes[0];
        // The batch that runs, and its own.
        assert!(urgent.longest_ms <= 160.0 + 13.0, "{urgent:?}");
    }
}
