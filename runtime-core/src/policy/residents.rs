//! The residents: which blocks are on the device if not all of them have room there, who is brought back next, and who
//! makes room for it.
//!
//! A block is wanted if it is off the device and tasks of it could run; the one whose task is the most urgent comes first, and one
//! at a time. Room is made by those that were used least lately, but by none that has something more urgent to do: its turn
//! comes before. A block that has come stays for a batch at least, and, while it has work, as long as it took to come, so
//! that two blocks which need each other's room do not spend their time coming and going.
//!
//! Pure data, told what happens. Blocks that it has never heard of are always there.

mod resident;

use self::resident::{Place, Resident, Want};
use crate::contract::id::{PoolId, Slot};
use crate::contract::pool::Look;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

pub(crate) struct Residents {
    budget: u64,
    /// Bytes of all blocks that are on the device, or in the porter's hands.
    used: u64,
    /// Those of `used` that are about to be free.
    outgoing: u64,
    /// Those of `used` that will not be free any more.
    fixed: u64,
    blocks: HashMap<Slot, Resident>,
    /// Blocks on the device, the one first that was used least lately.
    by_use: BTreeSet<(u64, Slot)>,
    /// Blocks that are off and wanted, the most urgent one first.
    wanted: BTreeSet<(Want, Slot)>,
    /// Blocks of which no more batches are cut, and that go once those that were are over.
    leaving: Vec<Slot>,
    /// The block that comes next.
    coming: Option<Slot>,
    uses: u64,
}

/// What is to be done about a block that is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It comes, and these leave for it.
    Bring(Vec<Slot>),
    /// Others have more urgent things to do.
    Wait,
    /// There will never be room beside blocks that cannot leave.
    NoRoom,
}

/// The use of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) budget: u64,
    pub(crate) used: u64,
    pub(crate) on: usize,
    pub(crate) off: usize,
}

impl Residents {
    /// No blocks yet, and a budget of so many bytes.
    pub(crate) fn new(budget: u64) -> Self {
        Self {
            budget,
            used: 0,
            outgoing: 0,
            fixed: 0,
            blocks: HashMap::new(),
            by_use: BTreeSet::new(),
            wanted: BTreeSet::new(),
            leaving: Vec::new(),
            coming: None,
            uses: 0,
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        let on = self.by_use.len() + self.leaving.len();
        let all = self.blocks.values().filter(|block| !block.is_gone).count();
        Usage { budget: self.budget, used: self.used, on, off: all.saturating_sub(on) }
    }

    /// Takes a new block in, and returns true if it has room on the device now. It stays until [`worked`](Self::worked).
    pub(crate) fn enter(&mut self, slot: Slot, bytes: u64, now: Instant) -> bool {
        let fits = self.used.saturating_add(bytes) <= self.budget;
        let place = Place::On { since: now, took: Duration::ZERO, has_run: false };
        let (jobs, place) = if fits { (1, place) } else { (0, Place::Off) };
        self.blocks.insert(slot, Resident::new(bytes, place, jobs));
        if fits {
            self.used += bytes;
            self.by_use.insert((0, slot));
        }
        fits
    }

    /// Notes how a pool of a block looks. Returns false if it is not to run, because the block is not there.
    #[inline]
    pub(crate) fn note(&mut self, slot: Slot, pool: PoolId, look: &Look) -> bool {
        self.blocks.is_empty() || self.note_known(slot, pool, look)
    }

    fn note_known(&mut self, slot: Slot, pool: PoolId, look: &Look) -> bool {
        let Some(block) = self.blocks.get_mut(&slot) else { return true };
        block.ready.retain(|(other, _)| *other != pool);
        let is_ready = if let Look::Ready(outlook) = look {
            block.ready.push((pool, outlook.rank));
            true
        } else {
            false
        };
        let is_on = block.is_on();
        self.file(slot);
        is_on || !is_ready
    }

    /// Notes that a batch of a block was cut.
    #[inline]
    pub(crate) fn cut(&mut self, slot: Slot) {
        if self.blocks.is_empty() {
            return;
        }
        let Some(block) = self.blocks.get_mut(&slot) else { return };
        if let Place::On { has_run, .. } = &mut block.place {
            *has_run = true;
            self.uses += 1;
            self.by_use.remove(&(block.used, slot));
            block.used = self.uses;
            self.by_use.insert((block.used, slot));
        }
    }

    /// Returns true if somebody wants something, or is on the way.
    #[inline]
    pub(crate) fn is_busy(&self) -> bool {
        !self.wanted.is_empty() || self.coming.is_some() || !self.leaving.is_empty()
    }

    /// The block that is wanted most urgently, with its pools that could run, unless another one is coming.
    pub(crate) fn first_wanted(&self) -> Option<(Slot, Vec<PoolId>)> {
        if self.coming.is_some() {
            return None;
        }
        let (_, slot) = self.wanted.first()?;
        Some((*slot, self.ready(*slot)))
    }

    /// The pools of a block that could run.
    pub(crate) fn ready(&self, slot: Slot) -> Vec<PoolId> {
        let ready = self.blocks.get(&slot).map_or(&[][..], |block| &block.ready);
        ready.iter().map(|(pool, _)| *pool).collect()
    }

    /// The pools that could run if their blocks were there.
    pub(crate) fn waiting(&self) -> Vec<PoolId> {
        let away = self.blocks.values().filter(|block| !block.is_on());
        away.flat_map(|block| block.ready.iter().map(|(pool, _)| *pool)).collect()
    }

    /// Decides on a block that is wanted, and notes what it decides.
    pub(crate) fn decide(&mut self, slot: Slot, now: Instant) -> Decision {
        let Some(block) = self.blocks.get(&slot).filter(|block| block.place == Place::Off) else {
            return Decision::Wait;
        };
        let Some(want) = block.want() else { return Decision::Wait };
        let bytes = block.bytes;
        let room = |busy: u64| self.budget.saturating_sub(busy);
        let mut leave = Vec::new();
        let mut there = room(self.used.saturating_sub(self.outgoing));
        for (_, other) in &self.by_use {
            if there >= bytes {
                break;
            }
            if let Some(other_block) = self.blocks.get(other)
                && other_block.makes_room(want, now)
            {
                there = there.saturating_add(other_block.bytes);
                leave.push(*other);
            }
        }
        let decision = if there >= bytes {
            Decision::Bring(leave.clone())
        } else if room(self.fixed) < bytes {
            Decision::NoRoom
        } else {
            return Decision::Wait;
        };
        if there >= bytes {
            for other in leave {
                self.leave(other);
            }
        }
        let place = if there >= bytes { Place::Coming } else { Place::Loading };
        self.coming = Some(slot);
        if let Some(block) = self.blocks.get_mut(&slot) {
            block.place = place;
            if place == Place::Loading {
                // It is refused, which takes no room; then it is off again.
                self.used = self.used.saturating_add(bytes);
            }
        }
        self.file(slot);
        decision
    }

    fn leave(&mut self, slot: Slot) {
        if let Some(block) = self.blocks.get_mut(&slot) {
            block.place = Place::Leaving;
            self.by_use.remove(&(block.used, slot));
            self.outgoing += block.bytes;
            self.leaving.push(slot);
        }
    }

    /// Blocks that go once the batches are over that were cut of them.
    pub(crate) fn leaving(&self) -> Vec<Slot> {
        self.leaving.clone()
    }

    /// Notes that a block that leaves has nothing on its way: the porter gets it.
    pub(crate) fn put_out(&mut self, slot: Slot) {
        self.leaving.retain(|other| *other != slot);
        if let Some(block) = self.blocks.get_mut(&slot) {
            block.place = Place::Going;
        }
    }

    /// Notes that a block is gone from the device.
    pub(crate) fn left(&mut self, slot: Slot) {
        let Some(block) = self.blocks.get_mut(&slot).filter(|block| block.place == Place::Going) else {
            return;
        };
        self.used -= block.bytes;
        self.outgoing -= block.bytes;
        block.place = Place::Off;
        self.file(slot);
    }

    /// Notes that a block cannot leave after all, and never can. Returns false if it has left the runtime.
    pub(crate) fn stays(&mut self, slot: Slot, now: Instant) -> bool {
        let Some(block) = self.blocks.get_mut(&slot).filter(|block| block.place == Place::Going) else {
            return false;
        };
        if block.is_gone {
            self.left(slot);
            return false;
        }
        self.outgoing -= block.bytes;
        self.fixed += block.bytes;
        block.is_fixed = true;
        self.put_on(slot, now, Duration::ZERO);
        // Who was to have its room looks for other room.
        if let Some(coming) = self.coming
            && let Some(block) = self.blocks.get_mut(&coming).filter(|block| block.place == Place::Coming)
        {
            block.place = Place::Off;
            self.coming = None;
            self.file(coming);
        }
        true
    }

    fn put_on(&mut self, slot: Slot, since: Instant, took: Duration) {
        self.uses += 1;
        if let Some(block) = self.blocks.get_mut(&slot) {
            block.place = Place::On { since, took, has_run: false };
            block.used = self.uses;
            self.by_use.insert((self.uses, slot));
        }
    }

    /// The block that comes next, if there is room for it by now: the porter brings it.
    pub(crate) fn due(&mut self) -> Option<Slot> {
        let slot = self.coming?;
        let block = self.blocks.get_mut(&slot).filter(|block| block.place == Place::Coming)?;
        let used = self.used.saturating_add(block.bytes);
        if used > self.budget {
            return None;
        }
        self.used = used;
        block.place = Place::Loading;
        Some(slot)
    }

    /// Notes that a block has come. Returns false if it has left the runtime meanwhile.
    pub(crate) fn arrived(&mut self, slot: Slot, now: Instant, took: Duration) -> bool {
        if self.blocks.get(&slot).is_none_or(|block| block.is_gone) {
            self.failed(slot);
            return false;
        }
        self.coming = None;
        self.put_on(slot, now, took);
        true
    }

    /// Notes that a block could not be brought.
    pub(crate) fn failed(&mut self, slot: Slot) {
        let Some(block) = self.blocks.get_mut(&slot).filter(|block| block.place == Place::Loading) else {
            return;
        };
        self.used -= block.bytes;
        block.place = Place::Off;
        self.coming = None;
        self.file(slot);
    }

    /// Returns true if a block is neither on the device nor on its way out.
    pub(crate) fn is_off(&self, slot: Slot) -> bool {
        let place = self.blocks.get(&slot).filter(|block| !block.is_gone).map(|block| block.place);
        matches!(place, Some(Place::Off | Place::Coming | Place::Loading))
    }

    /// Asks for a block to work with. Returns false if it is there; else it is wanted until as much [work](Self::worked) is done.
    pub(crate) fn ask(&mut self, slot: Slot) -> bool {
        let Some(block) = self.blocks.get_mut(&slot).filter(|block| !block.is_gone) else { return false };
        if matches!(block.place, Place::On { .. } | Place::Leaving) {
            return false;
        }
        block.jobs += 1;
        self.file(slot);
        true
    }

    /// Notes that a piece of work with a block is done, or given up.
    pub(crate) fn worked(&mut self, slot: Slot) {
        if let Some(block) = self.blocks.get_mut(&slot) {
            block.jobs = block.jobs.saturating_sub(1);
            self.file(slot);
        }
    }

    /// Notes that a block is another one, of another size. Returns false, and leaves everything as it is, if that has no room.
    pub(crate) fn resize(&mut self, slot: Slot, bytes: u64) -> bool {
        let Some(block) = self.blocks.get_mut(&slot) else { return true };
        let is_counted = !matches!(block.place, Place::Off | Place::Coming);
        let was = if is_counted { block.bytes } else { 0 };
        let used = if is_counted { (self.used - was).saturating_add(bytes) } else { self.used };
        if used > self.budget || bytes > self.budget {
            return false;
        }
        if matches!(block.place, Place::Leaving | Place::Going) {
            self.outgoing = self.outgoing - was + bytes;
        }
        if block.is_fixed {
            self.fixed -= was;
            block.is_fixed = false;
        }
        self.used = used;
        block.bytes = bytes;
        true
    }

    /// Forgets a block that leaves the runtime.
    pub(crate) fn forget(&mut self, slot: Slot) {
        let Some(block) = self.blocks.get_mut(&slot) else { return };
        (block.jobs, block.is_gone) = (0, true);
        block.ready.clear();
        let (place, bytes, used) = (block.place, block.bytes, block.used);
        if block.is_fixed {
            self.fixed -= bytes;
        }
        self.file(slot);
        match place {
            // The porter reports first.
            Place::Going | Place::Loading => return,
            Place::On { .. } => {
                self.used -= bytes;
                self.by_use.remove(&(used, slot));
            }
            Place::Leaving => {
                self.used -= bytes;
                self.outgoing -= bytes;
                self.leaving.retain(|other| *other != slot);
            }
            Place::Coming => self.coming = None,
            Place::Off => {}
        }
        self.blocks.remove(&slot);
    }

    /// Files a block among those that are wanted, or takes it out.
    fn file(&mut self, slot: Slot) {
        let Some(block) = self.blocks.get_mut(&slot) else { return };
        let want = if block.place == Place::Off { block.want() } else { None };
        if block.filed != want {
            if let Some(was) = block.filed {
                self.wanted.remove(&(was, slot));
            }
            if let Some(want) = want {
                self.wanted.insert((want, slot));
            }
            block.filed = want;
        }
        if block.is_gone && block.place == Place::Off {
            self.blocks.remove(&slot);
        }
    }
}

#[cfg(test)]
mod tests;
