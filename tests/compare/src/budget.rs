//! Many blocks on a device that has room for a quarter of them, asked for by a Zipf law.

use crate::Result;
use crate::args::Args;
use crate::drive::{Latencies, cpu_seconds};
use crate::machine::Resident;
use crate::processor::engines::{self, Engine};
use crate::report::Results;
use crate::row::{Row, Sample, micros};
use crate::work::Counted;
use skep_pool::{PoolOptions, Serve, ServeOptions, TaskPool};
use skep_runtime_core::{BoxError, Device, HostTensor, Reload, RuntimeBuilder, TensorOps};
use skep_stats::Stats;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const BLOCKS: usize = 200;
/// The memory of each.
const BYTES: u64 = 10_000_000;
const ROOM_FOR: usize = 50;
const REQUESTS: usize = 4_000;
const CALLERS: usize = 16;
/// The percent of the budget by which memory may go beyond it.
const BEYOND: u64 = 10;

pub(crate) fn run(_: &Args, results: &mut Results) -> Result<()> {
    for engine in ENGINES {
        let workload = format!("{BLOCKS} blocks of 10 MB, {engine}");
        let mut baseline = None;
        for (system, room) in [("room for all", BLOCKS), ("room for 50", ROOM_FOR)] {
            let (sample, note) = in_a_process(engine, room)?;
            if room < BLOCKS {
                results.note(format!("{workload}: {note}"));
            }
            let samples = [sample];
            let (name, of) = baseline.get_or_insert_with(|| (system, samples.clone()));
            results.push(Row::new((system, &workload, CALLERS), &samples, (name, &of[..])));
        }
    }
    Ok(())
}

/// The backends of this program whose blocks' memory is known.
const ENGINES: &[&str] = &[
    #[cfg(feature = "candle")]
    "candle",
    #[cfg(feature = "tch")]
    "tch",
];

/// Measures in a process of its own, so that the memory is that of this measurement.
fn in_a_process(engine: &str, room: usize) -> Result<(Sample, String)> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.arg(format!("--part={engine}/{room}")).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the measurement of {engine} ended with {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Does one measurement, and prints what came of it.
pub(crate) fn part(part: &str) -> Result<()> {
    let unknown = || {
        format!(
            "part is `{part}`, expected one of a backend of this program and a number of blocks, as `candle/50`"
        )
    };
    let (engine, room) = part.split_once('/').ok_or_else(unknown)?;
    let (room, trace) = (room.parse()?, trace());
    let measured = match engine {
        #[cfg(feature = "candle")]
        "candle" => measure::<engines::Candle>(&trace, room),
        #[cfg(feature = "tch")]
        "tch" => measure::<engines::Tch>(&trace, room),
        _ => Err(unknown().into()),
    };
    println!("{}", serde_json::to_string(&measured?)?);
    Ok(())
}

/// What each block gives for ones.
fn expected<E: Engine>() -> Result<Vec<Vec<f32>>> {
    let device = E::device(1)?;
    let ask = |at| {
        let mut block = block::<E>(at).map_err(|error| error.to_string())?;
        skep_runtime_core::Backend::load(&mut block, &device).map_err(|error| error.to_string())?;
        let input = device.gather(&ones(&device)?)?;
        let outputs = skep_runtime_core::Backend::forward(&mut block, &[input]);
        read(&device, &outputs.map_err(|error| error.to_string())?)
    };
    (0..BLOCKS).map(ask).collect()
}

fn ones<D: TensorOps>(device: &D) -> Result<Vec<D::Tensor>> {
    Ok(vec![device.from_host(&HostTensor::from_f32(&[1, 512], &[1.0; 512])?)?])
}

fn read<D: TensorOps>(device: &D, outputs: &[D::Tensor]) -> Result<Vec<f32>> {
    let output = outputs.first().ok_or("a block gives an output")?;
    Ok(device.to_host(output)?.to_f32().ok_or("an output is f32")?)
}

fn block<E: Engine>(at: usize) -> std::result::Result<Counted<E::Device>, BoxError> {
    // candle lays weights out anew for inference, and so has them twice.
    let hidden = if E::NAME == "candle" { 1_097 } else { 2_438 };
    let config = format!("input=512, hidden={hidden}, output=512, seed={at}");
    let block = E::block("ffn", &format!("block.{at}"), &config);
    Ok(Counted::uncounted(block.map_err(|error| error.to_string())?))
}

fn measure<E: Engine>(trace: &[usize], room: usize) -> Result<(Sample, String)> {
    let expected = expected::<E>()?;
    let stats = Stats::new();
    let budget = BYTES * room as u64;
    let mut memory = Resident::watch();
    let mut builder = RuntimeBuilder::new(E::device(1)?).observer(stats.observer()).budget(budget);
    let device = std::sync::Arc::clone(builder.device());
    let pools: Vec<TaskPool<_>> = (0..BLOCKS)
        .map(|at| {
            let reload = Reload::new(move || block::<E>(at)).bytes(BYTES);
            let options = ServeOptions::forward(PoolOptions::default().max_rows(64));
            Ok(builder.serve_reloadable(reload, options)?.forward)
        })
        .collect::<Result<_>>()?;
    let runtime = builder.start()?;
    let next = AtomicUsize::new(0);
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let call = || -> std::result::Result<Latencies, String> {
        let mut latencies = Latencies::new();
        loop {
            let Some(at) = trace.get(next.fetch_add(1, Ordering::Relaxed)) else { return Ok(latencies) };
            let task = ones(&*device).map_err(|error| error.to_string())?;
            let submitted = Instant::now();
            let ticket = pools[*at].submit(task).map_err(|refused| refused.error.to_string())?;
            let outputs = ticket.wait().map_err(|error| skep_runtime_core::Chain(&error).to_string())?;
            latencies.push(micros(submitted.elapsed()));
            let got = read(&*device, &outputs).map_err(|error| error.to_string())?;
            let is_right =
                got.iter().zip(&expected[*at]).all(|(got, of)| (got - of).abs() <= 1e-3 * of.abs().max(1.0));
            if !is_right {
                return Err(format!("block {at} gave what is not its own"));
            }
        }
    };
    let answers = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(call)).collect();
        let all =
            callers.into_iter().map(|caller| caller.join().map_err(|_| "a caller panicked".to_owned())?);
        all.collect::<std::result::Result<Vec<_>, _>>()
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let peak = memory.stop();
    let used = runtime.handle().budget().ok_or("the runtime has a budget")?;
    drop(runtime);
    let snapshot = stats.snapshot();
    let total = &snapshot.total;
    if total.succeeded != trace.len() as u64 || used.used > budget {
        return Err(format!("not everything was answered: {}", total.accounts()).into());
    }
    let reloads = snapshot.reloads.map_or(0, |reloads| reloads.times.count);
    let share = |count: usize| 100.0 * count as f64 / trace.len() as f64;
    let mega = |bytes: u64| bytes as f64 / 1e6;
    let most = budget + budget * BEYOND / 100;
    let note = format!(
        "{REQUESTS} requests of {CALLERS} callers by a Zipf law are all answered, and right; {reloads} reloads, {:.1} % of the requests \
         (mean {:.1?}), where a perfect cache (Belady's) needs {:.1} % and one that drops what was used least lately {:.1} %; memory grew by {:.0} MB \
         at most under a budget of {:.0} MB{}.",
        share(usize::try_from(reloads)?),
        snapshot.reloads.map_or_else(Default::default, |reloads| reloads.times.mean),
        share(perfect(trace, ROOM_FOR)),
        share(least_lately(trace, ROOM_FOR)),
        mega(peak),
        mega(budget),
        if peak <= most { "" } else { ", which is MORE than a tenth beyond" },
    );
    let latencies_us = answers.concat();
    let sample = Sample {
        tasks: total.succeeded,
        rows: total.rows,
        batches: total.batches,
        seconds,
        cpu_seconds: cpu_seconds() - cpu,
        latencies_us,
        device_busy: Some(snapshot.device_busy),
    };
    Ok((sample, note))
}

/// The blocks that are asked for, one after the other: the one of rank `r` with a weight of `1 / r`.
fn trace() -> Vec<usize> {
    let weights: Vec<f64> = (1..=BLOCKS).map(|rank| 1.0 / rank as f64).collect();
    let all: f64 = weights.iter().sum();
    let mut state = crate::backend::SEED;
    let mut draw = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    // Popular blocks stand anywhere.
    let mut places: Vec<usize> = (0..BLOCKS).collect();
    for at in (1..BLOCKS).rev() {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is below `at`")]
        places.swap(at, (draw() * (at + 1) as f64) as usize);
    }
    let pick = |mut left: f64| {
        weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        })
    };
    (0..REQUESTS).map(|_| places[pick(draw() * all).unwrap_or(BLOCKS - 1)]).collect()
}

/// Blocks that a cache has to fetch which knows what will be asked for, and drops what is wanted last (Belady 1966). The
/// first blocks are there.
fn perfect(trace: &[usize], room: usize) -> usize {
    let mut uses: HashMap<usize, VecDeque<usize>> = HashMap::new();
    for (at, block) in trace.iter().enumerate() {
        uses.entry(*block).or_default().push_back(at);
    }
    let next_use = |uses: &HashMap<usize, VecDeque<usize>>, block: usize| {
        uses.get(&block).and_then(|uses| uses.front().copied()).unwrap_or(usize::MAX)
    };
    let mut there: HashSet<usize> = (0..room).collect();
    let mut fetched = 0;
    for block in trace {
        if let Some(uses) = uses.get_mut(block) {
            uses.pop_front();
        }
        if there.contains(block) {
            continue;
        }
        fetched += 1;
        let last = there.iter().copied().max_by_key(|there| (next_use(&uses, *there), *there));
        if let Some(last) = last {
            there.remove(&last);
        }
        there.insert(*block);
    }
    fetched
}

/// The same of one that drops what was used least lately.
fn least_lately(trace: &[usize], room: usize) -> usize {
    let mut used: HashMap<usize, usize> = (0..room).map(|block| (block, block)).collect();
    let mut order: BTreeMap<usize, usize> = (0..room).map(|block| (block, block)).collect();
    let mut fetched = 0;
    for (time, block) in (room..).zip(trace) {
        if let Some(was) = used.insert(*block, time) {
            order.remove(&was);
        } else {
            fetched += 1;
            if let Some((_, oldest)) = order.pop_first() {
                used.remove(&oldest);
            }
        }
        order.insert(time, *block);
    }
    fetched
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_fetch_what_they_must() {
        // Of 2, with 0 and 1 there: the perfect one keeps 0.
        let trace = [0, 2, 0, 3, 0, 2];
        assert_eq!((perfect(&trace, 2), least_lately(&trace, 2)), (3, 3));
        let round = [0, 1, 2, 0, 1, 2];
        assert_eq!((perfect(&round, 2), least_lately(&round, 2)), (2, 4));
    }

    #[test]
    fn popular_blocks_are_asked_for_often() {
        let trace = trace();
        let mut counts = [0; BLOCKS];
        for block in &trace {
            counts[*block] += 1;
        }
        let most = counts.iter().max().unwrap();
        assert!((400..1000).contains(most), "{most}");
        assert!(perfect(&trace, ROOM_FOR) < least_lately(&trace, ROOM_FOR));
    }
}
