//! Waiting with a limit, so that a message that never comes fails a test instead of hanging it.

use skep_runtime_core::sync::Mutex;
use skep_runtime_core::{Device, RunningRuntime, Shutdown, TaskResult, Ticket};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// The longest time that a case waits for something that must come. Nothing that works takes as long, on any
/// machine.
pub const LIMIT: Duration = Duration::from_mins(1);

/// Runs a case on a thread of its own, so that one that hangs fails, whatever it hangs on.
pub fn limited(name: &str, case: fn()) {
    let (tell, told) = channel::<()>();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let running = thread.spawn(move || {
        let _tell = tell;
        case();
    });
    // Nothing is sent: the other end goes when the case is over, well or badly.
    match told.recv_timeout(3 * LIMIT) {
        Err(RecvTimeoutError::Timeout) => panic!("case `{name}` hangs"),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => {
            if let Err(panic) = running.unwrap().join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Waits for a ticket's answer.
///
/// # Errors
///
/// Returns the reason why the task has no outputs.
pub fn answer<T>(ticket: Ticket<T>) -> TaskResult<T> {
    ticket.wait_timeout(LIMIT).expect("ticket should have been answered")
}

/// Waits for the answers of tasks that must succeed.
pub fn all_succeed<T>(tickets: impl IntoIterator<Item = Ticket<T>>) {
    for ticket in tickets {
        answer(ticket).expect("task should have succeeded");
    }
}

/// Waits for a ticket's answer and reads its first output.
pub fn values_of<D: Device>(device: &D, ticket: Ticket<D::Tensor>) -> Vec<f32> {
    let outputs = answer(ticket).expect("task should have succeeded");
    super::Columns::read(device, &outputs[0])
}

/// Waits for a message, or for the result of what was [`spawn`]ed.
pub fn receive<T>(from: &Receiver<T>) -> T {
    from.recv_timeout(LIMIT).expect("message should have come")
}

/// Runs `work` on a thread named `caller`, and returns the channel on which its result comes.
pub fn spawn<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Receiver<R> {
    let (tell, told) = channel();
    let thread = std::thread::Builder::new().name("caller".to_owned());
    thread.spawn(move || tell.send(work()).ok()).unwrap();
    told
}

/// Runs every task that waits, and stops the runtime.
pub fn drain<D: Device>(runtime: RunningRuntime<D>) {
    runtime.shutdown(Shutdown::Drain, LIMIT).expect("runtime should have stopped");
    drop(runtime);
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on the current thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    let until = Instant::now() + LIMIT;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "future should have been ready");
        std::thread::park_timeout(left);
    }
}

struct Tell(Mutex<Sender<()>>);

impl Wake for Tell {
    fn wake(self: Arc<Self>) {
        self.0.lock().send(()).ok();
    }
}

/// Polls a future that must be pending, and returns the channel on which a message comes when it should be polled
/// again.
pub fn poll_pending<F: Future + Unpin>(future: &mut F) -> Receiver<()> {
    let (tell, told) = channel();
    let waker = Waker::from(Arc::new(Tell(Mutex::new(tell))));
    assert!(Pin::new(future).poll(&mut Context::from_waker(&waker)).is_pending());
    told
}

/// Polls a future once, with a waker that does nothing.
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}
