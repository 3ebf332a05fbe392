//! Seats: the runtimes that feed from a pool. Mostly there is one; one for each device where several have a copy of the
//! block.

use crate::sooner::{Last, Trust};
use skep_runtime_core::pool::{Doorbell, Outlook, Policy, Rank, Terms};
use skep_runtime_core::{Counts, RuntimeId};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Instant;

/// A runtime that feeds from the pool, or the builder of one.
pub(crate) struct Seat {
    /// The view of the pool that it was given.
    pub(crate) view: u32,
    pub(crate) runtime: RuntimeId,
    /// The order of its tasks, once that is known.
    policy: Option<Arc<dyn Policy>>,
    /// Its bell, once it has started.
    pub(crate) doorbell: Option<Doorbell>,
    /// Rung, and not looked at since: ringing again would tell nothing new.
    rung: bool,
    /// The earliest time at which it will ask for expired tasks.
    armed: Option<Instant>,
    /// The most rows that its device had room for when it last looked.
    pub(crate) most_rows: usize,
    /// The rows with which the pool is to ring, because the runtime waits for company.
    pub(crate) wake_at: usize,
    /// Tasks that were cut for it while it was not the first.
    cut: u64,
    /// The last batch that was cut for it, if that has a price.
    last: Option<Last>,
    /// The most urgent task that it leaves to a faster device that is free, by its rank, and until when.
    leaves: Option<(Rank, Instant)>,
    trust: Trust,
}

/// All seats. The first one is the home of what belongs to no single device: it counts all but what is cut for the others,
/// and its policy ranks the tasks. If any of them runs, it does.
pub(crate) struct Seats {
    seats: SmallVec<[Seat; 1]>,
}

impl Seats {
    pub(crate) fn new() -> Self {
        Self { seats: SmallVec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// Returns true if several runtimes feed from the pool, or will.
    pub(crate) fn are_several(&self) -> bool {
        self.seats.len() > 1
    }

    /// Returns true if another runtime than that of a view has started.
    pub(crate) fn others_run(&self, view: u32) -> bool {
        self.seats.iter().any(|seat| seat.view != view && seat.doorbell.is_some())
    }

    /// Gives a view to a runtime, if it has none. Returns true if it is the runtime's now.
    pub(crate) fn claim(&mut self, view: u32, runtime: RuntimeId) -> bool {
        if let Some(seat) = self.of(view) {
            return seat.runtime == runtime;
        }
        let (policy, doorbell, armed, rung) = (None, None, None, false);
        let (most_rows, wake_at) = (usize::MAX, usize::MAX);
        self.seats.push(Seat {
            view,
            runtime,
            policy,
            doorbell,
            rung,
            armed,
            most_rows,
            wake_at,
            cut: 0,
            last: None,
            leaves: None,
            trust: Trust::default(),
        });
        true
    }

    /// Notes the policy of the runtime of a view, if all of them have one order. Where several devices run a pool's tasks,
    /// nobody hears of them all.
    pub(crate) fn rank_by(
        &mut self,
        view: u32,
        by: RuntimeId,
        policy: &Arc<dyn Policy>,
    ) -> Result<(), &'static str> {
        if self.own(view, by).is_none() {
            return Ok(());
        }
        for other in
            self.seats.iter().filter(|seat| seat.view != view).filter_map(|seat| seat.policy.as_ref())
        {
            if policy.listens() || other.listens() {
                return Err("a policy that listens hears of one device, and the pool feeds several");
            }
            let is_same = std::ptr::addr_eq(Arc::as_ptr(policy), Arc::as_ptr(other));
            let are_strict = policy.is_strict_order() && other.is_strict_order();
            if !is_same && !are_strict {
                return Err("give all runtimes that feed from the pool the same policy");
            }
        }
        if let Some(seat) = self.own(view, by) {
            seat.policy = Some(Arc::clone(policy));
        }
        Ok(())
    }

    /// Lets the runtime of a view in, which starts. Returns false if the view is not its own.
    pub(crate) fn start(&mut self, view: u32, doorbell: Doorbell) -> bool {
        let Some(seat) = self.own(view, doorbell.runtime()) else { return false };
        (seat.doorbell, seat.rung, seat.armed) = (Some(doorbell), false, None);
        (seat.last, seat.leaves, seat.trust) = (None, None, Trust::default());
        (seat.most_rows, seat.wake_at) = (usize::MAX, usize::MAX);
        self.seat_home();
        true
    }

    /// Puts one that runs into the first place. Whoever makes room for it counts nothing as its own yet.
    fn seat_home(&mut self) {
        if let Some(at) = self.seats.iter().position(|seat| seat.doorbell.is_some()) {
            self.seats[..=at].rotate_right(1);
        }
    }

    #[inline]
    pub(crate) fn of(&mut self, view: u32) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| seat.view == view)
    }

    /// The seat of a view, if it is this runtime's.
    pub(crate) fn own(&mut self, view: u32, runtime: RuntimeId) -> Option<&mut Seat> {
        self.of(view).filter(|seat| seat.runtime == runtime)
    }

    /// Notes that the runtime of a view looks, and returns its seat: none if it has left.
    #[inline]
    pub(crate) fn looks(&mut self, view: u32) -> Option<&mut Seat> {
        let seat = self.of(view)?;
        seat.rung = false;
        Some(seat)
    }

    /// The bell of the first runtime.
    #[inline]
    pub(crate) fn bell(&self) -> Option<&Doorbell> {
        self.seats.first()?.doorbell.as_ref()
    }

    pub(crate) fn is_own_thread(&self) -> bool {
        self.seats.iter().any(|seat| seat.doorbell.as_ref().is_some_and(Doorbell::is_own_thread))
    }

    /// The most rows that any of the devices had room for.
    #[inline]
    pub(crate) fn most_rows(&self) -> usize {
        match self.seats.as_slice() {
            [seat] => seat.most_rows,
            seats => seats.iter().map(|seat| seat.most_rows).min().unwrap_or(usize::MAX),
        }
    }

    /// Returns true if any of them waits for company, and has it with so many rows.
    #[inline]
    pub(crate) fn have_company(&self, rows: usize) -> bool {
        self.seats.iter().any(|seat| rows >= seat.wake_at)
    }

    /// Notes that there is news, and returns the bells to ring.
    #[inline]
    pub(crate) fn ring(&mut self) -> Option<Bells> {
        let mut bells = None;
        for seat in &mut self.seats {
            if !seat.rung
                && let Some(bell) = &seat.doorbell
            {
                seat.rung = true;
                match &mut bells {
                    None => bells = Some(Bells { first: bell.clone(), others: Vec::new() }),
                    Some(Bells { others, .. }) => others.push(bell.clone()),
                }
            }
        }
        bells
    }

    /// Has every runtime ask for expired tasks at `at`: some may be in its hands.
    #[inline]
    pub(crate) fn arm(&mut self, at: Instant) {
        for seat in &mut self.seats {
            if let Some(doorbell) = &seat.doorbell
                && seat.armed.is_none_or(|armed| at < armed)
            {
                seat.armed = Some(at);
                doorbell.expire_at(at);
            }
        }
    }

    /// Notes when the runtime of a view will ask for expired tasks.
    pub(crate) fn will_ask(&mut self, view: u32, at: Option<Instant>) {
        if let Some(seat) = self.of(view) {
            seat.armed = at;
        }
    }

    /// Counts tasks that were cut for a view.
    #[inline]
    pub(crate) fn count_cut(&mut self, view: u32, tasks: impl FnOnce() -> usize) {
        if self.seats.len() > 1
            && let Some(seat) = self.seats.iter_mut().skip(1).find(|seat| seat.view == view)
        {
            seat.cut += tasks() as u64;
        }
    }

    /// Notes that a batch of so many rows was cut for a view.
    pub(crate) fn has_cut(&mut self, view: u32, terms: &Terms, rows: usize) {
        if let Some(seat) = self.of(view) {
            (seat.last, seat.leaves) = (Last::of(terms, rows), None);
            seat.trust.has_cut();
        }
    }

    /// Returns until when a view is to leave what waits, so many rows, to another device that has it done sooner.
    pub(crate) fn leaves_until(
        &mut self,
        view: u32,
        terms: &Terms,
        outlook: &Outlook,
        waiting: usize,
    ) -> Option<Instant> {
        let others = self.seats.iter().filter(|seat| seat.view != view && seat.doorbell.is_some());
        let sooner = others.filter_map(|seat| seat.last.as_ref()?.sooner(terms, outlook, waiting));
        // Rather one that is on its way than one that may be busy elsewhere.
        let sooner = sooner.min_by_key(|sooner| (!sooner.is_busy, sooner.until))?;
        let seat = self.of(view)?;
        if !seat.trust.leaves(outlook.rank) {
            return None;
        }
        seat.wake_at = sooner.rows.saturating_add(1);
        if sooner.is_busy {
            seat.leaves = None;
            return Some(sooner.until);
        }
        // Another task is the first one now: somebody has come for the one before it.
        let same = seat.leaves.filter(|(rank, _)| *rank == outlook.rank);
        let (_, until) = *seat.leaves.insert(same.unwrap_or((outlook.rank, sooner.until)));
        (until > terms.now).then_some(until)
    }

    /// Takes back tasks that were counted for a view.
    pub(crate) fn count_back(&mut self, view: u32, tasks: u64) {
        // The first one counts what waits.
        if let Some(seat) = self.seats.iter_mut().skip(1).find(|seat| seat.view == view) {
            seat.cut = seat.cut.saturating_sub(tasks);
        }
    }

    /// The share of a view in the counts of those who are here.
    pub(crate) fn share(&self, view: u32, all: Counts) -> Counts {
        match self.seats.iter().position(|seat| seat.view == view) {
            Some(0) => {
                let others = self.seats.iter().skip(1).map(|seat| seat.cut).sum();
                all - Counts::default().submitted(others)
            }
            Some(at) => Counts::default().submitted(self.seats[at].cut),
            None if self.seats.is_empty() => all,
            None => Counts::default(),
        }
    }

    /// Takes a seat out, and returns its share of the counts, for good: what waits is left to others.
    pub(crate) fn leave(&mut self, view: u32, all: Counts) -> Option<Counts> {
        let at = self.seats.iter().position(|seat| seat.view == view)?;
        let share = self.share(view, all);
        let waiting = Counts::default().submitted(share.waiting);
        self.seats.remove(at);
        self.seat_home();
        Some((share - waiting).waiting(0).waiting_rows(0))
    }

    /// Lets go of the bells, when nothing will be queued any more.
    pub(crate) fn silence(&mut self) -> Vec<Doorbell> {
        self.seats.iter_mut().filter_map(|seat| seat.doorbell.take()).collect()
    }
}

/// Bells to be [rung](ring), once the lock is released.
pub(crate) struct Bells {
    first: Doorbell,
    others: Vec<Doorbell>,
}

/// Rings them, if there are any. To be called outside of all locks.
#[inline]
pub(crate) fn ring(bells: Option<Bells>) {
    if let Some(Bells { first, others }) = bells {
        first.ring();
        others.iter().for_each(Doorbell::ring);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats<const N: usize>() -> Seats {
        let mut seats = Seats::new();
        for view in 0..N {
            assert!(seats.claim(u32::try_from(view).unwrap(), RuntimeId::next()));
        }
        seats
    }

    #[test]
    fn a_view_is_one_runtime_s() {
        let mut seats = Seats::new();
        let [one, two] = [(); 2].map(|()| RuntimeId::next());
        assert!(seats.claim(0, one) && seats.claim(0, one) && !seats.claim(0, two) && seats.claim(1, two));
        assert!(seats.own(0, two).is_none() && seats.own(1, two).is_some());
    }

    #[test]
    fn each_task_counts_in_one_share() {
        let mut seats = seats::<3>();
        seats.count_cut(0, || 5);
        seats.count_cut(1, || 3);
        seats.count_cut(2, || 2);
        let mut all = Counts::default().submitted(14).refused(1).waiting(3).waiting_rows(6);
        let submitted = |seats: &Seats, all| [0, 1, 2].map(|view| seats.share(view, all).submitted);
        assert_eq!(submitted(&seats, all), [9, 3, 2]);
        // One of those that were cut for the second is queued again.
        seats.count_back(1, 1);
        all = all.waiting(4);
        assert_eq!(submitted(&seats, all), [10, 2, 2]);
        let left = seats.leave(0, all).unwrap();
        assert_eq!((left.submitted, left.refused, left.waiting), (6, 1, 0), "but for those that wait");
        all = all - left;
        assert_eq!(submitted(&seats, all), [0, 2 + 4, 2]);
        assert_eq!((seats.share(1, all).refused, seats.share(1, all).waiting), (0, 4));
        let left = seats.leave(2, all).unwrap();
        assert_eq!((left.submitted, left.waiting), (2, 0));
        // The last one takes all that is left, but for what waits for a successor.
        all = all - left;
        let left = seats.leave(1, all).unwrap();
        assert_eq!((left.submitted, (all - left).submitted), (2, 4));
    }
}
