//! Which tasks run together.

use crate::Subject;
use crate::kit::{
    Columns, Log, all_succeed, answer, columns, drain, gated, new_builder, pool_of, receive, rig, rows_block,
    schema, values_of,
};
use skep_pool::{PoolOptions, Serve, ServeOptions};
use skep_runtime_core::pool::{Batch, BatchTask, Doorbell, Expired, Look, Outlook, Pool, Rank, Reply, Terms};
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::testing::FnBlock;
use skep_runtime_core::{
    Clock, Counts, DType, Device, Dim, Meter, Pass, Priority, Request, RuntimeId, Schema, Shutdown,
    StartError, SubmitError, TaskHeader, TensorSpec,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

fn up_to(max_rows: usize) -> PoolOptions {
    PoolOptions::default().max_rows(max_rows)
}

/// What gathers while the device is busy runs together, first in first out, up to `max_rows`; and a task is
/// never overtaken by a smaller one that would still fit.
pub fn batches_hold_what_has_gathered<S: Subject>() {
    let rig = rig(S::device(), 0, up_to(4));
    let held = rig.hold();
    let rows: [&[f32]; 6] = [&[1.0], &[2.0, 2.5], &[3.0, 3.5], &[4.0], &[5.0, 5.1, 5.2], &[6.0, 6.5]];
    let tickets = rows.map(|rows| rig.submit(rows));
    let device = Arc::clone(&rig.device);
    let batches = rig.finish(held);
    assert_eq!(batches, [vec![1.0, 2.0, 2.5], vec![3.0, 3.5, 4.0], vec![5.0, 5.1, 5.2], vec![6.0, 6.5]]);
    for (ticket, rows) in tickets.into_iter().zip(rows) {
        let doubled: Vec<f32> = rows.iter().map(|v| 2.0 * v).collect();
        assert_eq!(values_of(&*device, ticket), doubled);
    }
}

/// Within one batch, and across batches, the more urgent task comes first.
pub fn urgent_tasks_come_first_within_a_pool<S: Subject>() {
    let rig = rig(S::device(), 0, up_to(2));
    let held = rig.hold();
    let tickets = [(1.0, 5), (2.0, 0), (3.0, 5), (4.0, -5), (5.0, 0)].map(|(v, priority)| {
        let request = Request::new(columns(&*rig.device, &[v])).priority(Priority(priority));
        rig.pool.try_submit(request).unwrap()
    });
    assert_eq!(rig.finish(held), [vec![4.0, 2.0], vec![5.0, 1.0], vec![3.0]]);
    all_succeed(tickets);
}

/// Fewer than `min_rows` wait for `max_delay` and not longer.
pub fn a_partial_batch_is_cut_at_its_delay<S: Subject>() {
    for prefetch in [0, 1] {
        let (mut builder, clock) = new_builder(S::device(), prefetch);
        let device = Arc::clone(builder.device());
        let log = Log::new();
        let block = |name| {
            let log = log.clone();
            rows_block(&device, name, move |rows| {
                log.push(rows.clone());
                Ok(rows)
            })
        };
        let delay = Some(Duration::from_millis(10));
        let patient = PoolOptions::default().min_rows(3).max_delay(delay);
        let patient = pool_of(&mut builder, block("patient"), patient);
        let background = PoolOptions::default().priority(Priority::BACKGROUND);
        let witness = pool_of(&mut builder, block("witness"), background);
        let runtime = builder.start().unwrap();

        let first = patient.submit(columns(&*device, &[1.0])).unwrap();
        clock.advance(Duration::from_millis(4));
        let second = patient.submit(columns(&*device, &[2.0])).unwrap();
        clock.advance(Duration::from_millis(5));
        // The device prefers the other pool, but has nothing to run there yet.
        answer(witness.submit(columns(&*device, &[0.0])).unwrap()).unwrap();
        clock.advance(Duration::from_millis(1));
        answer(first).unwrap();
        answer(second).unwrap();
        assert_eq!(log.take(), [vec![0.0], vec![1.0, 2.0]]);

        // As many as `min_rows` run at once.
        let tickets = [3.0, 4.0, 5.0].map(|v| patient.submit(columns(&*device, &[v])).unwrap());
        all_succeed(tickets);
        assert_eq!(log.take(), [[3.0, 4.0, 5.0]]);
        drain(runtime);
    }
}

/// The delay counts from the oldest waiting task, also when that one is less urgent than others.
pub fn the_delay_counts_from_the_oldest_task<S: Subject>() {
    let (mut builder, clock) = new_builder(S::device(), 0);
    let device = Arc::clone(builder.device());
    let (block, gate) = gated(&device, "patient");
    let delay = Some(Duration::from_millis(10));
    let options = PoolOptions::default().min_rows(3).max_delay(delay);
    let pool = pool_of(&mut builder, block, options);
    let runtime = builder.start().unwrap();
    let old = pool.submit(Request::new(columns(&*device, &[1.0])).priority(Priority::BACKGROUND)).unwrap();
    clock.advance(Duration::from_millis(9));
    let new = pool.submit(Request::new(columns(&*device, &[2.0])).priority(Priority::URGENT)).unwrap();
    clock.advance(Duration::from_millis(1));
    assert_eq!(gate.entered(), [2.0, 1.0]);
    gate.open();
    answer(old).unwrap();
    answer(new).unwrap();
    drain(runtime);
}

/// Tasks share a batch only with tasks whose free dims are the same.
pub fn only_equal_free_dims_share_a_batch<S: Subject>() {
    let (mut builder, clock) = new_builder(S::device(), 0);
    let device = Arc::clone(builder.device());
    let (block, gate) = gated(&device, "gate");
    let gate_pool = pool_of(&mut builder, block, PoolOptions::default());
    let free = Schema::new(vec![TensorSpec::new("x", DType::F32, [Dim::Batch, Dim::free("n", 3)])]).unwrap();
    let (on, log) = (Arc::clone(&device), Log::new());
    let dims = log.clone();
    let block = FnBlock::new("width", free, Some(schema("y")), move |inputs: &[_]| {
        let shape = Columns::dims(&*on, &inputs[0]);
        dims.push(shape.clone());
        Ok(vec![on.gather(&columns(&*on, &vec![f32::from(u8::try_from(shape[1])?); shape[0]]))?])
    });
    let pool = pool_of(&mut builder, block, PoolOptions::default());
    let runtime = builder.start().unwrap();
    let held = gate_pool.submit(columns(&*device, &[0.0])).unwrap();
    gate.entered();

    let tickets = [(1, 2), (1, 3), (2, 2), (3, 3), (1, 1)].map(|(rows, width)| {
        clock.advance(Duration::from_micros(1));
        let input = Columns::shaped(&*device, &[rows, width], &vec![1.0; rows * width]);
        (pool.submit(vec![input]).unwrap(), vec![f32::from(u8::try_from(width).unwrap()); rows])
    });
    let too_wide = pool.submit(vec![Columns::shaped(&*device, &[1, 4], &[1.0; 4])]).unwrap_err();
    assert_eq!(too_wide.error.to_string(), "input `x` has dims [1, 4], expected [batch, n 1..=3]");
    gate.open();
    answer(held).unwrap();
    for (ticket, widths) in tickets {
        assert_eq!(values_of(&*device, ticket), widths);
    }
    assert_eq!(log.take(), [[3, 2], [4, 3], [1, 1]]);
    drain(runtime);
}

/// A task of more rows than a batch holds is refused, with its inputs.
pub fn large_tasks_are_refused<S: Subject>() {
    let rig = rig(S::device(), 1, up_to(4));
    let refused = rig.pool.try_submit(columns(&*rig.device, &[1.0, 2.0, 3.0, 4.0, 5.0])).unwrap_err();
    assert!(matches!(refused.error, SubmitError::TooManyRows { rows: 5, max: 4 }));
    assert_eq!(
        Columns::read(&*rig.device, refused.into_request().inputs.tensors().next().unwrap()),
        [1.0, 2.0, 3.0, 4.0, 5.0]
    );
    rig.gate.open();
    assert_eq!(values_of(&*rig.device, rig.submit(&[1.0, 2.0, 3.0, 4.0])), [2.0, 4.0, 6.0, 8.0]);
    drain(rig.runtime);
}

/// Who waits for company in a queue that has no room for any runs at once.
pub fn a_full_queue_waits_for_no_company<S: Subject>() {
    for prefetch in [0, 1] {
        let delay = Some(Duration::from_secs(1));
        let options = PoolOptions::default().min_rows(3).max_delay(delay).capacity(2);
        let rig = rig(S::device(), prefetch, options);
        let tickets = [rig.submit(&[1.0]), rig.submit(&[2.0])];
        assert_eq!(rig.gate.entered(), [1.0, 2.0]);
        rig.gate.open();
        all_succeed(tickets);
        drain(rig.runtime);
    }
}

/// A pool whose only batch expires just when it is to be cut: what is left waits for company.
struct Shy<D: Device> {
    wait_until: Instant,
    batch: Mutex<Option<Batch<D::Tensor>>>,
    asked: Mutex<Sender<()>>,
    cuts: AtomicUsize,
}

impl<D: Device> Meter for Shy<D> {
    fn name(&self) -> &'static str {
        "shy"
    }
    fn counts(&self) -> Counts {
        Counts::default()
    }
}

impl<D: Device> Pool<D::Tensor> for Shy<D> {
    fn attach(&self, _: Doorbell) {}
    fn look(&self, now: Instant, _: usize) -> Look {
        let tried = self.cuts.load(Ordering::SeqCst) > 0;
        match &*self.batch.lock() {
            None => Look::Idle,
            Some(_) if tried && now < self.wait_until => Look::At(self.wait_until),
            Some(_) => Look::Ready(Outlook::new(Rank::at(Priority::NORMAL, self.wait_until), 1)),
        }
    }
    fn cut(&self, terms: &Terms) -> Option<Batch<D::Tensor>> {
        if self.cuts.fetch_add(1, Ordering::SeqCst) == 0 {
            self.asked.lock().send(()).ok();
        }
        if terms.now < self.wait_until { None } else { self.batch.lock().take() }
    }
    fn claim(&self, _: RuntimeId) -> bool {
        true
    }
    fn expire(&self, _: RuntimeId, _: Instant) -> Expired<D::Tensor> {
        Expired::none()
    }
    fn close(&self, _: RuntimeId, _: Shutdown) {
        self.batch.lock().take();
    }
}

/// A pool that had a batch when it was looked at, none when it was to be cut, and says when to look again, is
/// looked at again then.
pub fn a_pool_that_has_no_batch_after_all_is_looked_at_again<S: Subject>() {
    const DELAY: Duration = Duration::from_millis(10);
    for prefetch in [0, 1] {
        let (mut builder, clock) = new_builder(S::device(), prefetch);
        let device = Arc::clone(builder.device());
        let block = rows_block(&device, "double", |rows| Ok(rows.iter().map(|v| 2.0 * v).collect()));
        let block = builder.block(block).unwrap();
        let (ticket, reply) = Reply::pair();
        let task = BatchTask::new(TaskHeader::new(1, clock.now()), reply);
        let mut batch = Batch::new(vec![columns(&*device, &[3.0])], vec![task]);
        // More vectors than tasks, and not empty: nothing of that is in the answer.
        batch.vectors = vec![columns(&*device, &[4.0]), columns(&*device, &[5.0])];
        let (asked, was_asked) = channel();
        let pool = Arc::new(Shy::<S::Device> {
            wait_until: clock.now() + DELAY,
            batch: Mutex::new(Some(batch)),
            asked: Mutex::new(asked),
            cuts: AtomicUsize::new(0),
        });
        builder.pool(block, Pass::Forward, pool).unwrap();
        let runtime = builder.start().unwrap();
        receive(&was_asked);
        clock.advance(DELAY);
        assert_eq!(values_of(&*device, ticket), [6.0]);
        drain(runtime);
    }
}

/// A pass can have a pool for each class of tasks: a full one refuses its own, and each has its priority.
pub fn classes_of_tasks_have_pools_of_their_own<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 0);
    let device = Arc::clone(builder.device());
    let (block, gate) = gated(&device, "gated");
    let mut served = builder.serve(block, ServeOptions::default()).unwrap();
    let options = PoolOptions::default().priority(Priority::BACKGROUND).capacity(1);
    let bulk = builder.add_pool(&mut served, Pass::Forward, "bulk", options.clone()).unwrap();
    assert_eq!(
        served.pools().map(|(_, pool)| pool.name()).collect::<Vec<_>>(),
        ["gated_forward", "gated_forward_bulk"]
    );
    assert!(served.pool("gated_forward_bulk").is_some() && served.pool("gated_forward_other").is_none());
    let twice = builder.add_pool(&mut served, Pass::Forward, "bulk", options.clone()).unwrap_err();
    assert!(matches!(twice, StartError::NameTwice { .. }), "{twice}");
    let backward = builder.add_pool(&mut served, Pass::Backward, "bulk", options.clone()).unwrap_err();
    assert!(matches!(backward, StartError::NoSuchPass { .. }), "{backward}");
    let (mut other, _) = new_builder(S::device(), 0);
    let foreign = other.add_pool(&mut served, Pass::Forward, "more", options).unwrap_err();
    assert!(matches!(foreign, StartError::ForeignBlock), "{foreign}");
    assert_eq!(served.pools().count(), 2, "what was refused is none of its pools");

    let runtime = builder.start().unwrap();
    let held = served.forward.try_submit(columns(&*device, &[0.0])).unwrap();
    assert_eq!(gate.entered(), [0.0]);
    let patient = bulk.try_submit(columns(&*device, &[1.0])).unwrap();
    assert!(matches!(
        bulk.try_submit(columns(&*device, &[2.0])).unwrap_err().error,
        SubmitError::Full { .. }
    ));
    let later = served.forward.try_submit(columns(&*device, &[3.0])).unwrap();
    let ran = gate.open_for_good();
    for ticket in [held, patient, later] {
        answer(ticket).unwrap();
    }
    drain(runtime);
    assert_eq!(ran.try_iter().collect::<Vec<_>>(), [[3.0], [1.0]]);
}
