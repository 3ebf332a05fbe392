//! Room for one more connection where there are as many as may be: those that have been idle longest leave.
//!
//! Otherwise whoever opens as many connections as are taken, and says nothing or a letter a minute, would keep everybody
//! else out, probes of health among them. A connection is idle while none of its requests is being answered; one whose
//! body has not come is not.

use bytes::Bytes;
use hyper::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use skep_runtime_core::Flow;
use skep_runtime_core::sync::Mutex;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Whoever has been served lately may have the next request on its way.
const LATELY: Duration = Duration::from_secs(1);
/// The part of all that leaves at most at once: looking for them takes as long as there are connections.
const PART: usize = 16;

/// The open connections of a door.
#[derive(Clone)]
pub(crate) struct Guests(Arc<Inner>);

struct Inner {
    start: Instant,
    open: Mutex<BTreeMap<u32, Arc<Guest>>>,
}

/// An open connection.
pub(crate) struct Guest {
    start: Instant,
    /// Requests that are being answered, less those whose bodies are waited for.
    at_work: AtomicIsize,
    /// Milliseconds from the start to the end of its last request, or to its own beginning.
    since: AtomicU64,
    leave: Notify,
}

/// A connection's place among the open ones.
pub(crate) struct Seated {
    guests: Guests,
    number: u32,
    pub(crate) guest: Arc<Guest>,
}

/// A request that is being answered.
pub(crate) struct AtWork(Arc<Guest>);

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Guests {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner { start: Instant::now(), open: Mutex::default() }))
    }

    /// Notes a connection by its number, which no other open one has.
    pub(crate) fn seat(&self, flow: Flow) -> Seated {
        let start = self.0.start;
        let guest = Guest {
            start,
            at_work: AtomicIsize::new(0),
            since: AtomicU64::new(millis(start)),
            leave: Notify::new(),
        };
        let guest = Arc::new(guest);
        self.0.open.lock().insert(flow.0, Arc::clone(&guest));
        Seated { guests: self.clone(), number: flow.0, guest }
    }

    /// Asks connections to leave that have been idle for some time, the longest idle ones; returns how many.
    pub(crate) fn make_room(&self) -> usize {
        let lately =
            millis(self.0.start).saturating_sub(u64::try_from(LATELY.as_millis()).unwrap_or(u64::MAX));
        let open = self.0.open.lock();
        let idle = |guest: &&Arc<Guest>| guest.at_work.load(Ordering::SeqCst) <= 0;
        let since = |guest: &Arc<Guest>| (guest.since.load(Ordering::SeqCst), Arc::clone(guest));
        let mut idle: Vec<_> = open.values().filter(idle).map(since).collect();
        idle.retain(|(since, _)| *since <= lately);
        let most = (open.len() / PART).max(1).min(idle.len());
        drop(open);
        if most < idle.len() {
            idle.select_nth_unstable_by_key(most, |(since, _)| *since);
        }
        for (_, guest) in &idle[..most] {
            guest.leave.notify_one();
        }
        most
    }
}

impl Guest {
    /// Counts a request that is being answered, as long as what comes back lives.
    pub(crate) fn begin(self: &Arc<Self>) -> AtWork {
        self.at_work.fetch_add(1, Ordering::SeqCst);
        AtWork(Arc::clone(self))
    }

    /// Waits until this connection is to leave.
    pub(crate) async fn told_to_leave(&self) {
        self.leave.notified().await;
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.since.store(millis(self.0.start), Ordering::SeqCst);
        self.0.at_work.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.guests.0.open.lock().remove(&self.number);
    }
}

/// A request as both doors get it.
pub(crate) type Asked = Request<Reading<Incoming>>;

/// The body of a request, which is not at work while nothing comes.
pub(crate) struct Reading<B> {
    body: B,
    guest: Arc<Guest>,
    waits: bool,
}

impl<B> Reading<B> {
    pub(crate) fn new(body: B, guest: Arc<Guest>) -> Self {
        Self { body, guest, waits: false }
    }

    /// The connection that it comes by.
    pub(crate) fn guest(&self) -> Arc<Guest> {
        Arc::clone(&self.guest)
    }

    fn wait(&mut self, waits: bool) {
        let change = isize::from(self.waits) - isize::from(waits);
        if change != 0 {
            self.guest.at_work.fetch_add(change, Ordering::SeqCst);
        }
        self.waits = waits;
    }
}

impl<B> Drop for Reading<B> {
    fn drop(&mut self) {
        self.wait(false);
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Reading<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        this.wait(polled.is_pending());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use http_body_util::{BodyExt, Full};

    fn is_told(seated: &Seated) -> bool {
        seated.guest.told_to_leave().now_or_never().is_some()
    }

    async fn later() {
        tokio::time::advance(LATELY * 2).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_leaves_and_whoever_is_served_stays() {
        let guests = Guests::new();
        let busy = guests.seat(Flow(1));
        let request = busy.guest.begin();
        later().await;
        let [old, served] = [2, 3].map(|number| guests.seat(Flow(number)));
        later().await;
        drop(served.guest.begin());
        later().await;
        let new = guests.seat(Flow(4));
        assert_eq!(guests.make_room(), 1);
        assert_eq!([&busy, &old, &served, &new].map(is_told), [false, true, false, false]);
        drop(old);
        assert_eq!(guests.make_room(), 1);
        assert_eq!([&busy, &served, &new].map(is_told), [false, true, false]);
        drop(served);
        assert_eq!(guests.make_room(), 0, "one is at work, and the other has just come");
        drop(request);
        later().await;
        assert_eq!((guests.make_room(), is_told(&new)), (1, true));
    }

    #[tokio::test(start_paused = true)]
    async fn many_leave_at_once_of_many() {
        let guests = Guests::new();
        let all: Vec<_> = (1..=160).map(|number| guests.seat(Flow(number))).collect();
        later().await;
        assert_eq!(guests.make_room(), 10);
        assert_eq!(all.iter().filter(|seated| is_told(seated)).count(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_no_work() {
        let guests = Guests::new();
        let seated = guests.seat(Flow(1));
        let request = seated.guest.begin();
        let (never, body) = (
            http_body_util::StreamBody::new(futures_util::stream::pending::<
                Result<Frame<Bytes>, std::convert::Infallible>,
            >()),
            Full::new(Bytes::from_static(b"all")),
        );
        later().await;
        let mut whole = Reading::new(body, Arc::clone(&seated.guest));
        assert!(whole.frame().await.is_some());
        assert_eq!(guests.make_room(), 0, "what has come is at work");
        let mut reading = Reading::new(Box::pin(never), Arc::clone(&seated.guest));
        assert!(reading.frame().now_or_never().is_none());
        assert_eq!(guests.make_room(), 1);
        drop(reading);
        assert_eq!(guests.make_room(), 0, "it is being answered without the rest");
        drop(request);
        assert_eq!(seated.guest.at_work.load(Ordering::SeqCst), 0);
    }
}
