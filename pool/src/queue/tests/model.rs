//! Random callers against a queue that looks at everything each time.

use super::*;
use proptest::test_runner::TestCaseResult;

const MAX_ROWS: usize = 5;
/// The most elements of a row.
const LARGEST: u32 = 6;

#[derive(Clone, Debug)]
enum Step {
    Push { priority: i32, rows: usize, free: usize, elements: u32, deadline: Option<u64>, is_divisible: bool },
    Cut { most_rows: usize, wanted: i32 },
    Cancel(usize),
    Evict { than: i32, tasks: usize, rows: usize },
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let push = (-2i32..3, 1..=MAX_ROWS, 0usize..3, 1..=LARGEST, prop::option::of(1u64..60), 0usize..5);
    prop_oneof![
        12 => push.prop_map(|(priority, rows, free, elements, deadline, kind)| {
            let is_divisible = kind == 0;
            let rows = if is_divisible { rows * MAX_ROWS } else { rows };
            Step::Push { priority, rows, free, elements, deadline, is_divisible }
        }),
        5 => (0usize..8, prop_oneof![3 => Just(9), 1 => -2i32..3])
            .prop_map(|(most_rows, wanted)| Step::Cut { most_rows, wanted }),
        3 => (0usize..30).prop_map(Step::Cancel),
        1 => (-2i32..3, 0usize..3, 0usize..9).prop_map(|(than, tasks, rows)| Step::Evict { than, tasks, rows }),
        3 => (0u64..30).prop_map(Step::Pass),
    ]
}

/// A waiting task, or what is left of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    priority: i32,
    /// Its place among equals.
    seq: u64,
    number: u64,
    rows: usize,
    free: usize,
    /// Of each row.
    elements: usize,
    submitted: u64,
    since: u64,
    deadline: Option<u64>,
    is_divisible: bool,
    is_started: bool,
}

struct Model {
    waiting: Vec<Waiting>,
    next: u64,
    min_rows: usize,
    delay: u64,
    at_once: bool,
    /// Tasks of all sizes are together, in batches of at most so many elements.
    max_elements: Option<usize>,
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Ready(i32, u64, usize),
    At(u64),
    Idle,
}

impl Model {
    fn group(&self, free: usize) -> Vec<Waiting> {
        let mut group: Vec<_> = self.waiting.iter().copied().filter(|task| task.free == free).collect();
        group.sort_by_key(|task| (task.priority, task.seq));
        group
    }

    /// In half seconds, as half of a deadline may be one.
    fn due(&self, task: &Waiting) -> u64 {
        let by_deadline = task.deadline.map(|deadline| task.submitted + deadline);
        (2 * (task.since + self.delay)).min(by_deadline.unwrap_or(u64::MAX))
    }

    fn look(&self, now: u64, most_rows: usize) -> Seen {
        let (mut best, mut next) = (None, None);
        for free in 0..3 {
            let group = self.group(free);
            let Some(first) = group.first() else { continue };
            let rows: usize = group.iter().map(|task| task.rows).sum();
            let due = group.iter().map(|task| self.due(task)).min();
            let elements: usize = group.iter().map(|task| task.rows * task.elements).sum();
            let most = self.max_elements.map_or(usize::MAX, |max| (max / elements.div_ceil(rows)).max(1));
            let enough = self.min_rows.min(most_rows).min(most);
            if self.at_once || rows >= enough || due.is_some_and(|due| due <= 2 * now) {
                best = best.into_iter().chain([(first.priority, first.since, free)]).min();
            } else {
                next = next.into_iter().chain(due).min();
            }
        }
        match (best, next) {
            (Some((priority, since, free)), _) => Seen::Ready(priority, since, free),
            (None, Some(due)) => Seen::At(due),
            (None, None) => Seen::Idle,
        }
    }

    fn forget(&mut self, number: u64) -> Option<Waiting> {
        let at = self.waiting.iter().position(|task| task.number == number)?;
        Some(self.waiting.remove(at))
    }

    fn cut(&mut self, now: u64, most_rows: usize, wanted: i32) -> Option<Vec<(u64, usize)>> {
        let is_moot = |task: &Waiting| task.deadline.is_some_and(|deadline| deadline <= now);
        let free = loop {
            let Seen::Ready(priority, _, free) = self.look(now, most_rows) else { return None };
            let first = self.group(free)[0];
            if is_moot(&first) {
                self.forget(first.number);
            } else if priority > wanted {
                return None;
            } else {
                break free;
            }
        };
        let (mut room, mut batch) = (MAX_ROWS.min(most_rows).max(1), Vec::new());
        let mut elements = self.max_elements.unwrap_or(usize::MAX);
        for task in self.group(free) {
            let fit = room.min(elements / task.elements);
            if is_moot(&task) {
                self.forget(task.number);
            } else if task.rows <= fit || (batch.is_empty() && !task.is_divisible) {
                self.forget(task.number);
                batch.push((task.number, task.rows));
                room = room.saturating_sub(task.rows);
                elements = elements.saturating_sub(task.rows * task.elements);
            } else {
                if task.is_divisible && fit > 0 {
                    self.forget(task.number);
                    batch.push((task.number, fit));
                    let (rows, seq) = (task.rows - fit, self.next);
                    self.next += 1;
                    let rest = Waiting { rows, seq, since: now, deadline: None, is_started: true, ..task };
                    self.waiting.push(rest);
                }
                break;
            }
        }
        Some(batch)
    }

    fn evict(&mut self, than: i32, tasks: usize, rows: usize) -> Vec<u64> {
        let mut all = self.waiting.clone();
        all.retain(|task| task.priority > than && !task.is_started);
        all.sort_by_key(|task| std::cmp::Reverse((task.priority, task.seq)));
        let mut left = (0, 0);
        let enough = all.iter().take(MOST_EVICTED).position(|task| {
            left = (left.0 + 1, left.1 + task.rows);
            left.0 >= tasks && left.1 >= rows
        });
        let numbers: Vec<_> =
            all.iter().take(enough.map_or(0, |at| at + 1)).map(|task| task.number).collect();
        for number in &numbers {
            self.forget(*number);
        }
        numbers
    }
}

fn run(
    min_rows: usize,
    delay: u64,
    at_once: bool,
    max_elements: Option<usize>,
    steps: Vec<Step>,
) -> TestCaseResult {
    let options = rows(MAX_ROWS, min_rows, delay).max_elements(max_elements).eviction(true);
    let mut bench = Bench::new(options);
    bench.at_once = at_once;
    bench.is_mixed = max_elements.is_some();
    let mut model = Model { waiting: Vec::new(), next: 0, min_rows, delay, at_once, max_elements };
    let mut tickets = Vec::new();
    let mut now = 0;
    for step in steps {
        now += 1;
        match step {
            Step::Push { priority, rows, free, elements, deadline, is_divisible } => {
                let (free, elements) = if max_elements.is_some() { (0, elements) } else { (free, 1) };
                let deadline = deadline.map(|after| now + after);
                let header = TaskHeader::new(rows, bench.at(now))
                    .priority(Priority(priority))
                    .elements(elements)
                    .deadline(deadline.map(|deadline| bench.at(deadline)));
                let (seq, number) = (model.next, bench.queue.next_seq());
                prop_assert_eq!(seq, number);
                let was_ready = matches!(bench.look(now), Look::Ready(_));
                let (is_news, _) = bench.push_item(now, free, header, is_divisible);
                let is_ready = matches!(bench.look(now), Look::Ready(_));
                prop_assert!(is_news || was_ready || !is_ready, "a batch of which nobody hears");
                model.next += 1;
                tickets.push((free, priority, number));
                let (submitted, since) = (now, now);
                let is_started = false;
                model.waiting.push(Waiting {
                    priority,
                    seq,
                    number,
                    rows,
                    free,
                    elements: elements as usize,
                    submitted,
                    since,
                    deadline,
                    is_divisible,
                    is_started,
                });
            }
            Step::Cut { most_rows, wanted } => {
                bench.most_rows = most_rows;
                let wants = |outlook: &Outlook| outlook.rank.class() <= Priority(wanted);
                let cut = bench.cut_if(now, &wants);
                let cut = cut.map(|batch| batch.iter().map(|item| (item.number, item.header.rows)).collect());
                prop_assert_eq!(cut, model.cut(now, most_rows, wanted));
            }
            Step::Cancel(nth) => {
                if let Some(&(free, priority, number)) = tickets.get(nth) {
                    let gone = bench.cancel(free, priority, number);
                    prop_assert_eq!(gone.is_some(), model.forget(number).is_some());
                }
            }
            Step::Evict { than, tasks, rows } => {
                let evicted = bench.evict(Priority(than), tasks, rows);
                let evicted: Vec<_> = evicted.iter().map(|item| item.number).collect();
                prop_assert_eq!(evicted, model.evict(than, tasks, rows));
            }
            Step::Pass(seconds) => now += seconds,
        }
        // What expires is answered at once, so it is not told apart here who took it out.
        let (_, next) = bench.expire(now);
        model.waiting.retain(|task| task.deadline.is_none_or(|deadline| deadline > now));
        prop_assert_eq!(
            next,
            model.waiting.iter().filter_map(|task| task.deadline).min().map(|at| bench.at(at))
        );
        let most_rows = bench.most_rows;
        let half = Duration::from_millis(500);
        let expected = match model.look(now, most_rows) {
            Seen::Ready(priority, since, _) => bench.ready(priority, since),
            Seen::At(due) => Look::At(bench.base + half * u32::try_from(due).unwrap()),
            Seen::Idle => Look::Idle,
        };
        prop_assert_eq!(bench.look(now), expected);
        prop_assert_eq!(bench.queue.tasks(), model.waiting.len());
        prop_assert_eq!(bench.queue.waiting(), model.waiting.iter().filter(|task| !task.is_started).count());
        prop_assert_eq!(bench.queue.rows(), model.waiting.iter().map(|task| task.rows).sum::<usize>());
    }
    prop_assert_eq!(bench.queue.clear().len(), model.waiting.len());
    prop_assert_eq!((bench.queue.tasks(), bench.queue.waiting(), bench.queue.rows()), (0, 0, 0));
    Ok(())
}

proptest! {
    #[test]
    fn agrees_with_a_queue_that_looks_at_everything(
        (min_rows, delay) in prop_oneof![Just((1, 0)), (2usize..=MAX_ROWS, 0u64..40)],
        at_once in prop::bool::weighted(0.1),
        max_elements in prop::option::of(LARGEST as usize..20),
        steps in prop::collection::vec(step(), 0..120),
    ) {
        run(min_rows, delay, at_once, max_elements, steps)?;
    }
}
