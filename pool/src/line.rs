//! The line before a full queue: callers who wait for room, the most urgent first.
//!
//! Whoever makes room lets them in by itself, so each is woken once, for its own news: it is in, or it is refused.

use skep_runtime_core::pool::{Reply, Settled};
use skep_runtime_core::{Dims, Priority, SubmitError, TaskHeader};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// A place in the line: of equals who came first.
pub(crate) type Place = (Priority, u64);

/// A checked task that waits for room.
pub(crate) struct Entrant<T> {
    pub(crate) header: TaskHeader,
    pub(crate) free: Dims,
    pub(crate) inputs: Vec<T>,
    pub(crate) reply: Reply<T>,
    /// How its caller hears of its fate.
    pub(crate) news: Reply<Entry<T>>,
}

/// The fate of a task that waited for room.
pub(crate) enum Entry<T> {
    /// It is in the queue.
    In,
    /// It will not be, and these are its tensors.
    Refused(SubmitError, Vec<T>),
}

/// Most pools never have one, so it is made when it is needed first.
pub(crate) struct Line<T>(Option<Box<Waiting<T>>>);

struct Waiting<T> {
    entrants: BTreeMap<Place, Entrant<T>>,
    deadlines: BTreeSet<(Instant, Place)>,
    next: u64,
    /// News for callers who waited, to be delivered outside of the lock.
    news: Vec<Settled<Entry<T>>>,
}

impl<T> Line<T> {
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|waiting| waiting.entrants.is_empty())
    }

    pub(crate) fn join(&mut self, entrant: Entrant<T>) -> Place {
        let waiting = self.0.get_or_insert_with(|| {
            let (entrants, deadlines) = (BTreeMap::new(), BTreeSet::new());
            Box::new(Waiting { entrants, deadlines, next: 0, news: Vec::new() })
        });
        let place = (entrant.header.priority, waiting.next);
        waiting.next += 1;
        if let Some(deadline) = entrant.header.deadline {
            waiting.deadlines.insert((deadline, place));
        }
        waiting.entrants.insert(place, entrant);
        place
    }

    /// The task that is to be let in next.
    #[inline]
    pub(crate) fn first(&self) -> Option<(Place, &TaskHeader)> {
        let waiting = self.0.as_ref()?;
        waiting.entrants.first_key_value().map(|(place, entrant)| (*place, &entrant.header))
    }

    pub(crate) fn remove(&mut self, place: Place) -> Option<Entrant<T>> {
        let waiting = self.0.as_mut()?;
        let entrant = waiting.entrants.remove(&place)?;
        if let Some(deadline) = entrant.header.deadline {
            waiting.deadlines.remove(&(deadline, place));
        }
        Some(entrant)
    }

    /// Takes out a task whose deadline has passed.
    pub(crate) fn pop_expired(&mut self, now: Instant) -> Option<Entrant<T>> {
        let (_, place) = *self.0.as_ref()?.deadlines.first().filter(|(deadline, _)| *deadline <= now)?;
        self.remove(place)
    }

    pub(crate) fn first_deadline(&self) -> Option<Instant> {
        self.0.as_ref()?.deadlines.first().map(|(deadline, _)| *deadline)
    }

    pub(crate) fn tell(&mut self, news: Option<Settled<Entry<T>>>) {
        if let Some(waiting) = &mut self.0 {
            waiting.news.extend(news);
        }
    }

    /// Takes the news, to be delivered outside of the lock.
    pub(crate) fn take_news(&mut self) -> Vec<Settled<Entry<T>>> {
        self.0.as_mut().map(|waiting| std::mem::take(&mut waiting.news)).unwrap_or_default()
    }
}
