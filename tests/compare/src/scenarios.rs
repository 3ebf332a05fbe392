//! Who is compared at what.

use crate::Result;
use crate::args::Args;
use crate::backend;
use crate::budget;
use crate::classes;
use crate::come_and_go;
use crate::contest::Contest;
use crate::devices;
use crate::drive::{CALLERS, Load, awaited, bare, blocking};
use crate::loss;
use crate::null;
use crate::order;
use crate::peer;
use crate::processor;
use crate::report::Results;
use crate::systems::amate::Amate;
use crate::systems::batch_aint_one::BatchAintOne;
use crate::systems::floor::Floor;
use crate::systems::skep::{Observed, Skep};
use crate::systems::{MAX_ROWS, batched_fn};
use crate::texts::{self, Rows};
use crate::work::Work;
use metrics_exporter_prometheus::PrometheusBuilder;
use skep_runtime_core::{Device, PadTo};

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) run: fn(&Args, &mut Results) -> Result<()>,
}

/// Run only where they are asked for by name: they take all backends, which the others do not.
pub(crate) const BY_NAME: [&str; 5] = ["processor", "devices", "budget", "come-and-go", "loss"];

pub(crate) fn all() -> [Scenario; 19] {
    let scenario = |name, what, run| Scenario { name, what, run };
    [
        scenario("null", "a block that does nothing: what the systems cost", null),
        scenario("stats", "the null block with and without observers", stats),
        scenario("idle", "one busy pool beside none and beside 9,999 idle ones", idle),
        scenario("ready", "one-row batches of few and of 10,000 ready pools", ready),
        scenario("ffn", "ffn 1024-4096-1024 behind 1 and 16 pools", ffn),
        scenario("transformer", "an encoder layer of MiniLM's size", transformer),
        scenario("minilm", "all-MiniLM-L6-v2", minilm),
        scenario(BY_NAME[0], "every backend on the processor, beside Python's libraries", processor::run),
        scenario(BY_NAME[1], "a processor as one device of two threads, or two of one", devices::run),
        scenario(BY_NAME[2], "200 blocks of which 50 have room, by a Zipf law", budget::run),
        scenario(BY_NAME[3], "a loaded pool beside blocks that come and go", come_and_go::run),
        scenario(BY_NAME[4], "one of two devices hangs, and one dies", loss::run),
        scenario(
            "short-beside-long",
            "short texts, and then long ones beside them",
            order::short_beside_long,
        ),
        scenario("closed-loop", "callers who come back as soon as they are answered", order::closed_loop),
        scenario("pools", "few tasks for each of many blocks", order::pools),
        scenario("riders", "an urgent task before a full queue", classes::riders),
        scenario("aging", "a background task behind urgent ones without end", classes::aging),
        scenario("texts", "all-MiniLM-L6-v2 from texts, tokenization included", texts),
        scenario("mixed-texts", "the same of texts of all lengths, padded or laid end to end", mixed_texts),
    ]
}

pub(crate) fn tokio() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(CALLERS).build()?)
}

fn null(args: &Args, results: &mut Results) -> Result<()> {
    let work = null::work()?;
    for outstanding in [1, 64, 512] {
        let load = Load { outstanding, pools: 1 };
        let runtime = tokio()?;
        let mut contest = Contest::new("null", outstanding);
        contest.enter("floor", blocking(Floor::start(&work, 1)?, &work, load));
        contest.enter("skep", blocking(Skep::start(&work, 1, Observed::Stats)?, &work, load));
        contest.enter("amate", blocking(Amate::start(&work, 1)?, &work, load));
        contest.enter("floor, awaited", awaited(&runtime, Floor::start(&work, 1)?, &work, load));
        contest
            .enter("skep, awaited", awaited(&runtime, Skep::start(&work, 1, Observed::Stats)?, &work, load));
        let peer = runtime.block_on(async { BatchAintOne::start(&work, 1) })?;
        contest.enter("batch-aint-one, awaited", awaited(&runtime, peer, &work, load));
        contest.enter("batched-fn, awaited", awaited(&runtime, batched_fn::NullFn, &work, load));
        contest.enter("bare call", bare(&work, outstanding.min(MAX_ROWS), 1)?);
        contest.run(args, args.short(), results)?;
    }
    with_hivemind(args, results, "null", &work, 1)
}

fn stats(args: &Args, results: &mut Results) -> Result<()> {
    let work = null::work()?;
    let recorder =
        PrometheusBuilder::new().set_buckets(&[1e-6, 1e-5, 1e-4, 1e-3, 1e-2])?.install_recorder()?;
    for outstanding in [1, 64] {
        let load = Load { outstanding, pools: 1 };
        let mut contest = Contest::new("null, observed or not", outstanding);
        for (name, observed) in [
            ("skep, no observer", Observed::No),
            ("skep, stats", Observed::Stats),
            ("skep, stats and metrics", Observed::StatsAndMetrics),
        ] {
            contest.enter(name, blocking(Skep::start(&work, 1, observed)?, &work, load));
        }
        contest.run(args, args.short(), results)?;
        recorder.run_upkeep();
    }
    Ok(())
}

fn idle(args: &Args, results: &mut Results) -> Result<()> {
    let work = null::work()?;
    for outstanding in [1, 64] {
        let load = Load { outstanding, pools: 1 };
        let mut contest = Contest::new("null, idle pools", outstanding);
        contest.enter("skep, 1 pool", blocking(Skep::start(&work, 1, Observed::Stats)?, &work, load));
        contest
            .enter("skep, 10,000 pools", blocking(Skep::start(&work, 10_000, Observed::Stats)?, &work, load));
        contest.run(args, args.short(), results)?;
    }
    Ok(())
}

fn ready(args: &Args, results: &mut Results) -> Result<()> {
    let work = null::work()?;
    let mut contest = Contest::new("null, one task in each pool", 10_000);
    for pools in [16, 10_000] {
        let load = Load { outstanding: pools, pools };
        let system = Skep::start(&work, pools, Observed::No)?;
        contest.enter_with(&format!("skep, {pools} ready pools"), pools, blocking(system, &work, load));
    }
    contest.run(args, args.short(), results)
}

const FFN_OUTSTANDING: usize = 256;

fn ffn(args: &Args, results: &mut Results) -> Result<()> {
    let work = backend::ffn()?;
    for pools in [1, 16] {
        let workload = format!("ffn, {}, {pools} pool{}", backend::NAME, if pools == 1 { "" } else { "s" });
        let load = Load { outstanding: FFN_OUTSTANDING, pools };
        let runtime = tokio()?;
        let mut contest = Contest::new(&workload, FFN_OUTSTANDING);
        contest.enter("bare call, 64 rows", bare(&work, MAX_ROWS, 1)?);
        contest.enter("skep", blocking(Skep::start(&work, pools, Observed::Stats)?, &work, load));
        contest.enter("floor", blocking(Floor::start(&work, pools)?, &work, load));
        contest.enter("amate", blocking(Amate::start(&work, pools)?, &work, load));
        let peer = runtime.block_on(async { BatchAintOne::start(&work, pools) })?;
        contest.enter("batch-aint-one, awaited", awaited(&runtime, peer, &work, load));
        #[cfg(all(feature = "candle", not(feature = "tch")))]
        if pools == 1 {
            contest.enter("batched-fn, awaited", awaited(&runtime, batched_fn::FfnFn, &work, load));
        }
        if pools > 1 {
            // Each block has its share of the tasks that are outstanding, and no more.
            let rows = FFN_OUTSTANDING / pools;
            contest.enter(&format!("bare call, {rows} rows, in turn"), bare(&work, rows, pools)?);
        }
        contest.enter("bare call, 1 row", bare(&work, 1, 1)?);
        contest.run(args, args.long(), results)?;
        with_hivemind(args, results, &workload, &work, pools)?;
    }
    Ok(())
}

/// Skep beside hivemind's Runtime. Apart from the others, because a round of it takes seconds.
fn with_hivemind<D: Device + Clone>(
    args: &Args,
    results: &mut Results,
    workload: &str,
    work: &Work<D>,
    pools: usize,
) -> Result<()> {
    let Some(python) = &args.python else {
        results.skip(&format!("hivemind, {workload}"), &args.no_python);
        return Ok(());
    };
    let load = Load { outstanding: 256, pools };
    let mut contest = Contest::new(workload, load.outstanding);
    contest.enter("hivemind", peer::hivemind(python, workload, load)?.round());
    contest.enter("skep", blocking(Skep::start(work, pools, Observed::Stats)?, work, load));
    contest.run(args, args.long(), results)
}

/// A model at its limit: as many tasks as four batches hold.
fn model(
    args: &Args,
    results: &mut Results,
    name: &str,
    work: &Work<backend::BackendDevice>,
    rows: usize,
) -> Result<()> {
    let workload = format!("{name}, {}, batches of {rows}", backend::NAME);
    let load = Load { outstanding: 4 * rows, pools: 1 };
    let mut contest = Contest::new(&workload, load.outstanding);
    contest.enter(&format!("bare call, {rows} rows"), bare(work, rows, 1)?);
    contest.enter("skep", blocking(Skep::with_rows(work, rows)?, work, load));
    contest.enter("bare call, 1 row", bare(work, 1, 1)?);
    contest.run(args, args.long(), results)
}

/// Tokens of one batch of the models below, in all.
const TOKENS: usize = 512;

fn transformer(args: &Args, results: &mut Results) -> Result<()> {
    let work = backend::transformer(64)?;
    model(args, results, "transformer layer, 64 positions", &work, TOKENS / 64)
}

fn minilm(args: &Args, results: &mut Results) -> Result<()> {
    let Some(folder) = &args.minilm else {
        results.skip("minilm", "the model is not on this machine");
        return Ok(());
    };
    for tokens in [16, 64, 128] {
        let work = backend::minilm(folder, tokens)?;
        model(args, results, &format!("MiniLM, {tokens} tokens"), &work, TOKENS / tokens)?;
    }
    Ok(())
}

/// Texts of 8 to 128 tokens beside each other: padded by several rules, and laid end to end.
fn mixed_texts(args: &Args, results: &mut Results) -> Result<()> {
    let Some(folder) = &args.minilm else {
        results.skip("mixed-texts", "the model is not on this machine");
        return Ok(());
    };
    let (runtime, texts) = (tokio()?, texts::of_lengths(folder)?);
    let workload = format!("MiniLM from texts of 8 to 128 tokens, {}, batches of 1,024 tokens", backend::NAME);
    for outstanding in [16, 64] {
        let load = Load { outstanding, pools: 1 };
        let mut contest = Contest::new(&workload, outstanding);
        let mut enter = |name: &str, rows| -> Result<()> {
            let models = texts::Models::start_with(folder, MAX_ROWS, Some(TOKENS * 2), rows)?;
            contest.enter(name, texts::rounds(&runtime, models, &texts, load));
            Ok(())
        };
        enter("padded to multiples of 2", Rows::Padded(PadTo::Multiple(2)))?;
        enter("padded to multiples of 32", Rows::Padded(PadTo::Multiple(32)))?;
        enter("padded to the longest", Rows::Padded(PadTo::Longest))?;
        #[cfg(all(feature = "candle", not(feature = "tch")))]
        enter("ragged", Rows::Ragged)?;
        contest.run(args, args.long(), results)?;
    }
    Ok(())
}

/// Sentences to vectors: with `models`, as the demo did it before there was such a crate, and on the candle backend of
/// text-embeddings-inference behind a bare queue.
fn texts(args: &Args, results: &mut Results) -> Result<()> {
    let Some(folder) = &args.minilm else {
        results.skip("texts", "the model is not on this machine");
        return Ok(());
    };
    for tokens in [16, 64, 128] {
        let (rows, runtime) = (TOKENS / tokens, tokio()?);
        let workload = format!("MiniLM from texts of {tokens} tokens, {}, batches of {rows}", backend::NAME);
        let load = Load { outstanding: 4 * rows, pools: 1 };
        let texts = texts::of_length(folder, tokens)?;
        let mut contest = Contest::new(&workload, load.outstanding);
        contest.enter(
            "as the demo was",
            texts::rounds(&runtime, texts::Before::start(folder, rows)?, &texts, load),
        );
        contest.enter("models", texts::rounds(&runtime, texts::Models::start(folder, rows)?, &texts, load));
        match &args.tei {
            Some(program) => {
                let peer = texts::inference(program, folder, &texts, load.outstanding, rows)?;
                contest.enter("text-embeddings-inference's candle", peer.round());
            }
            None => {
                results.skip(&format!("text-embeddings-inference, {workload}"), "its program was not given");
            }
        }
        contest.run(args, args.long(), results)?;
    }
    Ok(())
}
