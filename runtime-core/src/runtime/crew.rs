//! The crew: a runtime's threads, and their end.

use super::batch::DoneBatch;
use super::bells::TimerEvent;
use super::blocks::Blocks;
use super::device_thread::device_loop;
use super::goods::Order;
use super::loader::loader_loop;
use super::porter::porter_loop;
use super::sender::sender_loop;
use super::shared::Shared;
use super::status::Phase;
use super::teller::teller_loop;
use super::timer::timer_loop;
use crate::contract::device::Device;
use crate::contract::error::control::StartError;
use crate::contract::error::device::DeviceError;
use crate::contract::meter::Meter;
use crate::contract::pool::Shutdown;
use crate::contract::thread_mark::ThreadMark;
use crate::sync::thread::{self, JoinHandle, Thread};
use crate::sync::{discard_all, flume, guarded};
use std::sync::Arc;

/// The device thread's share of the runtime: the threads that it has started, and their end.
///
/// Dropped at the end of the device thread, however that comes about, it leaves nobody waiting.
pub(crate) struct Crew<D: Device> {
    shared: Arc<Shared<D>>,
    _mark: ThreadMark,
    outputs: Option<flume::Sender<DoneBatch<D::Tensor>>>,
    threads: Vec<JoinHandle<()>>,
    /// It ends after all others, which may have errands for it.
    teller: Option<JoinHandle<()>>,
}

impl<D: Device> Crew<D> {
    /// Makes the current thread the device thread and starts the others.
    pub(crate) fn assemble(
        shared: &Arc<Shared<D>>,
        timer: flume::Receiver<TimerEvent>,
    ) -> Result<Self, StartError> {
        let mark = ThreadMark::new(shared.bells.runtime);
        shared.bells.set_device(thread::current());
        let (send, receive) = flume::bounded(2 * shared.settings.senders);
        let outputs = Some(send.clone());
        let mut crew =
            Self { shared: Arc::clone(shared), _mark: mark, outputs, threads: Vec::new(), teller: None };
        guarded(|| shared.outside.device.bind_thread())
            .unwrap_or_else(|message| Err(DeviceError::operation(message)))
            .map_err(StartError::Device)?;
        if shared.stage.lock().stop.is_some() {
            return Err(StartError::ShutDown);
        }

        for i in 0..shared.settings.senders {
            let receive = receive.clone();
            crew.start(format!("skep-sender-{i}"), move |shared| sender_loop(shared, &receive))?;
        }
        if shared.settings.prefetch > 0 {
            let loader = crew.start("skep-loader".to_owned(), move |shared| loader_loop(shared, &send))?;
            shared.bells.set_loader(loader);
        }
        if shared.desk.is_some() {
            crew.start("skep-porter".to_owned(), |shared| porter_loop(shared))?;
        }
        let teller = crew.start("skep-teller".to_owned(), |shared| teller_loop(&shared.teller))?;
        shared.teller.set_thread(teller);
        crew.teller = crew.threads.pop();
        crew.start("skep-timer".to_owned(), move |shared| timer_loop(shared, &timer))?;

        let bells = Arc::downgrade(&shared.bells);
        shared.outside.clock.on_advance(Box::new(move || {
            let Some(bells) = bells.upgrade() else { return false };
            bells.tell_timer(TimerEvent::Tick);
            bells.wake_all();
            true
        }));
        shared.outside.observe(|observer| observer.started(&shared.outside.name, shared.now()));
        Ok(crew)
    }

    /// Lets the pools in, and everybody know that the runtime is ready.
    pub(crate) fn open(&self) {
        let shared = &self.shared;
        let stations = shared.stage.lock().directory.stations();
        for station in &stations {
            let meter = || Arc::clone(station) as Arc<dyn Meter>;
            shared.outside.observe(|observer| observer.pool_added(station.id, meter()));
        }
        for station in stations {
            let doorbell = shared.bells.doorbell(station.id, &shared.outside.clock);
            if let Err(message) = guarded(|| station.pool.attach(doorbell)) {
                shared.broke(&station, "attach", message);
            }
            shared.bells.leave_ring(station.id);
        }
        shared.status.set(Phase::Running);
    }

    fn start(
        &mut self,
        name: String,
        body: impl FnOnce(&Shared<D>) + Send + 'static,
    ) -> Result<Thread, StartError> {
        let shared = Arc::clone(&self.shared);
        let thread = spawn(name, move || {
            let _mark = ThreadMark::new(shared.bells.runtime);
            body(&shared);
        })?;
        let handle = thread.thread().clone();
        self.threads.push(thread);
        Ok(handle)
    }

    pub(crate) fn work(self, mut blocks: Blocks<D>) {
        if let Some(outputs) = &self.outputs {
            device_loop(&self.shared, &mut blocks, outputs);
        }
    }
}

impl<D: Device> Crew<D> {
    /// Gives up what is left, if this thread panicked with a batch in hand, and waits for other threads that are giving
    /// batches up: nothing comes after the end.
    fn land_all(&self) {
        let shared = &self.shared;
        let left = shared.stage.lock().flights.clone();
        for flight in left.iter().filter(|flight| flight.is_open()) {
            shared.give_up(flight);
        }
        // This thread, if it panicked, and a device that was lost have left their batches where they are.
        if std::thread::panicking() {
            return;
        }
        if shared.status.loss().is_some() {
            while !shared.status.has_let_go() {
                thread::park();
            }
            return;
        }
        while !shared.stage.lock().flights.is_empty() {
            thread::park();
        }
    }
}

impl<D: Device> Drop for Crew<D> {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.stage.lock().ended = true;
        discard_all(shared.work.close());
        shared.close(Shutdown::Abort);
        shared.bells.tell_timer(TimerEvent::Stop);
        self.outputs = None;
        if let Some(desk) = &shared.desk {
            desk.order(Order::Stop);
        }
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
        self.land_all();
        shared.teller.close();
        if let Some(teller) = self.teller.take() {
            teller.join().ok();
        }
        shared.outside.observe(|observer| observer.stopped(shared.now()));
        shared.status.set(Phase::Stopped);
    }
}

pub(crate) fn spawn(
    name: String,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    thread::Builder::new()
        .name(name.clone())
        .spawn(body)
        .map_err(|source| StartError::Thread { name, source })
}
