//! The queue: the tasks that wait in a pool, and the decision when to cut a batch of them.
//!
//! Pure data over any kind of item: no clock, no lock, no thread, no reply.

mod batches;
mod group;
mod in_time;
mod index;
pub(crate) mod item;
mod lanes;
mod leaving;
pub(crate) mod limit;
pub(crate) mod moment;
mod ordered;
mod riders;
pub(crate) mod segment;
mod times;
mod turns;

use self::group::Group;
use self::index::Shapes;
use self::item::{Item, Key, Place};
use self::lanes::Lanes;
use self::moment::Moment;
use self::segment::Items;
use self::times::Times;
use crate::options::PoolOptions;
use skep_runtime_core::Dims;
use skep_runtime_core::pool::Look;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::time::Duration;

/// All waiting tasks of a pool.
pub(crate) struct Queue<I: Item> {
    /// Tasks of a block without free dims are all in the first one, and mostly there is no other.
    groups: SmallVec<[Group<I>; 1]>,
    /// What is to be known of shapes, if there are any.
    shapes: Option<Box<Shapes<I::Rank>>>,
    deadlines: Times<(usize, Key<I::Rank>)>,
    /// Where tasks wait that are not where their tickets know them, by the numbers that their tickets know.
    moved: BTreeMap<u64, Key<I::Rank>>,
    /// Tasks of which parts have left.
    started: usize,
    /// The shortest time that tasks lately had until their deadlines.
    shortest: Option<Duration>,
    /// Who is first of its lane, where ranks rise.
    lanes: Lanes,
    tasks: usize,
    rows: usize,
    /// Tasks that had expired when their turn came; answered at the next [`expire`](Self::expire).
    overdue: Vec<I>,
    next_seq: u64,
}

/// The items of a batch, taken out of the queue in the shortest time.
pub(crate) enum Taken<I: Item> {
    /// One that nothing goes with.
    One(I),
    /// All of a segment, and how many they are.
    Segment(Items<I>, usize),
    Some(Vec<I>),
}

impl<I: Item<Rank = Place>> Queue<I> {
    pub(crate) fn new() -> Self {
        Self {
            groups: SmallVec::new(),
            shapes: None,
            deadlines: Times::new(),
            moved: BTreeMap::new(),
            started: 0,
            shortest: None,
            lanes: Lanes::default(),
            tasks: 0,
            rows: 0,
            overdue: Vec::new(),
            next_seq: 0,
        }
    }

    /// Tasks that are here, whole or in part.
    pub(crate) fn tasks(&self) -> usize {
        self.tasks
    }

    /// Tasks of which no part has left.
    pub(crate) fn waiting(&self) -> usize {
        self.tasks - self.started
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Tasks, and their rows, that had expired when their turn came and have no answer yet.
    pub(crate) fn overdue(&self) -> (usize, usize) {
        let unanswered = self.overdue.iter().filter(|item| !item.is_started());
        unanswered.fold((0, 0), |(tasks, rows), item| (tasks + 1, rows + item.rows()))
    }

    /// Returns true if [`expire`](Self::expire) has something to take out now.
    pub(crate) fn has_overdue(&self) -> bool {
        !self.overdue.is_empty()
    }

    /// The place of the group of a shape.
    #[inline]
    pub(crate) fn shape(&mut self, free: &Dims, options: &PoolOptions) -> usize {
        // Most blocks have no free dims, and then there is nothing to look up.
        if free.is_empty() && self.groups.first().is_some_and(|group| group.free.is_empty()) {
            return 0;
        }
        if free.is_empty() {
            self.groups.push(Group::new(Dims::new(), options));
            return self.groups.len() - 1;
        }
        let shapes = self.shapes.get_or_insert_with(|| Box::new(Shapes::new()));
        if let Some(at) = shapes.places.get(free) {
            return *at;
        }
        let group = Group::new(free.clone(), options);
        let at = if let Some(at) = shapes.free_places.pop() {
            self.groups[at] = group;
            at
        } else {
            self.groups.push(group);
            self.groups.len() - 1
        };
        shapes.places.insert(free.clone(), at);
        at
    }

    /// Adds a task to the group at `at`. Returns true if an earlier look at the queue may be out of date.
    #[inline]
    pub(crate) fn push(&mut self, at: usize, rank: Place, item: I, moment: &Moment<'_>) -> bool {
        self.tasks += 1;
        self.put(at, rank, item, moment).1
    }

    #[inline]
    fn put(&mut self, at: usize, rank: Place, item: I, moment: &Moment<'_>) -> (Key<I::Rank>, bool) {
        let mut key = Key { rank, seq: self.next_seq };
        self.next_seq += 1;
        if let Some(bell) = moment.rising {
            key.rank = self.lanes.enter(at, item.header(), bell);
            self.moved.insert(item.number_at(key), key);
            self.note_head(at, key, item.header(), bell);
        }
        self.rows += item.rows();
        if let Some(deadline) = item.header().deadline {
            self.deadlines.push(deadline, (at, key));
            if moment.options.answer_in_time {
                self.note_time_left(deadline.saturating_duration_since(item.header().submitted));
            }
        }
        let group = &mut self.groups[at];
        let wanted = moment.pace().min_rows;
        let was_ripe = group.rows >= wanted.min(group.most_now());
        let (is_first, is_due_first) = group.push(key, item, moment.options);
        let is_ripe = group.rows >= wanted.min(group.most_now());
        let news = is_first || (!was_ripe && (is_ripe || is_due_first));
        self.file(at, moment);
        (key, news)
    }

    /// Reports if a batch can be cut, or when to look again.
    pub(crate) fn look(&mut self, moment: &Moment<'_>) -> Look {
        let mut look = Look::Idle;
        self.next(moment, &mut look);
        look
    }

    /// The group that is first to be cut from, and its look: written where it is read, because copying it costs more than
    /// the rest. What expired before its turn came lends no urgency to others: it leaves here.
    fn next(&mut self, moment: &Moment<'_>, look: &mut Look) -> usize {
        *look = Look::Idle;
        if self.tasks == 0 {
            return 0;
        }
        loop {
            let at = self.best(moment, look);
            let Look::Ready(outlook) = look else { return at };
            match self.groups[at].items.first() {
                Some((key, first)) if first.needs_look() && first.is_moot(moment.now) => {
                    self.set_aside(at, key, moment);
                }
                Some((key, first))
                    if moment.rising.is_some_and(|bell| bell.rank(first.header()) > key.rank.rank()) =>
                {
                    self.raise(at, key, moment);
                }
                _ => {
                    outlook.deadline = if self.deadlines.is_empty() { None } else { self.first_deadline() };
                    return at;
                }
            }
        }
    }

    #[inline]
    fn best(&mut self, moment: &Moment<'_>, look: &mut Look) -> usize {
        let (now, pace) = (moment.now, moment.pace());
        if let [group] = &mut *self.groups {
            *look = group.look(now, pace);
            return 0;
        }
        *look = Look::Idle;
        let Some(shapes) = &mut self.shapes else { return 0 };
        let index = &mut shapes.index;
        if index.min_rows != pace.min_rows {
            // The device has room for less, or more, than it had: seldom news.
            index.min_rows = pace.min_rows;
            for (at, group) in self.groups.iter_mut().enumerate() {
                index.file(at, group.stand(pace.min_rows, moment.options.eviction));
            }
        }
        index.ripen(now);
        let first = index.first(pace).and_then(|at| Some((at, self.groups.get(at)?.outlook(pace)?)));
        let at = first.map_or(0, |(at, _)| at);
        *look = match first {
            Some((_, outlook)) => Look::Ready(outlook),
            None => index.next_due().map_or(Look::Idle, Look::At),
        };
        at
    }

    /// Takes an item out that is not to be run, to be answered at the next [`expire`](Self::expire).
    fn set_aside(&mut self, at: usize, key: Key<Place>, moment: &Moment<'_>) {
        if let Some(item) = self.groups[at].items.remove(key) {
            self.left(at, key, &item, moment);
            self.overdue.push(item);
        }
    }

    /// Accounts for an item that has left a group for good, and files it anew.
    fn left(&mut self, at: usize, key: Key<Place>, item: &I, moment: &Moment<'_>) {
        self.count_out(at, key, item, moment);
        self.file(at, moment);
    }

    fn count_out(&mut self, at: usize, key: Key<Place>, item: &I, moment: &Moment<'_>) {
        self.tasks -= 1;
        self.rows -= item.rows();
        self.started -= usize::from(item.is_started());
        if !self.moved.is_empty() {
            self.moved.remove(&item.number_at(key));
        }
        if let Some(bell) = moment.rising
            && key.rank.is_first()
        {
            self.lanes.left(at, item.header(), bell);
        }
        self.groups[at].left(std::iter::once(item), moment.options);
        if item.header().deadline.is_some() {
            let groups = &self.groups;
            self.deadlines.left(1, |place| is_there(groups, place));
        }
    }

    /// Files a group among the others, or forgets it if it is empty: shapes come and go. The group of tasks without
    /// free dims has no others beside it; it stays, and keeps its memory.
    #[inline]
    fn file(&mut self, at: usize, moment: &Moment<'_>) {
        if moment.rising.is_some() {
            self.lanes_on(moment);
        }
        if self.shapes.is_some() {
            self.file_shape(at, moment);
        }
    }

    fn file_shape(&mut self, at: usize, moment: &Moment<'_>) {
        let (group, Some(shapes)) = (&mut self.groups[at], &mut self.shapes) else { return };
        let stand = group.stand(shapes.index.min_rows, moment.options.eviction);
        if shapes.index.file(at, stand) {
            shapes.places.remove(&group.free);
            shapes.free_places.push(at);
            *group = Group::new(Dims::new(), moment.options);
        }
    }
}

fn is_there<I: Item<Rank = Place>>(groups: &[Group<I>], (at, key): (usize, Key<I::Rank>)) -> bool {
    groups.get(at).is_some_and(|group| group.items.get(key).is_some())
}

#[cfg(test)]
mod tests;
