//! Blocks that share less memory than they need: they leave the device for each other, and come back.

use super::accounts::assert_reconciled;
use super::come_and_go::submit;
use crate::Subject;
use crate::kit::{
    LIMIT, all_succeed, answer, columns, drain, gated, new_builder, quiet_panics, receive, rows_block, spawn,
    values_of,
};
use skep_pool::{PoolOptions, Serve, ServeMore, ServeOptions, Served};
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::testing::{FnBlock, Gate};
use skep_runtime_core::{
    Backend, BatchError, BlockInfo, BlockState, BoxError, Chain, Clock, ControlError, Device, Fit, Handle,
    Priority, Reload, Request, Shutdown, StartError, TaskError, Ticket, Unmatched,
};
use skep_stats::Stats;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// Blocks that multiply, and what is known of them.
struct Makers<D: Device> {
    device: Arc<D>,
    /// Blocks that are alive, and the most that there were.
    alive: Arc<(AtomicUsize, AtomicUsize)>,
    /// The names of blocks in the order in which they were made.
    made: Arc<Mutex<Vec<String>>>,
}

struct Alive(Arc<(AtomicUsize, AtomicUsize)>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<D: Device> Makers<D> {
    fn new(device: &Arc<D>) -> Self {
        Self { device: Arc::clone(device), alive: Arc::default(), made: Arc::default() }
    }

    /// A block of 10 bytes. `before` is called each time it is made.
    fn block(
        &self,
        name: &str,
        by: f32,
        before: impl Fn() -> Result<(), BoxError> + Send + Sync + 'static,
    ) -> Reload<D> {
        let (device, alive, made) =
            (Arc::clone(&self.device), Arc::clone(&self.alive), Arc::clone(&self.made));
        let name = name.to_owned();
        let create = move || {
            before()?;
            made.lock().push(name.clone());
            let now = alive.0.fetch_add(1, Ordering::SeqCst) + 1;
            alive.1.fetch_max(now, Ordering::SeqCst);
            let alive = Alive(Arc::clone(&alive));
            Ok(rows_block(&device, &name, move |rows| {
                let _ = &alive;
                Ok(rows.iter().map(|v| by * v).collect())
            }))
        };
        Reload::new(create).bytes(10)
    }

    fn plain(&self, name: &str, by: f32) -> Reload<D> {
        self.block(name, by, || Ok(()))
    }

    /// What was made since this was asked last.
    fn made(&self) -> Vec<String> {
        std::mem::take(&mut self.made.lock())
    }
}

fn budget<D: Device>(handle: &Handle<D>) -> (u64, usize, usize) {
    let now = handle.budget().unwrap();
    (now.used, now.on_device, now.off_device)
}

fn is_reload_error<T>(ticket: Ticket<T>, cause: &str) {
    let error = answer(ticket).map(drop).unwrap_err();
    assert!(matches!(error.batch_error(), Some(BatchError::Reload { .. })), "{error:?}");
    assert!(Chain(&error).to_string().contains(cause), "{}", Chain(&error));
}

/// Tasks for more blocks than there is room for are all answered, and no more blocks are there than have room.
pub fn blocks_beyond_the_budget_come_and_go<S: Subject>() {
    const BLOCKS: u8 = 5;
    for prefetch in [0, 1] {
        let stats = Stats::new();
        let (builder, clock) = new_builder(S::device(), prefetch);
        let mut builder = builder.observer(stats.observer()).budget(25);
        let device = Arc::clone(builder.device());
        let makers = Makers::new(&device);
        let mut served: Vec<_> = (1..BLOCKS)
            .map(|by| {
                let block = makers.plain(&format!("by {by}"), f32::from(by));
                builder.serve_reloadable(block, ServeOptions::default()).unwrap()
            })
            .collect();
        let runtime = builder.start().unwrap();
        let handle = runtime.handle();
        // One more while it runs.
        let last = makers.plain("last", f32::from(BLOCKS));
        served.push(handle.serve_reloadable(last, ServeOptions::default()).unwrap());
        assert_eq!(budget(handle), (20, 2, 3));
        assert_eq!(makers.alive.0.load(Ordering::SeqCst), 2);
        makers.alive.1.store(0, Ordering::SeqCst);
        for round in 0..4_u8 {
            for (by, served) in (1_u8..).zip(&served) {
                let value = f32::from(round);
                let expected = f32::from(by) * value;
                assert_eq!(values_of(&*device, submit(&*device, &served.forward, value)), [expected]);
                assert!(budget(handle).0 <= 25);
            }
        }
        // All at once.
        let tickets: Vec<_> = (0..30)
            .map(|at| {
                (at % usize::from(BLOCKS), submit(&*device, &served[at % usize::from(BLOCKS)].forward, 1.0))
            })
            .collect();
        for (at, ticket) in tickets {
            assert_eq!(values_of(&*device, ticket), [(at + 1) as f32]);
        }
        assert!(makers.alive.1.load(Ordering::SeqCst) <= 2, "one leaves before the next comes");
        drain(runtime);
        let snapshot = stats.snapshot_at(clock.now());
        assert_reconciled(&snapshot.total);
        assert_eq!(snapshot.total.succeeded, 50);
        let reloads = snapshot.reloads.unwrap();
        assert_eq!(reloads.times.count, makers.made().len() as u64 - u64::from(BLOCKS));
        assert!(reloads.times.count >= 15 && reloads.failed == 0, "{reloads:?}");
    }
}

/// Of several blocks that are wanted, the one with the most urgent task comes first; a reload holds up nobody else, and
/// deadlines hold meanwhile.
pub fn a_reload_holds_up_nobody_else<S: Subject>() {
    let (builder, clock) = new_builder(S::device(), 1);
    let mut builder = builder.budget(10);
    let device = Arc::clone(builder.device());
    let makers = Makers::new(&device);
    let gate = Gate::new();
    let [held, later, urgent] = ["held", "later", "urgent"].map(|name| {
        let (at, first) = (gate.hook(), AtomicBool::new(true));
        let wait = move || {
            // It is made for the first time on this thread.
            if !first.swap(false, Ordering::SeqCst) {
                at();
            }
            Ok(())
        };
        let options = ServeOptions::forward(PoolOptions::default().max_rows(1));
        builder.serve_reloadable(makers.block(name, 2.0, wait), options).unwrap().forward
    });
    let fixed = rows_block(&device, "fixed", |rows| Ok(rows.iter().map(|v| 3.0 * v).collect()));
    let fixed = builder.serve(fixed, ServeOptions::default()).unwrap().forward;
    let first = builder.serve_reloadable(makers.plain("first", 4.0), ServeOptions::default()).unwrap();
    let runtime = builder.start().unwrap();
    assert_eq!(makers.made(), ["held", "later", "urgent", "first"]);
    // Somebody else takes the only place.
    gate.pass(1);
    assert_eq!(values_of(&*device, submit(&*device, &first.forward, 1.0)), [4.0]);
    assert_eq!(makers.made(), ["first"]);

    // The one that was let pass.
    assert_eq!(values_of(&*device, submit(&*device, &held, 1.0)), [2.0]);
    assert_eq!(values_of(&*device, submit(&*device, &first.forward, 1.0)), [4.0]);
    assert_eq!(makers.made(), ["held", "first"]);
    let waits = submit(&*device, &held, 2.0);
    assert!(gate.reached(2, LIMIT), "it is being read");
    let minute = Duration::from_mins(1);
    let expires = Request::new(columns(&*device, &[1.0])).deadline(minute);
    let expires = held.try_submit(expires).unwrap();
    let patient = submit(&*device, &later, 3.0);
    let request = Request::new(columns(&*device, &[4.0])).priority(Priority::URGENT);
    let pressing = urgent.try_submit(request).unwrap();
    for value in [1.0, 2.0, 3.0] {
        assert_eq!(values_of(&*device, submit(&*device, &fixed, value)), [3.0 * value]);
    }
    clock.advance(minute);
    let late = answer(expires).map(drop);
    assert!(matches!(late, Err(TaskError::Expired { .. })), "{late:?}");
    gate.open();
    assert_eq!(values_of(&*device, waits), [4.0]);
    assert_eq!(values_of(&*device, pressing), [8.0]);
    assert_eq!(values_of(&*device, patient), [6.0]);
    assert_eq!(makers.made(), ["held", "urgent", "later"]);
    drain(runtime);
}

/// A block does not leave in the middle of a batch, nor before what was cut of it has run.
pub fn a_block_leaves_between_two_batches<S: Subject>() {
    let (builder, _) = new_builder(S::device(), 1);
    let mut builder = builder.budget(10);
    let device = Arc::clone(builder.device());
    let makers = Makers::new(&device);
    let (block, gate) = gated(&device, "gated");
    let block = Mutex::new(Some(block));
    let once = Reload::new(move || block.lock().take().ok_or_else(|| "made twice".into())).bytes(10);
    let options = ServeOptions::forward(PoolOptions::default().max_rows(1));
    let stays = builder.serve_reloadable(once, options).unwrap().forward;
    let comes = builder.serve_reloadable(makers.plain("comes", 3.0), ServeOptions::default()).unwrap();
    let runtime = builder.start().unwrap();
    let handle = runtime.handle();
    assert_eq!(makers.made(), ["comes"]);
    let held = submit(&*device, &stays, 1.0);
    assert_eq!(gate.entered(), [1.0]);
    // This one is gathered ahead, so it runs before the block leaves.
    let ahead = submit(&*device, &stays, 2.0);
    while stays.counts().waiting > 0 {
        thread::yield_now();
    }
    let wanted = submit(&*device, &comes.forward, 1.0);
    assert_eq!((budget(handle), makers.made()), ((10, 1, 1), Vec::new()));
    gate.open();
    assert_eq!(values_of(&*device, held), [2.0]);
    assert_eq!(gate.entered(), [2.0]);
    assert_eq!((budget(handle), makers.made()), ((10, 1, 1), Vec::new()));
    gate.open();
    assert_eq!(values_of(&*device, ahead), [4.0]);
    assert_eq!(values_of(&*device, wanted), [3.0]);
    assert_eq!(makers.made(), ["comes"]);
    assert!(gate.is_gone());
    assert_eq!(budget(handle), (10, 1, 1));
    is_reload_error(submit(&*device, &stays, 1.0), "made twice");
    drain(runtime);
}

/// A block that learns by its backward passes, and forgets when it is made again.
struct Learning<D: Device> {
    inner: FnBlock<D>,
    learned: Arc<AtomicUsize>,
    is_readable: bool,
}

impl<D: Device> Learning<D> {
    fn reload(device: &Arc<D>, name: &'static str, is_readable: bool) -> Reload<D> {
        let device = Arc::clone(device);
        let make = move || {
            let learned = Arc::new(AtomicUsize::new(0));
            let seen = Arc::clone(&learned);
            let forward = rows_block(&device, name, move |rows| {
                let learned = seen.load(Ordering::SeqCst) as f32;
                Ok(rows.iter().map(|v| v + learned).collect())
            });
            let seen = Arc::clone(&learned);
            let (on, zeros) = (Arc::clone(&device), AtomicUsize::new(0));
            let inner = forward.with_backward(move |inputs, _| {
                let _ = &zeros;
                seen.fetch_add(1, Ordering::SeqCst);
                let x = on.to_host(&inputs[0])?;
                Ok(vec![on.gather(&[on.from_host(&x)?])?])
            });
            Ok(Self { inner, learned, is_readable })
        };
        Reload::new(make).bytes(10)
    }
}

impl<D: Device> Backend<D> for Learning<D> {
    fn info(&self) -> BlockInfo {
        self.inner.info()
    }

    fn load(&mut self, device: &D) -> Result<(), BoxError> {
        self.inner.load(device)
    }

    fn forward(&mut self, inputs: &[D::Tensor]) -> Result<Vec<D::Tensor>, BoxError> {
        self.inner.forward(inputs)
    }

    fn backward(
        &mut self,
        inputs: &[D::Tensor],
        gradients: &[D::Tensor],
    ) -> Result<Vec<D::Tensor>, BoxError> {
        self.inner.backward(inputs, gradients)
    }

    fn state(&self) -> Result<BlockState, BoxError> {
        if !self.is_readable {
            return Err("cannot be read".into());
        }
        let learned = self.learned.load(Ordering::SeqCst).to_string();
        let mut state = BlockState::default();
        state.scalars.insert("learned".to_owned(), learned);
        Ok(state)
    }

    fn restore(&mut self, state: &BlockState, _: Fit) -> Result<Unmatched, BoxError> {
        let learned = state.scalars.get("learned").ok_or("`learned` is missing")?.parse()?;
        self.learned.store(learned, Ordering::SeqCst);
        Ok(Unmatched::default())
    }

    fn revision(&self) -> Option<u64> {
        Some(self.learned.load(Ordering::SeqCst) as u64)
    }
}

fn learn<D: Device>(device: &D, served: &Served<D>) {
    let task: Vec<_> = columns(device, &[1.0]).into_iter().chain(columns(device, &[1.0])).collect();
    answer(served.backward.as_ref().unwrap().submit(task).unwrap()).unwrap();
}

/// A block that was trained comes back as it left, again and again; work with it brings it back as a task does.
pub fn what_a_block_has_learned_comes_back<S: Subject>() {
    let heard = Stats::new();
    let (builder, clock) = new_builder(S::device(), 1);
    let mut builder = builder.observer(heard.observer()).budget(10);
    let device = Arc::clone(builder.device());
    let [one, other] = ["one", "other"].map(|name| {
        builder.serve_reloadable(Learning::reload(&device, name, true), ServeOptions::default()).unwrap()
    });
    // Also before the start, also of one that is off.
    let mut state = BlockState::default();
    state.scalars.insert("learned".to_owned(), "5".to_owned());
    builder.restore("other", &state).unwrap();
    let runtime = builder.start().unwrap();
    let handle = runtime.handle();
    let of = |served: &Served<_>| values_of(&*device, submit(&*device, &served.forward, 0.0));
    for round in 0..3_u8 {
        let round = f32::from(round);
        assert_eq!((of(&one), of(&other)), (vec![3.0 * round], vec![5.0 + round]));
        (0..3).for_each(|_| learn(&*device, &one));
        learn(&*device, &other);
        // Unchanged since it came.
        assert_eq!((of(&one), of(&other)), (vec![3.0 * round + 3.0], vec![6.0 + round]));
    }
    // The other one is there; this one is off, and its state is in the host's memory.
    let reloads = || heard.snapshot_at(clock.now()).reloads.unwrap().times.count;
    let before = reloads();
    let (saved, known) = handle.state_since("one", None).unwrap().unwrap();
    assert_eq!((saved.scalars["learned"].as_str(), known), ("9", Some(9)));
    assert_eq!(handle.state("one").unwrap(), saved);
    assert!(handle.state_since("one", known).unwrap().is_none());
    assert_eq!(reloads(), before);
    handle.restore("other", state).unwrap();
    assert_eq!((of(&one), of(&other)), (vec![9.0], vec![5.0]));
    let other = handle.state_since("other", None).unwrap().unwrap();
    assert_eq!(of(&one), [9.0]);
    assert!(handle.state_since("one", known).unwrap().is_none(), "it came back as it was");
    assert_eq!(handle.state_since("other", None).unwrap(), Some(other));
    learn(&*device, &one);
    assert_eq!(handle.state_since("one", known).unwrap().unwrap().1, Some(10));
    drain(runtime);
}

/// A block whose state cannot be read stays, and who would need its room is told.
pub fn a_block_that_cannot_be_saved_stays<S: Subject>() {
    let (builder, _) = new_builder(S::device(), 1);
    let mut builder = builder.budget(20);
    let device = Arc::clone(builder.device());
    let makers = Makers::new(&device);
    let mute = builder.serve_reloadable(Learning::reload(&device, "mute", false), ServeOptions::default());
    let mute = mute.unwrap();
    let small = builder.serve_reloadable(makers.plain("small", 2.0), ServeOptions::default()).unwrap();
    let large = makers.plain("large", 3.0).bytes(20);
    let large = builder.serve_reloadable(large, ServeOptions::default()).unwrap();
    let runtime = builder.start().unwrap();
    let of = |served: &Served<_>| values_of(&*device, submit(&*device, &served.forward, 1.0));
    learn(&*device, &mute);
    assert_eq!((of(&mute), of(&small)), (vec![2.0], vec![2.0]));
    is_reload_error(submit(&*device, &large.forward, 1.0), "no room is left");
    let away = runtime.handle().state("large").unwrap_err();
    assert!(matches!(away, ControlError::Away { .. }), "{away}");
    assert_eq!((of(&mute), of(&small)), (vec![2.0], vec![2.0]));
    drain(runtime);
}

/// A block that cannot be brought back fails the tasks that wait for it, and no others; later ones have it tried again.
pub fn a_reload_that_fails_is_told<S: Subject>() {
    quiet_panics();
    let stats = Stats::new();
    let (builder, clock) = new_builder(S::device(), 1);
    let mut builder = builder.observer(stats.observer()).budget(10);
    let device = Arc::clone(builder.device());
    let makers = Makers::new(&device);
    let fate = Arc::new(AtomicUsize::new(0));
    let fates = Arc::clone(&fate);
    let on = Arc::clone(&device);
    let ill = Reload::new(move || match fates.load(Ordering::SeqCst) {
        1 => Err("the disk is gone".into()),
        2 => panic!("on purpose: make"),
        3 => {
            let other = crate::kit::schema("z");
            Ok(FnBlock::new("ill", other.clone(), Some(other), |_| Err("never called".into())))
        }
        _ => Ok(rows_block(&on, "ill", |rows| Ok(rows.iter().map(|v| 2.0 * v).collect()))),
    });
    let options = ServeOptions::forward(PoolOptions::default().max_rows(1));
    let ill = builder.serve_reloadable(ill.bytes(10), options).unwrap().forward;
    let well = builder.serve_reloadable(makers.plain("well", 3.0), ServeOptions::default()).unwrap().forward;
    let runtime = builder.start().unwrap();
    let of = |pool: &_| values_of(&*device, submit(&*device, pool, 1.0));
    for (now, cause) in [(1, "the disk is gone"), (2, "on purpose: make"), (3, "with other inputs")] {
        assert_eq!((of(&ill), of(&well)), (vec![2.0], vec![3.0]));
        fate.store(now, Ordering::SeqCst);
        let tickets = [1.0, 2.0, 3.0].map(|value| submit(&*device, &ill, value));
        for ticket in tickets {
            is_reload_error(ticket, cause);
        }
        let away = runtime.handle().with_block("ill", |_| ());
        assert!(matches!(away, Err(ControlError::Away { .. })), "{away:?}");
        assert_eq!(of(&well), [3.0]);
        fate.store(0, Ordering::SeqCst);
    }
    assert_eq!(of(&ill), [2.0]);
    drain(runtime);
    let snapshot = stats.snapshot_at(clock.now());
    assert_reconciled(&snapshot.total);
    assert_eq!((snapshot.total.succeeded, snapshot.total.failed), (10, 9));
    assert!((3..=12).contains(&snapshot.reloads.unwrap().failed));
}

/// Blocks that are off the device are removed and replaced as others are, and drained with them.
pub fn blocks_that_are_off_are_removed_and_replaced<S: Subject>() {
    let (builder, _) = new_builder(S::device(), 1);
    let mut builder = builder.budget(10);
    let device = Arc::clone(builder.device());
    let makers = Makers::new(&device);
    let gate = Gate::new();
    let [on, drained, aborted, replaced] = ["on", "drained", "aborted", "replaced"].map(|name| {
        let (at, first) = (gate.hook(), AtomicBool::new(true));
        let wait = move || {
            if !first.swap(false, Ordering::SeqCst) {
                at();
            }
            Ok(())
        };
        builder.serve_reloadable(makers.block(name, 2.0, wait), ServeOptions::default()).unwrap().forward
    });
    let runtime = builder.start().unwrap();
    let handle = runtime.handle();
    assert_eq!(values_of(&*device, submit(&*device, &on, 1.0)), [2.0]);
    makers.made();

    // Replaced while it is off, before it comes, and while it comes.
    handle.replace_reloadable("replaced", makers.plain("new", 5.0)).unwrap();
    assert_eq!(values_of(&*device, submit(&*device, &replaced, 1.0)), [5.0]);
    handle.replace_reloadable("replaced", makers.plain("newer", 6.0)).unwrap();
    assert_eq!(values_of(&*device, submit(&*device, &replaced, 1.0)), [6.0]);
    let waits = submit(&*device, &drained, 1.0);
    assert!(gate.reached(1, LIMIT));
    handle.replace_reloadable("drained", makers.plain("drained", 7.0)).unwrap();

    // Removed while it is wanted, and while it comes.
    let ends = submit(&*device, &aborted, 1.0);
    handle.remove("aborted", Shutdown::Abort, LIMIT).unwrap();
    assert!(matches!(answer(ends).map(drop), Err(TaskError::Removed)));
    let (leaving, done) = (handle.clone(), handle.clone());
    let removing = spawn(move || leaving.remove("drained", Shutdown::Drain, LIMIT));
    while done.pool("drained_forward").is_some() && drained.try_submit(columns(&*device, &[1.0])).is_ok() {
        thread::yield_now();
    }
    gate.open();
    assert_eq!(values_of(&*device, waits), [7.0]);
    receive(&removing).unwrap();
    assert_eq!(budget(handle), (0, 0, 2));

    // The last of a drain is off.
    let last =
        [submit(&*device, &replaced, 1.0), submit(&*device, &on, 1.0), submit(&*device, &replaced, 2.0)];
    drain(runtime);
    let expected = [vec![6.0], vec![2.0], vec![12.0]];
    assert_eq!(last.map(|ticket| values_of(&*device, ticket)), expected);
    assert_eq!(makers.alive.0.load(Ordering::SeqCst), 0, "nothing is left");
}

/// An abort answers what waits for blocks that are off, and a block that is being read is not waited for in vain.
pub fn an_end_answers_those_who_wait_for_a_block<S: Subject>() {
    let (builder, _) = new_builder(S::device(), 1);
    let mut builder = builder.budget(10);
    let device = Arc::clone(builder.device());
    let makers = Makers::new(&device);
    let gate = Gate::new();
    let (at, first) = (gate.hook(), AtomicBool::new(true));
    let wait = move || {
        if !first.swap(false, Ordering::SeqCst) {
            at();
        }
        Ok(())
    };
    let on = builder.serve_reloadable(makers.plain("on", 2.0), ServeOptions::default()).unwrap().forward;
    let off = builder.serve_reloadable(makers.block("off", 2.0, wait), ServeOptions::default()).unwrap();
    let runtime = builder.start().unwrap();
    assert_eq!(values_of(&*device, submit(&*device, &on, 1.0)), [2.0]);
    let first = submit(&*device, &off.forward, 1.0);
    assert!(gate.reached(1, LIMIT));
    let waiting = [first, submit(&*device, &on, 1.0)];
    let handle = runtime.handle().clone();
    let (asked, asking) = (handle.clone(), handle.clone());
    let asking = spawn(move || asking.state("off"));
    let stopping = spawn(move || asked.shutdown(Shutdown::Abort, LIMIT));
    for ticket in waiting {
        let ended = answer(ticket).map(drop);
        assert!(matches!(ended, Err(TaskError::ShutDown)), "{ended:?}");
    }
    let asked = receive(&asking);
    assert!(matches!(asked, Err(ControlError::ShutDown)), "{asked:?}");
    gate.open();
    receive(&stopping).unwrap();
    drop(runtime);
    assert_eq!(makers.alive.0.load(Ordering::SeqCst), 0, "nothing is left");
}

/// What has no room, or no size, is refused by name.
pub fn a_block_larger_than_the_budget_is_refused<S: Subject>() {
    let (builder, _) = new_builder(S::device(), 1);
    let mut builder = builder.budget(20);
    let device = Arc::clone(builder.device());
    let makers = Makers::new(&device);
    let message = |result: Result<(), StartError>| Chain(&result.unwrap_err()).to_string();
    let large = makers.plain("large", 1.0).bytes(21);
    let large = builder.serve_reloadable(large, ServeOptions::default()).map(drop);
    assert_eq!(message(large), "block `large` takes 21 bytes, and the budget of its runtime is 20");
    let on = Arc::clone(&device);
    let unknown = Reload::new(move || Ok(rows_block(&on, "unknown", Ok)));
    let unknown = builder.serve_reloadable(unknown, ServeOptions::default()).map(drop);
    assert!(message(unknown).starts_with("block `unknown`: bytes is 0"));
    let broken = makers.block("broken", 1.0, || Err("no such file".into()));
    let broken = builder.serve_reloadable(broken, ServeOptions::default()).map(drop);
    assert!(message(broken).ends_with("no such file"));
    builder.serve_reloadable(makers.plain("a", 1.0), ServeOptions::default()).unwrap();
    let twice = builder.serve_reloadable(makers.plain("a", 1.0), ServeOptions::default()).map(drop);
    assert_eq!(message(twice), "block name `a` is given twice");
    let runtime = builder.start().unwrap();
    let handle = runtime.handle();
    handle.serve_reloadable(makers.plain("b", 1.0), ServeOptions::default()).unwrap();
    let large = handle.serve_reloadable(makers.plain("c", 1.0).bytes(21), ServeOptions::default()).map(drop);
    assert!(matches!(large, Err(StartError::OverBudget { bytes: 21, budget: 20, .. })));
    let large = handle.replace_reloadable("b", makers.plain("b", 1.0).bytes(11));
    assert!(matches!(large, Err(StartError::OverBudget { bytes: 11, budget: 20, .. })));
    let plain = handle.replace("b", rows_block(&device, "b", Ok));
    assert_eq!(message(plain), "block `b` may leave the device, so only `replace_reloadable` can replace it");
    handle.replace_reloadable("b", makers.plain("b", 1.0).bytes(7)).unwrap();
    assert_eq!(budget(handle), (17, 2, 0));
    drain(runtime);

    // Without a budget blocks stay, and nothing is asked of their size.
    let (mut builder, _) = new_builder(S::device(), 1);
    let served = builder.serve_reloadable(makers.plain("stays", 2.0).bytes(0), ServeOptions::default());
    let late = builder.budget(1).start().map(drop);
    assert!(message(late).contains("budget is set after a block was served"));
    drop(served.unwrap());
    let (mut builder, _) = new_builder(S::device(), 1);
    let served = builder.serve_reloadable(makers.plain("stays", 2.0).bytes(0), ServeOptions::default());
    let runtime = builder.start().unwrap();
    assert_eq!(runtime.handle().budget(), None);
    runtime.handle().replace_reloadable("stays", makers.plain("other", 3.0)).unwrap();
    assert_eq!(values_of(&*device, submit(&*device, &served.unwrap().forward, 1.0)), [3.0]);
    drain(runtime);
}

/// A warm-up comes before a block's first task, wherever the block is when it is served.
pub fn a_block_that_is_off_warms_up_when_it_comes<S: Subject>() {
    let (tell, told) = channel();
    let (builder, _) = new_builder(S::device(), 1);
    let mut builder = builder.budget(10);
    let device = Arc::clone(builder.device());
    let block = |name: &'static str| {
        let (device, tell) = (Arc::clone(&device), Mutex::new(tell.clone()));
        let make = move || {
            let tell = tell.lock().clone();
            Ok(rows_block(&device, name, move |rows| {
                tell.send((name, rows.len())).ok();
                Ok(rows)
            }))
        };
        Reload::new(make).bytes(10)
    };
    let options = || ServeOptions::default().warm_up([2, 3]);
    builder.serve_reloadable(block("on"), options()).unwrap();
    let off = builder.serve_reloadable(block("off"), options()).unwrap();
    let runtime = builder.start().unwrap();
    let late = runtime.handle().serve_reloadable(block("late"), options()).unwrap();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [("on", 2), ("on", 3)]);
    for (name, served) in [("off", &off), ("late", &late), ("off", &off)] {
        answer(submit(&*device, &served.forward, 1.0)).unwrap();
        let ran: Vec<_> = told.try_iter().collect();
        assert_eq!(ran.last(), Some(&(name, 1)));
        assert!(ran.len() == 1 || ran[..2] == [(name, 2), (name, 3)], "{ran:?}");
    }
    drain(runtime);
}

/// Many callers of many blocks, some of which come and go altogether: nobody is lost, whatever the end.
pub fn nothing_is_lost_among_blocks_that_come_and_go<S: Subject>() {
    const BLOCKS: usize = 6;
    const CALLS: usize = 40;
    for how in [Shutdown::Drain, Shutdown::Abort] {
        let stats = Stats::new();
        let (builder, clock) = new_builder(S::device(), 1);
        let mut builder = builder.observer(stats.observer()).budget(25);
        let device = Arc::clone(builder.device());
        let makers = Makers::new(&device);
        let served: Vec<_> = (0..BLOCKS)
            .map(|at| {
                let options = ServeOptions::forward(PoolOptions::default().max_rows(4));
                builder
                    .serve_reloadable(makers.plain(&format!("{at}"), (at + 1) as f32), options)
                    .unwrap()
                    .forward
            })
            .collect();
        let runtime = builder.start().unwrap();
        let callers: Vec<_> = (0..4)
            .map(|caller| {
                let (served, device) = (served.clone(), Arc::clone(&device));
                spawn(move || {
                    let mut open = Vec::new();
                    for call in 0..CALLS {
                        let at = (call * (caller + 1) + caller) % BLOCKS;
                        let request = Request::new(columns(&*device, &[1.0]))
                            .priority(Priority(i32::try_from(call % 3).unwrap()));
                        open.push((at, served[at].submit(request).unwrap()));
                        if call % 5 == 0 {
                            let (at, ticket) = open.remove(0);
                            assert_eq!(values_of(&*device, ticket), [(at + 1) as f32]);
                        }
                    }
                    open
                })
            })
            .collect();
        let guest = runtime.handle().clone();
        for _ in 0..10 {
            let served = guest.serve_reloadable(makers.plain("guest", 9.0), ServeOptions::default()).unwrap();
            let tickets = [1.0, 2.0].map(|value| submit(&*device, &served.forward, value));
            guest.remove("guest", Shutdown::Drain, LIMIT).unwrap();
            all_succeed(tickets);
        }
        let open: Vec<_> = callers.iter().flat_map(receive).collect();
        runtime.shutdown(how, LIMIT).unwrap();
        drop(runtime);
        for (at, ticket) in open {
            match answer(ticket) {
                Ok(outputs) => {
                    assert_eq!(crate::kit::Columns::read(&*device, &outputs[0]), [(at + 1) as f32]);
                }
                Err(error) => {
                    assert!(how == Shutdown::Abort && matches!(error, TaskError::ShutDown), "{error}");
                }
            }
        }
        let snapshot = stats.snapshot_at(clock.now());
        assert_reconciled(&snapshot.total);
        assert_eq!(snapshot.total.submitted, 4 * CALLS as u64 + 20);
        assert_eq!(makers.alive.0.load(Ordering::SeqCst), 0);
    }
}
