//! Batches: the tasks that leave the queue together.

use super::item::{Item, Key, Place};
use super::limit::Limit;
use super::moment::Moment;
use super::riders::Riders;
use super::segment::{Items, Segment};
use super::{Queue, Taken};
use skep_runtime_core::pool::{Look, Rank, Terms};

impl<I: Item<Rank = Place>> Queue<I> {
    /// Takes the tasks of the next batch: in order, of one group, as many as the terms and `max_rows` allow, but one at
    /// least; only if the first one has the rank that is `wanted`. `spare` makes a buffer for tasks to come, if one is
    /// wanted.
    pub(crate) fn cut(
        &mut self,
        wanted: Option<Rank>,
        terms: &Terms,
        moment: &Moment<'_>,
        spare: impl Fn() -> Items<I>,
    ) -> Option<Taken<I>> {
        let mut look = Look::Idle;
        let at = self.next(moment, &mut look);
        let Look::Ready(outlook) = look else { return None };
        if wanted.is_some_and(|wanted| wanted != outlook.rank) {
            return None;
        }
        let limit = self.groups[at].limit();
        let mut room = Limit { rows: limit.rows.min(terms.most_rows).max(1), ..limit };
        if moment.options.answer_in_time {
            room.rows = self.in_time(at, room.rows, terms, moment);
        }
        if moment.rising.is_some() {
            return self.take_by_turns(at, room, terms, moment);
        }
        match self.groups[at].items.take_alone(room.rows) {
            Some((key, item)) => {
                self.count_out(at, key, &item, moment);
                let is_whole = item.rows() <= room.rows_of(&item) || !item.is_divisible();
                let part = if is_whole { item } else { self.part_of(at, key, item, room, moment) };
                self.file(at, moment);
                Some(Taken::One(part))
            }
            None => {
                self.take_segment(at, room, moment, spare).or_else(|| self.take_some(at, room, terms, moment))
            }
        }
    }

    /// Takes a batch that is one segment of a group, if it happens to be.
    fn take_segment(
        &mut self,
        at: usize,
        room: Limit,
        moment: &Moment<'_>,
        spare: impl Fn() -> Items<I>,
    ) -> Option<Taken<I>> {
        let group = &mut self.groups[at];
        // Those of another class do not just ride along.
        let class = |entry: Option<&(Key<Place>, Option<I>)>| entry.map(|(key, _)| key.rank.class());
        let alike = |segment: &Segment<I>| class(segment.items.front()) == class(segment.items.back());
        let Segment { items, count, rows, elements, .. } = group.items.take_segment(room, alike, spare)?;
        if moment.options.min_rows > 1 {
            group.left(items.iter().filter_map(|(_, item)| item.as_ref()), moment.options);
        } else {
            // Nothing else is to be known of them.
            group.left_together(rows, elements);
        }
        self.rows -= rows;
        self.tasks -= count;
        self.file(at, moment);
        Some(Taken::Segment(items, count))
    }

    fn take_some(
        &mut self,
        at: usize,
        mut room: Limit,
        terms: &Terms,
        moment: &Moment<'_>,
    ) -> Option<Taken<I>> {
        let now = moment.now;
        let mut taken = Vec::with_capacity(self.groups[at].items.len().min(room.rows));
        let (mut is_first, mut all_run, mut is_over, mut in_part) = (true, true, false, false);
        let mut riders = Riders::new(terms);
        let fits = |key: Key<Place>, item: &I| {
            if is_over {
                return false;
            }
            if item.needs_look() && item.is_moot(now) {
                all_run = false;
                return true;
            }
            if !riders.admit(key.rank, item) {
                is_over = true;
                return false;
            }
            let fit = room.rows_of(item);
            if item.rows() > fit {
                // A part of it may fit.
                in_part = item.is_divisible() && fit > 0;
                is_over = true;
                return in_part || is_first;
            }
            is_first = false;
            room = room.without(item);
            true
        };
        self.groups[at].items.take_while(fits, &mut taken);
        let mut run = Vec::with_capacity(taken.len());
        let last = taken.last().map(|(key, _)| *key);
        for (key, item) in taken {
            self.count_out(at, key, &item, moment);
            if !all_run && item.needs_look() && item.is_moot(now) {
                self.overdue.push(item);
            } else {
                run.push(item);
            }
        }
        if in_part && let (Some(key), Some(item)) = (last, run.pop()) {
            run.push(self.part_of(at, key, item, room, moment));
        }
        self.file(at, moment);
        (!run.is_empty()).then_some(Taken::Some(run))
    }

    /// Of an item that has left, the part that fits; the rest gets into line again, behind those of its rank.
    pub(super) fn part_of(
        &mut self,
        at: usize,
        key: Key<Place>,
        mut item: I,
        room: Limit,
        moment: &Moment<'_>,
    ) -> I {
        let room = room.rows_of(&item);
        if item.rows() <= room || !item.is_divisible() {
            return item;
        }
        let (number, rank) = (item.number_at(key), key.rank.later(item.since(), moment.now));
        let part = item.take_part(room, moment.now);
        self.tasks += 1;
        self.started += 1;
        let (key, _) = self.put(at, rank, item, moment);
        self.moved.insert(number, key);
        part
    }
}
