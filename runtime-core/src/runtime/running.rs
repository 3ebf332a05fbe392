//! A runtime from its start to its end, and who owns its threads.

use super::bells::TimerEvent;
use super::blocks::Blocks;
use super::crew::{Crew, spawn};
use super::handle::Handle;
use super::shared::Shared;
use super::status::{Phase, Status};
use super::warm::WarmUp;
use crate::contract::device::Device;
use crate::contract::error::control::{ShutdownError, StartError};
use crate::contract::pool::Shutdown;
use crate::contract::thread_mark::on_thread_of;
use crate::sync::thread::JoinHandle;
use crate::sync::{discard_all, flume};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A runtime that is put together and not yet running.
///
/// Its pools take tasks already; they run once it is started. Dropped unstarted, it answers them with
/// [`TaskError::ShutDown`](crate::TaskError::ShutDown).
pub struct Runtime<D: Device> {
    shared: Arc<Shared<D>>,
    /// `None` once started.
    freight: Option<Freight<D>>,
    timer: flume::Receiver<TimerEvent>,
}

/// All that the device thread takes along.
pub(crate) struct Freight<D: Device> {
    pub(crate) blocks: Blocks<D>,
    pub(crate) warm_ups: Vec<WarmUp>,
}

impl<D: Device> Freight<D> {
    /// Makes the current thread the device thread of a runtime that is ready.
    fn assemble(
        &mut self,
        shared: &Arc<Shared<D>>,
        timer: flume::Receiver<TimerEvent>,
    ) -> Result<Crew<D>, StartError> {
        let crew = Crew::assemble(shared, timer)?;
        for WarmUp { block, rows } in std::mem::take(&mut self.warm_ups) {
            for (at, rows) in rows.into_iter().enumerate() {
                shared.warm_up(&mut self.blocks, block, rows, at == 0)?;
            }
        }
        crew.open();
        Ok(crew)
    }
}

impl<D: Device> fmt::Debug for Runtime<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

impl<D: Device> Runtime<D> {
    pub(crate) fn new(
        shared: Arc<Shared<D>>,
        freight: Freight<D>,
        timer: flume::Receiver<TimerEvent>,
    ) -> Self {
        Self { shared, freight: Some(freight), timer }
    }

    /// Returns a handle for other threads: to wait until the runtime is ready, and to shut it down.
    pub fn handle(&self) -> Handle<D> {
        Handle::new(Arc::clone(&self.shared))
    }

    /// Starts the runtime's threads in the background. It is ready when this returns.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::Device`] if the device cannot be used, [`StartError::Thread`] if the system gives no
    /// thread, [`StartError::WarmUp`] if a batch of a [warm-up](crate::RuntimeBuilder::warm_up) fails, and [`StartError::ShutDown`] if the runtime was shut down before.
    pub fn start(mut self) -> Result<RunningRuntime<D>, StartError> {
        let handle = self.handle();
        let (shared, timer) = (Arc::clone(&self.shared), self.timer.clone());
        let Some(mut freight) = self.freight.take() else { return Err(StartError::ShutDown) };
        let (tell, started) = flume::bounded(1);
        let thread = spawn("skep-device".to_owned(), move || match freight.assemble(&shared, timer) {
            Ok(crew) => {
                tell.send(Ok(())).ok();
                crew.work(freight.blocks);
            }
            Err(error) => drop(tell.send(Err(error))),
        });
        let thread = match thread {
            Ok(thread) => thread,
            Err(error) => {
                stop_unstarted(&self.shared);
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
    /// Returns those of [`start`](Self::start).
    pub fn run(mut self) -> Result<(), StartError> {
        let Some(mut freight) = self.freight.take() else { return Err(StartError::ShutDown) };
        freight.assemble(&self.shared, self.timer.clone())?.work(freight.blocks);
        Ok(())
    }
}

impl<D: Device> Drop for Runtime<D> {
    fn drop(&mut self) {
        if self.freight.is_some() {
            stop_unstarted(&self.shared);
        }
    }
}

fn stop_unstarted<D: Device>(shared: &Shared<D>) {
    discard_all(shared.work.close());
    shared.close(Shutdown::Abort);
    shared.status.set(Phase::Stopped);
}

/// A runtime at work, and the owner of its threads.
///
/// Dropping it aborts: waiting tasks are answered with [`TaskError::ShutDown`](crate::TaskError::ShutDown),
/// the batch on the device is finished, and all threads are joined; a block that does not return is waited for no longer
/// than [`RuntimeBuilder::drop_limit`](crate::RuntimeBuilder::drop_limit). To finish the waiting tasks first, call
/// [`shutdown`](Self::shutdown).
#[must_use = "dropping the runtime stops it"]
pub struct RunningRuntime<D: Device> {
    handle: Handle<D>,
    thread: Option<JoinHandle<()>>,
}

impl<D: Device> fmt::Debug for RunningRuntime<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningRuntime").field("health", &self.handle.health()).finish_non_exhaustive()
    }
}

impl<D: Device> RunningRuntime<D> {
    /// Returns the handle, by which this and other threads control the runtime. Clone it for those.
    pub fn handle(&self) -> &Handle<D> {
        &self.handle
    }

    /// Stops the runtime and waits until it has stopped: [`Handle::shutdown`].
    ///
    /// # Errors
    ///
    /// Returns those of [`Handle::shutdown`].
    pub fn shutdown(&self, how: Shutdown, limit: Duration) -> Result<(), ShutdownError> {
        self.handle.shutdown(how, limit)
    }
}

impl<D: Device> Drop for RunningRuntime<D> {
    fn drop(&mut self) {
        let shared = self.handle.shared();
        if shared.status.phase() != Phase::Stopped {
            shared.close(Shutdown::Abort);
        }
        // A thread cannot join itself, and one that a shutdown has given up on may never end.
        let own = on_thread_of(|| Some(shared.bells.runtime));
        let Some(thread) = self.thread.take().filter(|_| !own) else { return };
        if shared.status.wait_stopped(shared.settings.drop_limit, Status::is_abandoned) {
            thread.join().ok();
        } else if !shared.status.is_abandoned() {
            shared.abandon();
        }
    }
}
