use super::*;
use crate::contract::policy::{Facts, Ran};
use crate::contract::priority::Priority;
use crate::policy::oldest_first::OldestFirst;

const MS: Duration = Duration::from_millis(1);
const POOL: PoolId = PoolId::new(0);

/// A selector and its time, on a device that takes a fixed time and a time per row.
struct World {
    selector: Selector,
    now: Instant,
    fixed: Duration,
    per_row: Duration,
    gather: Duration,
}

fn world(fixed: Duration, per_row: Duration) -> World {
    let selector = Selector::new(Arc::new(OldestFirst), Timing::default());
    World { selector, now: Instant::now(), fixed, per_row, gather: MS / 10 }
}

fn tasks(rows: usize, submitted: Instant) -> Vec<TaskHeader> {
    vec![TaskHeader::new(1, submitted); rows]
}

impl World {
    fn waits(&mut self, pool: PoolId, rows: usize) {
        let outlook = Outlook::new(Rank::at(Priority::NORMAL, self.now), rows).rows(rows, 64);
        self.selector.note(pool, Look::Ready(outlook));
    }

    fn choose(&mut self) -> Next {
        self.selector.next(self.now, |_| usize::MAX)
    }

    fn device_time(&self, rows: usize) -> Duration {
        self.fixed + self.per_row * u32::try_from(rows).unwrap()
    }

    /// Cuts `rows` rows and begins to run them.
    fn begin(&mut self, rows: usize) -> Option<(Vec<TaskHeader>, Forecast)> {
        let choice = loop {
            match self.choose() {
                Next::Cut(choice) => break choice,
                Next::Wait(at) => self.now = at,
                Next::UntilFree | Next::Nothing => return None,
            }
        };
        let tasks = tasks(rows, self.now);
        let forecast = self.selector.was_cut(&choice, &tasks, Look::Idle, false);
        if let Some(price) = forecast.price {
            self.selector.gathered(choice.pool, rows, self.gather);
            self.selector.is_due(rows, price);
            self.selector.began(choice.pool, rows, price, self.now);
        }
        Some((tasks, forecast))
    }

    fn end(&mut self, pool: PoolId, tasks: &[TaskHeader], forecast: &Forecast) {
        let device = self.device_time(tasks.len());
        self.now += device;
        let ran = Ran::new(pool, tasks, forecast.per_row, device, self.now);
        self.selector.ended(&ran, forecast, true);
        self.selector.answered(pool, tasks.len(), self.now);
    }

    /// Runs batches of these rows.
    fn teach(&mut self, rows: &[usize]) {
        for &rows in rows {
            self.waits(POOL, rows);
            let (tasks, forecast) = self.begin(rows).expect("the device is free");
            self.end(POOL, &tasks, &forecast);
        }
    }
}

#[test]
fn what_is_not_known_is_cut_at_once() {
    let mut world = world(10 * MS, MS);
    world.waits(POOL, 3);
    let Next::Cut(choice) = world.choose() else { panic!("nothing is known") };
    assert_eq!((choice.pool, choice.terms.price), (POOL, None));
    assert_eq!(choice.terms.rows_with_riders(1), usize::MAX, "filled up, as long as nothing is known");
}

#[test]
fn a_batch_is_cut_when_its_gather_would_end_as_the_running_one_does() {
    let mut world = world(Duration::ZERO, MS);
    world.teach(&[1, 4, 8, 2, 16, 3, 9, 5, 7, 8]);
    world.waits(POOL, 8);
    let (tasks, forecast) = world.begin(8).unwrap();
    let ends = world.now + world.device_time(8);
    world.waits(POOL, 4);
    let Next::Wait(at) = world.choose() else { panic!("there is time") };
    assert!(at < ends && at + MS > ends, "{:?} before the end", ends - at);
    world.waits(POOL, 64);
    assert!(matches!(world.choose(), Next::Wait(_)), "it is full, but something more urgent may come");
    world.waits(POOL, 4);
    world.now = at;
    assert!(matches!(world.choose(), Next::Cut(_)));
    world.now = ends.checked_sub(world.device_time(8)).unwrap();
    world.end(POOL, &tasks, &forecast);
    assert!(matches!(world.choose(), Next::Cut(_)), "the device is free");
}

#[test]
fn an_urgent_row_is_not_kept_by_others() {
    let mut world = world(Duration::ZERO, 10 * MS);
    world.teach(&[1, 4, 8, 2, 16, 3, 9, 5, 7, 8]);
    world.waits(POOL, 16);
    let Next::Cut(choice) = world.choose() else { panic!("the device is free") };
    assert_eq!(choice.terms.rows_with_riders(1), 1);
    assert_eq!(choice.terms.rows_with_riders(10), 11);
}

#[test]
fn a_batch_leaves_time_for_a_deadline_behind_it() {
    let mut world = world(Duration::ZERO, 10 * MS);
    world.teach(&[1, 4, 8, 2, 16, 3, 9, 5, 7, 8]);
    world.waits(POOL, 16);
    let other = PoolId::new(1);
    let rank = Rank::at(Priority::BACKGROUND, world.now);
    let outlook = Outlook::new(rank, 1).deadline(Some(world.now + 85 * MS));
    world.selector.note(other, Look::Ready(outlook));
    let Next::Cut(choice) = world.choose() else { panic!("the device is free") };
    assert_eq!(choice.terms.most_rows, 8);
    let forecast = world.selector.was_cut(&choice, &tasks(8, world.now), Look::Idle, false);
    assert_eq!(forecast.reason, CutReason::Deadline);
}

#[test]
fn callers_of_a_constant_block_are_waited_for() {
    let mut world = world(10 * MS, Duration::ZERO);
    world.teach(&[1, 4, 8, 2, 16, 3, 9, 5]);
    // Sixty-four callers who come back together.
    for _ in 0..8 {
        world.now += MS / 10;
        world.waits(POOL, 64);
        let (tasks, forecast) = world.begin(64).unwrap();
        world.end(POOL, &tasks, &forecast);
    }
    // The first of them is back.
    world.now += MS / 50;
    world.waits(POOL, 1);
    let Next::Wait(until) = world.choose() else { panic!("63 others are on their way") };
    assert!(until > world.now && until < world.now + MS);
    assert_eq!(world.selector.waits_for(), Some(POOL));
    assert!(world.selector.take_wanted(POOL).is_some_and(|rows| rows > 60));
    world.waits(POOL, 64);
    let Next::Cut(choice) = world.choose() else { panic!("they are all there") };
    let forecast = world.selector.was_cut(&choice, &tasks(64, world.now), Look::Idle, false);
    assert_eq!(forecast.reason, CutReason::Full);
}

/// Oldest first, and always in hope of somebody who comes in a moment.
struct Patient;

impl Policy for Patient {
    fn name(&self) -> &'static str {
        "patient"
    }

    fn facts(&self) -> Facts {
        Facts::NONE
    }

    fn rank(&self, pool: PoolId, task: &TaskHeader) -> Rank {
        OldestFirst.rank(pool, task)
    }

    fn hold(&self, _: Rank, _: Duration, now: Instant) -> Option<Instant> {
        Some(now + MS)
    }
}

#[test]
fn an_idle_device_waits_no_longer_than_the_policy_said_first() {
    let mut world = world(10 * MS, MS);
    world.selector = Selector::new(Arc::new(Patient), Timing { linger: false, ..Timing::default() });
    world.teach(&[1, 4, 8, 2]);
    for _ in 0..2 {
        let free = world.now;
        world.waits(POOL, 3);
        let (tasks, forecast) = world.begin(3).expect("it waits, and then it runs");
        assert_eq!((world.now - free, forecast.reason), (MS, CutReason::Linger));
        world.end(POOL, &tasks, &forecast);
    }
}
