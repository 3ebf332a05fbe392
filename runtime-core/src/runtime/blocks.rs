//! The blocks themselves, which only the device thread touches once it runs.

use crate::contract::backend::Backend;
use crate::contract::device::Device;
use crate::contract::id::Slot;

/// A block as the runtime has it.
pub(crate) type Body<D> = Box<dyn Backend<D>>;

/// The blocks, at the places that the directory has given them.
pub(crate) struct Blocks<D: Device>(Vec<Option<Place<D>>>);

struct Place<D> {
    generation: u32,
    body: Body<D>,
}

impl<D: Device> Blocks<D> {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Takes a block in, at a place that is free.
    pub(crate) fn insert(&mut self, slot: Slot, body: Body<D>) {
        let index = slot.index as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(Place { generation: slot.generation, body });
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut Body<D>> {
        let place = self.0.get_mut(slot.index as usize)?.as_mut()?;
        if place.generation == slot.generation { Some(&mut place.body) } else { None }
    }

    pub(crate) fn contains(&self, slot: Slot) -> bool {
        let place = self.0.get(slot.index as usize).and_then(Option::as_ref);
        place.is_some_and(|place| place.generation == slot.generation)
    }

    /// Puts a block in the place of another one, which is returned; the block itself if there is no such place.
    pub(crate) fn replace(&mut self, slot: Slot, body: Body<D>) -> Result<Body<D>, Body<D>> {
        match self.get_mut(slot) {
            Some(place) => Ok(std::mem::replace(place, body)),
            None => Err(body),
        }
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Body<D>> {
        let place = self.0.get_mut(slot.index as usize)?;
        Some(place.take_if(|place| place.generation == slot.generation)?.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeDevice, FnBlock};

    fn block(name: &str) -> Box<dyn Backend<FakeDevice>> {
        Box::new(FnBlock::rows(name, 1, |x| Ok(x.to_vec())))
    }

    #[test]
    fn a_block_is_found_by_the_whole_of_its_id() {
        let mut blocks = Blocks::new();
        let (first, next) = (Slot { index: 2, generation: 0 }, Slot { index: 2, generation: 1 });
        assert!(blocks.get_mut(first).is_none() && blocks.remove(first).is_none());
        blocks.insert(first, block("a"));
        assert!(blocks.get_mut(next).is_none() && blocks.remove(next).is_none());
        assert_eq!(blocks.remove(first).map(|block| block.info().name), Some("a".to_owned()));
        blocks.insert(next, block("b"));
        assert!(blocks.get_mut(first).is_none());
        assert_eq!(blocks.get_mut(next).map(|block| block.info().name), Some("b".to_owned()));
    }
}
