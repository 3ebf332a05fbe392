//! A runtime from its start to its end, and who owns its threads.

use super::bell::{ThreadMark, TimerEvent, on_thread_of};
use super::core::Core;
use super::device_loop::device_loop;
use super::flight::Done;
use super::handle::Handle;
use super::jobs::Blocks;
use super::loader::loader_loop;
use super::sender::sender_loop;
use super::status::{Phase, Status};
use super::timer::timer_loop;
use crate::device::Device;
use crate::error::{DeviceError, StartError};
use crate::pool::{PoolId, Shutdown};
use crate::sync::thread::{self, JoinHandle, Thread};
use crate::sync::{flume, guarded};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// A runtime that is put together and not yet running.
///
/// Its pools take tasks already; they run once it is started. Dropped unstarted, it answers them with
/// [`TaskError::ShutDown`](crate::TaskError::ShutDown).
pub struct Runtime<D: Device> {
    core: Arc<Core<D>>,
    /// `None` once started.
    blocks: Option<Blocks<D>>,
    timer: flume::Receiver<TimerEvent>,
}

impl<D: Device> Runtime<D> {
    pub(crate) fn new(core: Arc<Core<D>>, blocks: Blocks<D>, timer: flume::Receiver<TimerEvent>) -> Self {
        Self { core, blocks: Some(blocks), timer }
    }

    /// A handle for other threads: to wait until the runtime is ready, and to shut it down.
    pub fn handle(&self) -> Handle<D> {
        Handle::new(Arc::clone(&self.core))
    }

    /// Starts the runtime's threads in the background. It is ready when this returns.
    ///
    /// # Errors
    ///
    /// When the device cannot be used, the system gives no thread, or the runtime was shut down before.
    pub fn start(mut self) -> Result<RunningRuntime<D>, StartError> {
        let handle = self.handle();
        let (core, timer) = (Arc::clone(&self.core), self.timer.clone());
        let blocks = self.blocks.take().unwrap_or_default();
        let (tell, started) = flume::bounded(1);
        let thread = spawn("skep-device".to_owned(), move || {
            let crew = Crew::assemble(&core, timer);
            match crew {
                Ok(crew) => {
                    tell.send(Ok(())).ok();
                    crew.work(blocks);
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        });
        let thread = match thread {
            Ok(thread) => thread,
            Err(error) => {
                stop_unstarted(&self.core);
                return Err(error);
            }
        };
        let result = started.recv().unwrap_or(Err(StartError::ShutDown));
        if let Err(error) = result {
            thread.join().ok();
            return Err(error);
        }
        Ok(RunningRuntime { handle, thread: Some(thread) })
    }

    /// Runs on the calling thread, which becomes the device thread, until the runtime is shut down through
    /// a [`handle`](Self::handle).
    ///
    /// # Errors
    ///
    /// Those of [`start`](Self::start).
    pub fn run(mut self) -> Result<(), StartError> {
        let blocks = self.blocks.take().unwrap_or_default();
        Crew::assemble(&self.core, self.timer.clone())?.work(blocks);
        Ok(())
    }
}

impl<D: Device> Drop for Runtime<D> {
    fn drop(&mut self) {
        if self.blocks.is_some() {
            stop_unstarted(&self.core);
        }
    }
}

fn stop_unstarted<D: Device>(core: &Core<D>) {
    core.jobs.close();
    core.close(Shutdown::Abort);
    core.status.set(Phase::Stopped);
}

/// A runtime at work. Everything that a [`Handle`] can do, it can do.
///
/// Dropping it aborts: waiting tasks are answered with [`TaskError::ShutDown`](crate::TaskError::ShutDown),
/// the batch on the device is finished, and all threads are joined. To finish the waiting tasks first, call
/// [`shutdown`](Handle::shutdown).
#[must_use = "dropping the runtime stops it"]
pub struct RunningRuntime<D: Device> {
    handle: Handle<D>,
    thread: Option<JoinHandle<()>>,
}

impl<D: Device> RunningRuntime<D> {
    /// A handle for other threads.
    pub fn handle(&self) -> Handle<D> {
        self.handle.clone()
    }
}

impl<D: Device> Deref for RunningRuntime<D> {
    type Target = Handle<D>;

    fn deref(&self) -> &Handle<D> {
        &self.handle
    }
}

impl<D: Device> Drop for RunningRuntime<D> {
    fn drop(&mut self) {
        let core = self.handle.core();
        if core.status.phase() != Phase::Stopped {
            core.close(Shutdown::Abort);
        }
        // A thread cannot join itself, and one that a shutdown has given up on may never end.
        let own = on_thread_of(|| Some(core.bells.runtime));
        if let Some(thread) = self.thread.take()
            && !own
            && core.status.wait_stopped(Duration::MAX, Status::is_abandoned)
        {
            thread.join().ok();
        }
    }
}

fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    thread::Builder::new()
        .name(name.clone())
        .spawn(body)
        .map_err(|source| StartError::Thread { name, source })
}

/// The device thread's share of the runtime: the threads that it has started, and their end.
///
/// Dropped at the end of the device thread, however that comes about, it leaves nobody waiting.
struct Crew<D: Device> {
    core: Arc<Core<D>>,
    _mark: ThreadMark,
    outputs: Option<flume::Sender<Done<D::Tensor>>>,
    threads: Vec<JoinHandle<()>>,
}

impl<D: Device> Crew<D> {
    /// Makes the current thread the device thread and starts the others.
    fn assemble(core: &Arc<Core<D>>, timer: flume::Receiver<TimerEvent>) -> Result<Self, StartError> {
        let mark = ThreadMark::new(core.bells.runtime);
        core.bells.set_device(thread::current());
        let (send, receive) = flume::bounded(2 * core.settings.senders);
        let outputs = Some(send.clone());
        let mut crew = Self { core: Arc::clone(core), _mark: mark, outputs, threads: Vec::new() };
        guarded(|| core.device.bind_thread())
            .unwrap_or_else(|message| Err(DeviceError::operation(message)))
            .map_err(StartError::Device)?;
        if core.stage.lock().stop.is_some() {
            return Err(StartError::ShutDown);
        }

        for i in 0..core.settings.senders {
            let receive = receive.clone();
            crew.start(format!("skep-sender-{i}"), move |core| sender_loop(core, &receive))?;
        }
        if core.settings.prefetch > 0 {
            let loader = crew.start("skep-loader".to_owned(), move |core| loader_loop(core, &send))?;
            core.bells.set_loader(loader);
        }
        crew.start("skep-timer".to_owned(), move |core| timer_loop(core, &timer))?;

        let bells = Arc::downgrade(&core.bells);
        core.clock.on_advance(Box::new(move || {
            let Some(bells) = bells.upgrade() else { return false };
            bells.tell_timer(TimerEvent::Tick);
            bells.wake_all();
            true
        }));
        core.observe(|observer| observer.started(&core.device.name(), core.now(), &core.meters()));
        for (station, id) in core.stations.iter().zip(0..) {
            if let Err(message) = guarded(|| station.pool.attach(core.bells.doorbell(PoolId(id)))) {
                core.broke(PoolId(id), "attach", &message);
            }
            core.bells.leave_ring(PoolId(id));
        }
        core.status.set(Phase::Running);
        Ok(crew)
    }

    fn start(
        &mut self,
        name: String,
        body: impl FnOnce(&Core<D>) + Send + 'static,
    ) -> Result<Thread, StartError> {
        let core = Arc::clone(&self.core);
        let thread = spawn(name, move || {
            let _mark = ThreadMark::new(core.bells.runtime);
            body(&core);
        })?;
        let handle = thread.thread().clone();
        self.threads.push(thread);
        Ok(handle)
    }

    fn work(self, mut blocks: Blocks<D>) {
        if let Some(outputs) = &self.outputs {
            device_loop(&self.core, &mut blocks, outputs);
        }
    }
}

impl<D: Device> Drop for Crew<D> {
    fn drop(&mut self) {
        let core = &self.core;
        core.stage.lock().ended = true;
        core.jobs.close();
        core.close(Shutdown::Abort);
        core.bells.tell_timer(TimerEvent::Stop);
        self.outputs = None;
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
        // None, unless this thread panicked with a batch in hand.
        let left = core.stage.lock().flights.clone();
        for flight in left {
            core.give_up(&flight);
        }
        core.observe(|observer| observer.stopped(core.now()));
        core.status.set(Phase::Stopped);
    }
}
