use super::*;
use crate::contract::pool::Outlook;
use crate::contract::priority::Priority;
use crate::contract::rank::Rank;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);

fn slot(index: u32) -> Slot {
    Slot { index, generation: 0 }
}

fn pool(index: u32) -> PoolId {
    PoolId::new(index)
}

/// Blocks of one pool each, of 10 bytes.
struct World {
    residents: Residents,
    now: Instant,
}

fn world(budget: u64, blocks: u32) -> World {
    let mut world = World { residents: Residents::new(budget), now: Instant::now() };
    for index in 0..blocks {
        if world.residents.enter(slot(index), 10, world.now) {
            world.residents.worked(slot(index));
        }
    }
    world
}

impl World {
    fn waits_at(&mut self, index: u32, priority: Priority, since: Instant) -> bool {
        let look = Look::Ready(Outlook::new(Rank::at(priority, since), 1));
        self.residents.note(slot(index), pool(index), &look)
    }

    fn waits(&mut self, index: u32) -> bool {
        self.waits_at(index, Priority::NORMAL, self.now)
    }

    fn runs(&mut self, index: u32) {
        self.residents.cut(slot(index));
        self.residents.note(slot(index), pool(index), &Look::Idle);
    }

    fn decide(&mut self) -> Option<(Slot, Decision)> {
        let (first, _) = self.residents.first_wanted()?;
        Some((first, self.residents.decide(first, self.now)))
    }

    /// Carries out what was decided.
    fn carry(&mut self, took: Duration) {
        for out in self.residents.leaving() {
            self.residents.put_out(out);
            assert_eq!(self.residents.due(), None, "there is no room before it has left");
            self.residents.left(out);
        }
        let due = self.residents.due().unwrap();
        self.now += took;
        assert!(self.residents.arrived(due, self.now, took));
    }

    fn bring(&mut self, leaves: &[u32]) {
        let (_, decision) = self.decide().unwrap();
        let leaves = leaves.iter().map(|index| slot(*index)).collect();
        assert_eq!(decision, Decision::Bring(leaves));
        self.carry(MS);
    }
}

#[test]
fn blocks_that_nobody_told_of_are_always_there() {
    let mut world = world(0, 0);
    assert!(world.waits(7));
    assert!(!world.residents.is_busy() && !world.residents.ask(slot(7)));
}

#[test]
fn what_was_used_least_lately_makes_room() {
    let mut world = world(20, 3);
    assert_eq!(world.residents.usage(), Usage { budget: 20, used: 20, on: 2, off: 1 });
    world.runs(1);
    world.runs(0);
    assert!(!world.waits(2), "it is off");
    world.bring(&[1]);
    assert!(world.waits(2));
    world.runs(2);
    assert!(!world.waits(1));
    world.bring(&[0]);
}

#[test]
fn the_most_urgent_comes_first_and_one_at_a_time() {
    let mut world = world(10, 3);
    world.waits_at(1, Priority::NORMAL, world.now);
    world.waits_at(2, Priority::URGENT, world.now + MS);
    assert_eq!(world.decide(), Some((slot(2), Decision::Bring(vec![slot(0)]))));
    assert_eq!(world.decide(), None, "one is coming");
    world.carry(MS);
    assert_eq!(world.decide(), Some((slot(1), Decision::Wait)), "it has come for a task and has not run");
    world.runs(2);
    world.bring(&[2]);
}

#[test]
fn a_block_with_something_more_urgent_to_do_stays() {
    let mut world = world(10, 2);
    world.runs(0);
    world.waits_at(0, Priority::NORMAL, world.now);
    world.waits_at(1, Priority::NORMAL, world.now + MS);
    assert_eq!(world.decide(), Some((slot(1), Decision::Wait)));
    // Its first task has run, and the next came later than that of the other.
    world.residents.cut(slot(0));
    world.waits_at(0, Priority::NORMAL, world.now + 2 * MS);
    world.bring(&[0]);
}

#[test]
fn a_block_with_work_stays_as_long_as_it_took_to_come() {
    let mut world = world(10, 2);
    world.waits(1);
    assert!(matches!(world.decide(), Some((_, Decision::Bring(_)))));
    world.carry(5 * MS);
    // The other one is wanted at once.
    world.waits_at(0, Priority::NORMAL, world.now);
    world.runs(1);
    world.waits_at(1, Priority::NORMAL, world.now + MS);
    assert_eq!(world.decide(), Some((slot(0), Decision::Wait)));
    world.waits_at(0, Priority::URGENT, world.now);
    assert!(matches!(world.residents.first_wanted(), Some((first, _)) if first == slot(0)));
    world.waits_at(0, Priority::NORMAL, world.now);
    world.now += 5 * MS;
    world.bring(&[1]);
}

#[test]
fn a_more_urgent_class_waits_for_a_batch_and_no_longer() {
    let mut world = world(10, 2);
    world.waits(1);
    assert!(matches!(world.decide(), Some((_, Decision::Bring(_)))));
    world.carry(5 * MS);
    world.waits_at(0, Priority::URGENT, world.now);
    world.waits_at(1, Priority::NORMAL, world.now);
    assert_eq!(world.decide(), Some((slot(0), Decision::Wait)));
    world.residents.cut(slot(1));
    assert_eq!(world.decide(), Some((slot(0), Decision::Bring(vec![slot(1)]))));
}

#[test]
fn work_with_a_block_brings_it_and_holds_it() {
    let mut world = world(10, 2);
    assert!(!world.residents.ask(slot(0)), "it is there");
    assert!(world.residents.ask(slot(1)));
    world.bring(&[0]);
    world.waits(0);
    assert_eq!(world.decide(), Some((slot(0), Decision::Wait)), "somebody works with the other");
    world.residents.worked(slot(1));
    world.bring(&[1]);
}

#[test]
fn a_block_that_cannot_leave_is_not_asked_again() {
    let mut world = world(10, 2);
    world.waits(1);
    assert!(matches!(world.decide(), Some((_, Decision::Bring(_)))));
    world.residents.put_out(slot(0));
    assert!(world.residents.stays(slot(0), world.now));
    assert_eq!(world.decide(), Some((slot(1), Decision::NoRoom)));
    assert!(world.waits(0));
    world.residents.failed(slot(1));
    assert_eq!(world.residents.usage(), Usage { budget: 10, used: 10, on: 1, off: 1 });
}

#[test]
fn a_block_that_leaves_the_runtime_leaves_no_trace() {
    // Wherever it is.
    for until in 0..6 {
        let mut world = world(10, 2);
        let mut steps = until;
        let mut step = || {
            steps -= 1;
            steps >= 0
        };
        let residents = &mut world.residents;
        residents.note(
            slot(1),
            pool(1),
            &Look::Ready(Outlook::new(Rank::at(Priority::NORMAL, world.now), 1)),
        );
        let mut with_porter = Vec::new();
        if step() {
            residents.decide(slot(1), world.now);
        }
        if step() {
            residents.put_out(slot(0));
            with_porter.push(slot(0));
        }
        if step() {
            residents.left(slot(0));
            with_porter.clear();
        }
        if step() {
            assert_eq!(residents.due(), Some(slot(1)));
            with_porter.push(slot(1));
        }
        if step() {
            assert!(residents.arrived(slot(1), world.now, MS));
            with_porter.clear();
        }
        residents.forget(slot(0));
        residents.forget(slot(1));
        if !with_porter.is_empty() {
            assert_eq!(residents.used, 10, "the porter has it");
        }
        for slot in with_porter {
            residents.left(slot);
            assert!(!residents.arrived(slot, world.now, MS));
        }
        assert!(residents.blocks.is_empty() && residents.by_use.is_empty() && residents.wanted.is_empty());
        assert_eq!(
            (residents.used, residents.outgoing, residents.coming, residents.is_busy()),
            (0, 0, None, false)
        );
    }
}

#[test]
fn another_size_needs_room() {
    let mut world = world(25, 3);
    assert!(!world.residents.resize(slot(0), 16) && world.residents.resize(slot(0), 15));
    assert_eq!(world.residents.used, 25);
    assert!(world.residents.resize(slot(2), 25) && !world.residents.resize(slot(2), 26));
}

proptest! {
    /// Whatever happens, the budget holds, and everybody comes who has something to do.
    #[test]
    fn the_budget_holds_and_everybody_comes(
        sizes in proptest::collection::vec(1_u64..10, 2..8),
        calls in proptest::collection::vec((0_usize..8, 0_i32..3), 1..60),
    ) {
        let mut world = world(10, 0);
        let mut waiting = vec![None::<Rank>; sizes.len()];
        for (at, bytes) in (0..).zip(&sizes) {
            if world.residents.enter(slot(at), *bytes, world.now) {
                world.residents.worked(slot(at));
            }
        }
        let step = |world: &mut World, waiting: &mut Vec<Option<Rank>>| {
            world.now += MS;
            if let Some((_, decision)) = world.decide() {
                prop_assert_ne!(&decision, &Decision::NoRoom);
                if decision != Decision::Wait {
                    world.carry(MS);
                }
            }
            prop_assert!(world.residents.used <= 10);
            // The most urgent of those that are there runs.
            let at = |at: usize| slot(u32::try_from(at).unwrap());
            let on = |world: &World, index: usize| world.residents.blocks[&at(index)].is_on();
            let next = (0..waiting.len()).filter(|at| on(world, *at)).filter_map(|at| Some((waiting[at]?, at))).min();
            if let Some((_, at)) = next {
                waiting[at] = None;
                world.runs(u32::try_from(at).unwrap());
            }
            Ok(())
        };
        for (at, priority) in calls {
            let at = at % sizes.len();
            let rank = Rank::at(Priority(priority), world.now);
            let first = waiting[at].map_or(rank, |was| was.min(rank));
            waiting[at] = Some(first);
            let index = u32::try_from(at).unwrap();
            world.residents.note(slot(index), pool(index), &Look::Ready(Outlook::new(first, 1)));
            step(&mut world, &mut waiting)?;
        }
        for _ in 0..3 * sizes.len() {
            step(&mut world, &mut waiting)?;
        }
        prop_assert!(waiting.iter().all(Option::is_none), "{:?}", waiting);
    }
}
