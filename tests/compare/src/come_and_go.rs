//! A pool under full load, alone and beside blocks that come, are used, and go again.

use crate::Result;
use crate::args::Args;
use crate::contest::Contest;
use crate::drive::{Load, Round, blocking};
use crate::machine::{collect, resident};
use crate::processor::engines::{Engine, for_each_backend};
use crate::processor::{Shape, work};
use crate::report::Results;
use crate::row::Sample;
use crate::systems::skep::Skep;
use crate::work::Counted;
use skep_pool::{PoolOptions, ServeMore, ServeOptions};
use skep_runtime_core::{Chain, Device, Handle, HostTensor, Shutdown, TensorOps};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Over all rounds that count, and the one that does not.
const CYCLES: u32 = 1_000;
/// 10 MB.
const GUEST: &str = "input=512, hidden=2438, output=512, seed=11";
const TASKS: usize = 4;

pub(crate) fn run(args: &Args, results: &mut Results) -> Result<()> {
    for_each_backend!(contest(args, results));
    Ok(())
}

fn contest<E: Engine>(args: &Args, results: &mut Results) -> Result<()> {
    let shape = Shape::ffn(64, 1024);
    let load = Load { outstanding: 4 * shape.rows, pools: 1 };
    let workload = format!("ffn 1024-4096-1024, batches of 64, one thread, {}", E::NAME);
    let work = work::<E>(&shape, 1)?;
    let mut contest = Contest::new(&workload, load.outstanding);
    contest.enter("alone", blocking(Skep::with_rows(&work, shape.rows)?, &work, load));
    let system = Skep::with_rows(&work, shape.rows)?;
    let handle = system.handle().ok_or("the runtime runs")?;
    let told = Told::default();
    let each = CYCLES.div_ceil(args.rounds);
    let round = blocking(system, &work, load);
    let beside_guests = beside(move || cycle::<E>(&handle), round, each, Rc::clone(&told));
    contest.enter("beside blocks of 10 MB that come and go", beside_guests);
    // What the processors take from the pool whoever serves the blocks: they, and their memory, are shared.
    let (round, device) = (blocking(Skep::with_rows(&work, shape.rows)?, &work, load), E::device(1)?);
    let beside_work = beside(move || cycle_outside::<E>(&device), round, each, Told::default());
    contest.enter("beside such blocks, made, called and freed outside of the runtime", beside_work);
    contest.run(args, args.long(), results)?;
    let so_far = told.borrow();
    let memory = so_far.memory.iter().map(|bytes| format!("{:.0}", *bytes as f64 / 1e6));
    results.note(format!(
        "{workload}: {} cycles of adding, using and removing a block of 10 MB, {:.1?} each; no task lost, every answer \
         right; MB in memory after each {each} of them: {}.",
        so_far.cycles,
        so_far.took / so_far.cycles.max(1),
        memory.collect::<Vec<_>>().join(", "),
    ));
    Ok(())
}

/// What was seen so far.
#[derive(Debug, Default)]
struct SoFar {
    cycles: u32,
    took: Duration,
    /// The bytes of this process in memory after each round of cycles.
    memory: Vec<u64>,
}

type Told = Rc<RefCell<SoFar>>;

/// Rounds of callers beside a guest, as long as so many cycles take.
fn beside<'a>(
    cycle: impl Fn() -> std::result::Result<(), String> + Sync + 'a,
    mut round: Round<'a>,
    cycles: u32,
    told: Told,
) -> Round<'a> {
    Box::new(move |time| {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (cycle, is_over) = (&cycle, &is_over);
            let guest = scope.spawn(move || {
                let begun = Instant::now();
                let done = (0..cycles).try_for_each(|_| cycle());
                is_over.store(true, Ordering::SeqCst);
                done.map(|()| begun.elapsed())
            });
            let mut all = None::<Sample>;
            while !is_over.load(Ordering::SeqCst) {
                let sample = round(time)?;
                all = Some(match all {
                    Some(all) => all.and(sample),
                    None => sample,
                });
            }
            let took = guest.join().map_err(|_| "the guest panicked")??;
            let mut so_far = told.borrow_mut();
            so_far.cycles += cycles;
            so_far.took += took;
            collect();
            so_far.memory.push(resident());
            all.ok_or_else(|| "the cycles were over before the round began".into())
        })
    })
}

/// One block is made, called and freed by this thread alone.
fn cycle_outside<E: Engine>(device: &E::Device) -> std::result::Result<(), String> {
    let mut block = E::block("ffn", "guest", GUEST).map_err(|error| error.to_string())?;
    block.load(device).map_err(|error| error.to_string())?;
    for _ in 0..TASKS {
        let host = HostTensor::from_f32(&[1, 512], &[1.0; 512]).map_err(|error| error.to_string())?;
        let task = vec![device.from_host(&host).map_err(|error| error.to_string())?];
        block.forward(&task).map_err(|error| error.to_string())?;
    }
    drop(block);
    device.trim_memory();
    Ok(())
}

/// One block comes, is used, and goes.
fn cycle<E: Engine>(handle: &Handle<E::Device>) -> std::result::Result<(), String> {
    let block = E::block("ffn", "guest", GUEST).map_err(|error| error.to_string())?;
    let options = ServeOptions::forward(PoolOptions::default().max_rows(64));
    let served =
        handle.serve(Counted::uncounted(block), options).map_err(|error| Chain(&error).to_string())?;
    let device = handle.device();
    let mut tickets = Vec::new();
    for _ in 0..TASKS {
        let host = HostTensor::from_f32(&[1, 512], &[1.0; 512]).map_err(|error| error.to_string())?;
        let task = vec![device.from_host(&host).map_err(|error| error.to_string())?];
        tickets.push(served.forward.submit(task).map_err(|refused| refused.error.to_string())?);
    }
    handle
        .remove("guest", Shutdown::Drain, Duration::from_mins(1))
        .map_err(|error| Chain(&error).to_string())?;
    let mut first = None::<Vec<f32>>;
    for ticket in tickets {
        let outputs = ticket.wait().map_err(|error| Chain(&error).to_string())?;
        let got = device.to_host(&outputs[0]).map_err(|error| error.to_string())?;
        let got = got.to_f32().ok_or("an output is f32")?;
        let expected = first.get_or_insert_with(|| got.clone());
        let apart = got.iter().zip(&*expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        if got.is_empty() || apart > 1e-3 || !got.iter().all(|v| v.is_finite()) {
            return Err(format!("a guest gave what is not its own: {apart} apart"));
        }
    }
    let counts = served.forward.counts();
    if counts.submitted != TASKS as u64 || counts.waiting > 0 {
        return Err(format!("the sums of a guest do not agree: {counts:?}"));
    }
    Ok(())
}
