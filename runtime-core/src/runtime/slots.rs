//! A table whose places can be let again.

use crate::contract::id::Slot;

/// A table with ids that stay unambiguous: the id of a tenant that has left finds nothing.
pub(crate) struct Slots<V> {
    places: Vec<Place<V>>,
    free: Vec<u32>,
}

struct Place<V> {
    generation: u32,
    tenant: Option<V>,
}

impl<V> Slots<V> {
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// The id of the next tenant; `None` if all ids are taken.
    pub(crate) fn next(&self) -> Option<Slot> {
        match self.free.last() {
            Some(&index) => Some(Slot { index, generation: self.places.get(index as usize)?.generation }),
            None => Some(Slot { index: u32::try_from(self.places.len()).ok()?, generation: 0 }),
        }
    }

    /// Lets the place of [`next`](Self::next).
    pub(crate) fn insert(&mut self, tenant: V) {
        match self.free.pop().and_then(|index| self.places.get_mut(index as usize)) {
            Some(place) => place.tenant = Some(tenant),
            None => self.places.push(Place { generation: 0, tenant: Some(tenant) }),
        }
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&V> {
        self.places
            .get(slot.index as usize)
            .filter(|place| place.generation == slot.generation)?
            .tenant
            .as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut V> {
        let place = self.places.get_mut(slot.index as usize)?;
        if place.generation == slot.generation { place.tenant.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<V> {
        let place = self.places.get_mut(slot.index as usize)?;
        if place.generation != slot.generation {
            return None;
        }
        let tenant = place.tenant.take()?;
        // A place whose generations are used up stays empty.
        if let Some(generation) = place.generation.checked_add(1) {
            place.generation = generation;
            self.free.push(slot.index);
        }
        Some(tenant)
    }

    /// All tenants, in the order of their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &V> {
        self.entries().map(|(_, tenant)| tenant)
    }

    /// All tenants with their ids, in the order of their places.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Slot, &V)> {
        (0..).zip(&self.places).filter_map(|(index, place)| {
            Some((Slot { index, generation: place.generation }, place.tenant.as_ref()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn let_to(slots: &mut Slots<&'static str>, tenant: &'static str) -> Slot {
        let slot = slots.next().unwrap();
        slots.insert(tenant);
        slot
    }

    #[test]
    fn a_place_is_let_again_under_another_id() {
        let mut slots = Slots::new();
        let (a, b) = (let_to(&mut slots, "a"), let_to(&mut slots, "b"));
        assert_eq!(slots.remove(a), Some("a"));
        assert_eq!(slots.get(a), None);
        assert_eq!(slots.remove(a), None);
        let c = let_to(&mut slots, "c");
        assert_eq!((c.index, c.generation), (a.index, a.generation + 1));
        assert_eq!(slots.get_mut(a), None);
        assert_eq!(slots.get_mut(c), Some(&mut "c"));
        assert_eq!(slots.get(b), Some(&"b"));
        assert_eq!(slots.iter().copied().collect::<Vec<_>>(), ["c", "b"]);
    }

    #[test]
    fn a_place_whose_ids_are_used_up_stays_empty() {
        let mut slots = Slots::new();
        let first = let_to(&mut slots, "a");
        slots.places[0].generation = u32::MAX;
        let last = Slot { generation: u32::MAX, ..first };
        assert_eq!(slots.remove(last), Some("a"));
        assert_eq!(let_to(&mut slots, "b").index, 1);
    }
}
