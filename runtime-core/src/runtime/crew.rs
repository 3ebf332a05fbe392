//! The crew: a runtime's threads, and their end.

use super::batch::DoneBatch;
use super::bells::TimerEvent;
use super::device_thread::device_loop;
use super::directory::Blocks;
use super::loader::loader_loop;
use super::sender::sender_loop;
use super::shared::Shared;
use super::status::Phase;
use super::timer::timer_loop;
use crate::contract::device::Device;
use crate::contract::error::control::StartError;
use crate::contract::error::device::DeviceError;
use crate::contract::meter::Meter;
use crate::contract::pool::Shutdown;
use crate::contract::thread_mark::ThreadMark;
use crate::sync::thread::{self, JoinHandle, Thread};
use crate::sync::{flume, guarded};
use std::sync::Arc;

/// The device thread's share of the runtime: the threads that it has started, and their end.
///
/// Dropped at the end of the device thread, however that comes about, it leaves nobody waiting.
pub(crate) struct Crew<D: Device> {
    shared: Arc<Shared<D>>,
    _mark: ThreadMark,
    outputs: Option<flume::Sender<DoneBatch<D::Tensor>>>,
    threads: Vec<JoinHandle<()>>,
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
        let mut crew = Self { shared: Arc::clone(shared), _mark: mark, outputs, threads: Vec::new() };
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
        crew.start("skep-timer".to_owned(), move |shared| timer_loop(shared, &timer))?;

        let bells = Arc::downgrade(&shared.bells);
        shared.outside.clock.on_advance(Box::new(move || {
            let Some(bells) = bells.upgrade() else { return false };
            bells.tell_timer(TimerEvent::Tick);
            bells.wake_all();
            true
        }));
        shared.outside.observe(|observer| observer.started(&shared.outside.device.name(), shared.now()));
        let stations = shared.stage.lock().directory.stations();
        for station in &stations {
            let meter = || Arc::clone(&station.pool) as Arc<dyn Meter>;
            shared.outside.observe(|observer| observer.pool_added(station.id, meter()));
        }
        for station in stations {
            if let Err(message) = guarded(|| station.pool.attach(shared.bells.doorbell(station.id))) {
                shared.broke(&station, "attach", &message);
            }
            shared.bells.leave_ring(station.id);
        }
        shared.status.set(Phase::Running);
        Ok(crew)
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

impl<D: Device> Drop for Crew<D> {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.stage.lock().ended = true;
        shared.work.close();
        shared.close(Shutdown::Abort);
        shared.bells.tell_timer(TimerEvent::Stop);
        self.outputs = None;
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
        // None, unless this thread panicked with a batch in hand.
        let left = shared.stage.lock().flights.clone();
        for flight in left {
            shared.give_up(&flight);
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
