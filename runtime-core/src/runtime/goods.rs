//! The porter's goods: by what each block is made again that may leave the device, and what it had learned when it left.

use super::blocks::Body;
use crate::contract::backend::BlockState;
use crate::contract::device::Device;
use crate::contract::id::{BlockId, Slot};
use crate::contract::reload::Reload;
use crate::sync::{Mutex, flume};
use std::collections::HashMap;
use std::sync::Arc;

/// An order to the porter.
pub(crate) enum Order<D: Device> {
    /// Keep what this block has learned, and free the rest of it.
    Store(BlockId, Body<D>, Version),
    /// Make this block again.
    Bring(BlockId),
    /// Tell all who wait for this block that there is no room for it.
    Refuse(BlockId),
    /// The runtime ends.
    Stop,
}

/// Which block stands at a place, of those that were there one after the other under one id.
pub(crate) type Version = u64;

/// What the porter needs to know of a block.
pub(crate) struct Goods<D: Device> {
    pub(crate) reload: Reload<D>,
    pub(crate) version: Version,
    /// Its state when it last left, unless it was as `reload` makes it.
    pub(crate) saved: Option<Arc<BlockState>>,
    /// Its revision when it came.
    pub(crate) revision: Option<u64>,
    /// The revision by which others know the state that it had then: it stays the same when a block comes back.
    pub(crate) known_as: Option<u64>,
    /// Rows of the batches that it is to run before it takes tasks.
    pub(crate) warm_up: Vec<usize>,
}

/// The desk at which the porter takes orders.
pub(crate) struct Desk<D: Device> {
    orders: flume::Sender<Order<D>>,
    ordered: flume::Receiver<Order<D>>,
    goods: Mutex<HashMap<Slot, Goods<D>>>,
}

impl<D: Device> Desk<D> {
    pub(crate) fn new() -> Self {
        let (orders, ordered) = flume::unbounded();
        Self { orders, ordered, goods: Mutex::new(HashMap::new()) }
    }

    pub(crate) fn order(&self, order: Order<D>) {
        // This end is here, so it is never gone.
        self.orders.send(order).ok();
    }

    pub(crate) fn next(&self) -> Order<D> {
        self.ordered.recv().unwrap_or(Order::Stop)
    }

    /// The orders that nobody will carry out.
    pub(crate) fn left_over(&self) -> Vec<Order<D>> {
        std::iter::from_fn(|| self.ordered.try_recv().ok()).collect()
    }

    pub(crate) fn insert(&self, slot: Slot, goods: Goods<D>) {
        self.goods.lock().insert(slot, goods);
    }

    #[must_use = "what makes a block is code of others"]
    pub(crate) fn remove(&self, slot: Slot) -> Option<Goods<D>> {
        self.goods.lock().remove(&slot)
    }

    /// Looks at what is known of a block; `None` if it is not one that may leave.
    pub(crate) fn with<R>(&self, slot: Slot, look: impl FnOnce(&mut Goods<D>) -> R) -> Option<R> {
        self.goods.lock().get_mut(&slot).map(look)
    }
}
