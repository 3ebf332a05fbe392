//! What processors give: every backend, bare and through the runtime, beside `PyTorch` and ONNX Runtime from Python.

pub(crate) mod alone;
pub(crate) mod engines;
mod python;

use crate::Result;
use crate::args::Args;
use crate::backend::host_tensor;
use crate::contest::Contest;
use crate::drive::Load;
use crate::report::Results;
use crate::work::Work;
use alone::Way;
use engines::Engine;
use python::{Python, System};
use serde::{Deserialize, Serialize};
use skep_runtime_core::TensorOps;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

/// One kind of batch.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Shape {
    name: String,
    kind: String,
    config: String,
    /// What the numbers are kept in, where it is not f32.
    precision: String,
    pub(crate) rows: usize,
    /// Tokens of each row, 0 where there are none.
    tokens: usize,
    /// Multiplications and additions of a row, those of attention included.
    flops: f64,
}

impl Shape {
    pub(crate) fn minilm(folder: &Path, rows: usize, tokens: usize) -> Self {
        let (layers, hidden, wide) = (6.0, 384.0, 1536.0);
        let count = tokens as f64;
        let products = 4.0 * hidden * hidden + 2.0 * hidden * wide;
        Self {
            name: "MiniLM".to_owned(),
            kind: "text_model".to_owned(),
            config: format!("directory={}", folder.display()),
            precision: String::new(),
            rows,
            tokens,
            flops: 2.0 * layers * count * (products + 2.0 * count * hidden),
        }
    }

    pub(crate) fn ffn(rows: usize, size: usize) -> Self {
        let wide = 4 * size;
        Self {
            name: "ffn".to_owned(),
            kind: "ffn".to_owned(),
            config: format!("input={size}, hidden={wide}, output={size}, seed=7"),
            precision: String::new(),
            rows,
            tokens: 0,
            flops: 4.0 * (size * wide) as f64,
        }
    }

    /// The text model of such numbers.
    #[cfg(any(feature = "candle", feature = "tch"))]
    fn in_precision(&self, precision: &str) -> Self {
        let config = format!("{}, precision={precision}", self.config);
        Self { precision: precision.to_owned(), config, ..self.clone() }
    }

    /// The graph that Python wrote of it with weights in int8.
    #[cfg(feature = "ort")]
    fn int8(&self, out: &Path) -> Self {
        let (name, max) = match self.tokens {
            0 => ("ffn", ""),
            _ => ("minilm", ", max=tokens=512"),
        };
        let config = format!("file={}{max}", out.join(format!("{name}-int8.onnx")).display());
        Self { kind: "onnx".to_owned(), precision: "int8".to_owned(), config, ..self.clone() }
    }

    fn system(&self, backend: &str) -> String {
        format!("{backend} {}", self.precision).trim_end().to_owned()
    }

    fn title(&self, threads: usize) -> String {
        let (name, rows) = (&self.name, self.rows);
        let rows =
            if self.tokens > 0 { format!("{rows} × {}", self.tokens) } else { format!("{rows} rows") };
        format!("{name}, {rows}, {threads} thread{}", if threads == 1 { "" } else { "s" })
    }
}

/// Does something for each backend that this program was built with, and each precision that it has of this shape.
macro_rules! for_each_engine {
    ($shape:expr, $graphs:expr, |$Engine:ident, $of:ident| $body:block) => {{
        let (shape, graphs): (&Shape, Option<&Path>) = ($shape, $graphs);
        #[cfg(feature = "ort")]
        {
            type $Engine = engines::Ort;
            for $of in [Some(shape.clone()), graphs.map(|out| shape.int8(out))].into_iter().flatten() {
                $body
            }
        }
        #[cfg(feature = "tch")]
        {
            type $Engine = engines::Tch;
            for $of in precisions(shape) {
                $body
            }
        }
        #[cfg(feature = "candle")]
        {
            type $Engine = engines::Candle;
            for $of in precisions(shape) {
                $body
            }
        }
        let _ = graphs;
    }};
}

/// f32, and bf16 of text models where the processor has instructions for it.
#[cfg(any(feature = "candle", feature = "tch"))]
fn precisions(shape: &Shape) -> Vec<Shape> {
    let halves: &[&str] = if shape.tokens > 0 { &["bf16", "f16"] } else { &[] };
    std::iter::once(shape.clone()).chain(halves.iter().map(|half| shape.in_precision(half))).collect()
}

pub(crate) fn run(args: &Args, results: &mut Results) -> Result<()> {
    let python = if let Some(python) = &args.python {
        Some(Python::prepare(python, args.minilm.as_deref(), &args.out)?)
    } else {
        results.skip("PyTorch and ONNX Runtime from Python", &args.no_python);
        None
    };
    for threads in [1, 2] {
        let mut shapes = vec![Shape::ffn(64, 1024), Shape::ffn(1, 1024)];
        match &args.minilm {
            Some(folder) => {
                let minilm = [(1, 16), (32, 16), (8, 64), (4, 128)];
                shapes.extend(minilm.map(|(rows, tokens)| Shape::minilm(folder, rows, tokens)));
            }
            None => results.skip("MiniLM", "the model is not on this machine"),
        }
        let most = most(threads)?;
        results.note(format!(
            "{threads} thread{} of this machine: {:.0} GFLOP/s, the fastest backend's rate at a product of 512 × 2,048 with \
             2,048 × 8,192.",
            if threads == 1 { "" } else { "s" },
            most / 1e9
        ));
        for shape in shapes {
            contest(args, results, &shape, threads, python.as_ref(), most)?;
        }
        // Python's callers compute in threads of their own, on all processors whatever each call may use.
        if let Some(folder) = &args.minilm
            && threads > 1
        {
            mixed(args, results, folder, threads, python.as_ref())?;
        }
    }
    Ok(())
}

/// What the backends that this program was built with have in common.
pub(crate) fn work<E: Engine>(shape: &Shape, threads: usize) -> Result<Work<E::Device>> {
    let device = E::device(threads)?;
    let (kind, config) = (shape.kind.clone(), shape.config.clone());
    let block = move |name: &str| E::block(&kind, name, &config);
    let schema = block("schema")?.info().inputs;
    let hosts =
        schema.tensors().iter().map(|spec| host_tensor(spec, shape.tokens)).collect::<Result<Vec<_>>>()?;
    let of_tasks = device.clone();
    let tasks = move || {
        let (device, hosts) = (of_tasks.clone(), hosts.clone());
        Box::new(move || hosts.iter().map(|host| device.from_host(host).expect("a small tensor")).collect())
            as Box<_>
    };
    Ok(Work::new(device, block, tasks))
}

fn enter<E: Engine>(contest: &mut Contest<'_>, shape: &Shape, threads: usize) -> Result<()> {
    let name = shape.system(E::NAME);
    for (way, told) in [(Way::Bare, "bare"), (Way::Skep, "skep")] {
        contest.enter(&format!("{name}, {told}"), alone::start::<E>(way, shape, threads)?);
    }
    Ok(())
}

fn contest(
    args: &Args,
    results: &mut Results,
    shape: &Shape,
    threads: usize,
    python: Option<&Python>,
    most: f64,
) -> Result<()> {
    let title = shape.title(threads);
    let mut contest = Contest::new(&title, shape.rows).with_limit(shape.flops / most);
    if let Some(python) = python {
        for system in System::ALL {
            contest
                .enter(system.name(), python.start(system, &shape.name, shape.rows, shape.tokens, threads)?);
        }
    }
    for_each_engine!(shape, python.map(|_| &*args.out), |Engine, shape| {
        // In halves candle saves memory, and takes many times as long; few processors gain by f16.
        if shape.precision == "f16" || (Engine::NAME == "candle" && !shape.precision.is_empty()) {
            continue;
        }
        if let Err(error) = enter::<Engine>(&mut contest, &shape, threads) {
            lacks(results, &shape, Engine::NAME, error)?;
        }
    });
    contest.run(args, args.long(), results)?;
    agreement(args, results, shape, threads, python.is_some())
}

/// Callers, each with one text of its own length at a time.
const MIXED: Load = Load { outstanding: 16, pools: 1 };

fn mixed(
    args: &Args,
    results: &mut Results,
    folder: &Path,
    threads: usize,
    python: Option<&Python>,
) -> Result<()> {
    let title = format!("MiniLM, 16 callers, 8 to 128 tokens, threads: {threads}");
    let mut contest = Contest::new(&title, MIXED.outstanding);
    if let Some(python) = python {
        let system = System::OnnxRuntime;
        contest.enter(system.name(), python.start(system, "mixed", MIXED.outstanding, 0, threads)?);
    }
    for_each_engine!(&Shape::minilm(folder, 1, 0), None, |Engine, shape| {
        let name = format!("{}, skep, a device for each thread", shape.system(Engine::NAME));
        contest.enter(&name, alone::start::<Engine>(Way::Mixed, &shape, threads)?);
    });
    contest.run(args, args.long(), results)
}

/// Texts of each caller's own lengths. Nothing pads them: those that have the same length by chance share a batch.
fn mixed_work<E: Engine>(shape: &Shape, device: E::Device) -> Result<Work<E::Device>> {
    let (kind, config) = (shape.kind.clone(), shape.config.clone());
    let block = move |name: &str| E::block(&kind, name, &config);
    let schema = block("schema")?.info().inputs;
    let (of_tasks, seeds) = (device.clone(), std::cell::Cell::new(0));
    let tasks = move || {
        let (device, schema) = (of_tasks.clone(), schema.clone());
        seeds.set(seeds.get() + 1);
        let mut lengths = lengths(seeds.get());
        Box::new(move || {
            let tokens = lengths.next().expect("lengths without end");
            let tensors = schema.tensors().iter().map(|spec| {
                let host = host_tensor(spec, tokens).expect("a spec of a text model");
                device.from_host(&host).expect("a small tensor")
            });
            tensors.collect()
        }) as Box<_>
    };
    Ok(Work::new(device, block, tasks))
}

/// Lengths of a caller's texts, 8 to 128 tokens: those that `processor.py` has.
fn lengths(seed: u64) -> impl Iterator<Item = usize> {
    let mut state = seed;
    std::iter::from_fn(move || {
        state = (state * 1_103_515_245 + 12_345) % (1 << 31);
        usize::try_from(8 + (state >> 8) % 121).ok()
    })
}

/// Not every processor has instructions for halves; the reason is in the report.
fn lacks(results: &mut Results, shape: &Shape, backend: &str, error: Box<dyn Error>) -> Result<()> {
    if !matches!(&*shape.precision, "bf16" | "f16") {
        return Err(error);
    }
    results.skip(&shape.system(backend), &error.to_string());
    Ok(())
}

/// How far the outputs of backends and precisions are apart.
fn agreement(args: &Args, results: &mut Results, shape: &Shape, threads: usize, python: bool) -> Result<()> {
    let mut outputs: Vec<(String, Vec<f32>)> = Vec::new();
    // The feed-forward graph that Python wrote has weights of its own.
    for_each_engine!(shape, (python && shape.tokens > 0).then_some(&*args.out), |Engine, shape| {
        match output::<Engine>(&shape, threads) {
            Ok(output) => outputs.push((shape.system(Engine::NAME), output)),
            Err(error) => lacks(results, &shape, Engine::NAME, error)?,
        }
    });
    let Some((first, reference)) = outputs.first() else { return Ok(()) };
    let apart =
        outputs[1..].iter().filter(|(_, output)| output.len() == reference.len()).map(|(name, output)| {
            let apart = reference.iter().zip(output).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            format!("{name} {apart:.1e}")
        });
    let apart: Vec<_> = apart.collect();
    results.note(format!(
        "{}: largest differences from {first}: {}.",
        shape.title(threads),
        apart.join(", ")
    ));
    Ok(())
}

/// The first output of one batch, on a thread of its own.
fn output<E: Engine>(shape: &Shape, threads: usize) -> Result<Vec<f32>> {
    let work = work::<E>(shape, threads)?;
    let (mut module, mut tasks, device) = (work.module()?, work.tasks(), work.device());
    let rows = shape.rows;
    std::thread::scope(|scope| {
        let run = scope.spawn(move || {
            module.bind().map_err(|error| error.to_string())?;
            let answers =
                module.run((0..rows).map(|_| tasks()).collect()).map_err(|error| error.to_string())?;
            let mut numbers = Vec::new();
            for output in answers.iter().flatten() {
                let host = device.to_host(output).map_err(|error| error.to_string())?;
                numbers.extend(host.to_f32().ok_or("an output is not f32")?);
            }
            Ok::<_, String>(numbers)
        });
        Ok(run.join().map_err(|_| "the block panicked")??)
    })
}

/// Operations per second of the fastest backend at large products.
fn most(threads: usize) -> Result<f64> {
    let shape = Shape::ffn(512, 2048);
    let mut most = 0f64;
    macro_rules! each {
        ($($feature:literal $engine:ident),*) => {
            $(#[cfg(feature = $feature)]
            {
                most = most.max(rate::<engines::$engine>(&shape, threads)?);
            })*
        };
    }
    each!("ort" Ort, "tch" Tch, "candle" Candle);
    Ok(most)
}

fn rate<E: Engine>(shape: &Shape, threads: usize) -> Result<f64> {
    let work = work::<E>(shape, threads)?;
    let (mut module, mut tasks) = (work.module()?, work.tasks());
    std::thread::scope(|scope| {
        let run = scope.spawn(move || {
            module.bind().map_err(|error| error.to_string())?;
            let mut best = f64::INFINITY;
            for _ in 0..5 {
                let batch = (0..shape.rows).map(|_| tasks()).collect();
                let begun = Instant::now();
                module.run(batch).map_err(|error| error.to_string())?;
                best = best.min(begun.elapsed().as_secs_f64());
            }
            Ok::<_, String>(shape.flops * shape.rows as f64 / best)
        });
        Ok(run.join().map_err(|_| "the block panicked")??)
    })
}
