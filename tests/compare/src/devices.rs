//! One processor as one device of all of its threads, and as devices of one thread each behind one pool.

use crate::Result;
use crate::args::Args;
use crate::contest::Contest;
use crate::drive::{Load, bare, bare_together, blocking};
use crate::processor::engines::{Engine, for_each_backend};
use crate::processor::{Shape, work};
use crate::report::Results;
use crate::systems::skep::Skep;

pub(crate) fn run(args: &Args, results: &mut Results) -> Result<()> {
    let mut shapes = vec![("ffn 1024-4096-1024, batches of 64", Shape::ffn(64, 1024))];
    match &args.minilm {
        Some(folder) => shapes.extend([
            ("MiniLM, 16 tokens, batches of 32", Shape::minilm(folder, 32, 16)),
            ("MiniLM, 64 tokens, batches of 8", Shape::minilm(folder, 8, 64)),
        ]),
        None => results.skip("MiniLM on several devices", "the model is not on this machine"),
    }
    for (name, shape) in shapes {
        for_each_backend!(contest(args, results, name, &shape));
    }
    Ok(())
}

fn contest<E: Engine>(args: &Args, results: &mut Results, name: &str, shape: &Shape) -> Result<()> {
    let load = Load { outstanding: 8 * shape.rows, pools: 1 };
    let title = format!("{name}, {}", E::NAME);
    let mut contest = Contest::new(&title, load.outstanding);
    for (system, devices) in [
        ("one device, one thread", vec![E::device(1)?]),
        ("one device, two threads", vec![E::device(2)?]),
        ("two devices, one thread each", vec![E::device(1)?, E::device(1)?]),
        ("two devices, one thread each on its core", vec![E::device_on(0)?, E::device_on(1)?]),
    ] {
        let work = work::<E>(shape, 1)?;
        contest.enter(system, blocking(Skep::on(&work, devices, shape.rows)?, &work, load));
    }
    let (one, other) = (work::<E>(shape, 1)?, work::<E>(shape, 1)?);
    contest.enter("bare call, one thread", bare(&one, shape.rows, 1)?);
    // What the cores give together, without any runtime: they may share more than memory.
    contest.enter("two bare calls, one thread each", bare_together(&[&one, &other], shape.rows, 1)?);
    contest.run(args, args.long(), results)
}
