//! All that the runtime's threads share. Each file beside this one adds the work that it is named for.

use super::bells::Bells;
use super::flight::Flight;
use super::goods::Desk;
use super::outside::Outside;
use super::settings::Settings;
use super::stage::Stage;
use super::status::Status;
use super::teller::Teller;
use super::watch::Watch;
use super::work::Work;
use crate::contract::device::Device;
use crate::sync::Mutex;
use crate::sync::atomic::AtomicBool;
use std::cell::LazyCell;
use std::sync::Arc;
use std::time::Instant;

/// The time of a choice, read from the clock only if the choice depends on it.
pub(crate) type Now<F> = LazyCell<Instant, F>;

pub(crate) struct Shared<D: Device> {
    pub(crate) settings: Settings,
    pub(crate) outside: Outside<D>,
    pub(crate) bells: Arc<Bells>,
    pub(crate) stage: Mutex<Stage<D::Tensor>>,
    /// The policy hears of each batch.
    pub(crate) listens: bool,
    pub(crate) work: Work<D>,
    /// Where the porter takes orders; `None` if no block may leave the device.
    pub(crate) desk: Option<Desk<D>>,
    pub(crate) watch: Watch,
    pub(crate) status: Arc<Status>,
    /// Something is to be learned of batches that succeed, because others have failed. Written under the stage's lock,
    /// and read without it.
    pub(crate) in_question: AtomicBool,
    pub(crate) teller: Arc<Teller>,
}

impl<D: Device> Shared<D> {
    pub(crate) fn now(&self) -> Instant {
        self.outside.now()
    }

    /// Forgets a flight whose replies have been taken.
    pub(crate) fn land(&self, flight: &Arc<Flight<D::Tensor>>) {
        let mut stage = self.stage.lock();
        stage.forget(flight);
        if self.listens && stage.flights.is_empty() {
            stage.selector.idle();
        }
        self.keep_house(&mut stage, &Now::new(|| self.now()));
        let last = stage.closed && stage.flights.is_empty();
        drop(stage);
        if last {
            // The device thread waits for batches that may come back to it in halves.
            self.bells.wake_device();
        }
        self.stir();
    }

    /// Lets those look again who wait for the last task of a drain or of a block that leaves, if anybody does. Their wakers
    /// are code of others.
    pub(crate) fn stir(&self) {
        if self.status.is_watched() {
            self.see_off();
            let status = Arc::clone(&self.status);
            self.teller.tell(move || status.notify());
        }
    }
}
