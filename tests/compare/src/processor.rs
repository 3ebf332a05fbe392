//! What processors give: every backend, bare and through the runtime, beside `PyTorch` and ONNX Runtime from Python.

mod engines;
mod python;

use crate::Result;
use crate::args::Args;
use crate::backend::host_tensor;
use crate::contest::Contest;
use crate::drive::{Load, bare, blocking};
use crate::report::Results;
use crate::systems::skep::Skep;
use crate::work::Work;
use engines::Engine;
use python::{Python, System};
use skep_runtime_core::TensorOps;
use std::path::Path;
use std::time::Instant;

/// One kind of batch.
#[derive(Clone, Debug)]
struct Shape {
    name: &'static str,
    kind: &'static str,
    config: String,
    rows: usize,
    /// Tokens of each row, 0 where there are none.
    tokens: usize,
    /// Multiplications and additions of a row, those of attention included.
    flops: f64,
}

impl Shape {
    fn minilm(folder: &Path, rows: usize, tokens: usize) -> Self {
        let (layers, hidden, wide) = (6.0, 384.0, 1536.0);
        let count = tokens as f64;
        let products = 4.0 * hidden * hidden + 2.0 * hidden * wide;
        Self {
            name: "MiniLM",
            kind: "text_model",
            config: format!("directory={}", folder.display()),
            rows,
            tokens,
            flops: 2.0 * layers * count * (products + 2.0 * count * hidden),
        }
    }

    fn ffn(rows: usize, size: usize) -> Self {
        let wide = 4 * size;
        Self {
            name: "ffn",
            kind: "ffn",
            config: format!("input={size}, hidden={wide}, output={size}, seed=7"),
            rows,
            tokens: 0,
            flops: 4.0 * (size * wide) as f64,
        }
    }

    fn title(&self, threads: usize) -> String {
        let (name, rows) = (self.name, self.rows);
        let rows = if self.tokens > 0 { format!("{rows} × {}", self.tokens) } else { format!("{rows} rows") };
        format!("{name}, {rows}, {threads} thread{}", if threads == 1 { "" } else { "s" })
    }
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
    }
    Ok(())
}

/// What the backends that this program was built with have in common.
fn work<E: Engine>(shape: &Shape, threads: usize) -> Result<Work<E::Device>> {
    let device = E::device(threads)?;
    let (kind, config) = (shape.kind, shape.config.clone());
    let block = move |name: &str| E::block(kind, name, &config);
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
    let work = work::<E>(shape, threads)?;
    contest.enter(&format!("{}, bare", E::NAME), bare(&work, shape.rows, 1)?);
    // A lone task is what a batch of one row is for.
    let outstanding = if shape.rows == 1 { 1 } else { 4 * shape.rows };
    let system = Skep::with_rows(&work, shape.rows)?;
    contest.enter(&format!("{}, skep", E::NAME), blocking(system, &work, Load { outstanding, pools: 1 }));
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
            contest.enter(system.name(), python.start(system, shape.name, shape.rows, shape.tokens, threads)?);
        }
    }
    macro_rules! enter_all {
        ($($feature:literal $engine:ident),*) => {
            $(#[cfg(feature = $feature)]
            enter::<engines::$engine>(&mut contest, shape, threads)?;)*
        };
    }
    enter_all!("ort" Ort, "tch" Tch, "candle" Candle);
    contest.run(args, args.long(), results)?;
    agreement(results, shape, threads)
}

/// How far the backends' outputs are apart.
fn agreement(results: &mut Results, shape: &Shape, threads: usize) -> Result<()> {
    let mut outputs: Vec<(&str, Vec<f32>)> = Vec::new();
    macro_rules! each {
        ($($feature:literal $engine:ident),*) => {
            $(#[cfg(feature = $feature)]
            outputs.push((engines::$engine::NAME, output::<engines::$engine>(shape, threads)?));)*
        };
    }
    each!("ort" Ort, "tch" Tch, "candle" Candle);
    let Some(((first, reference), others)) = outputs.split_first() else { return Ok(()) };
    for (name, output) in others {
        let apart = reference.iter().zip(output).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        results.note(format!("{}: {name} and {first} are {apart:.1e} apart.", shape.title(threads)));
    }
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
            let answers = module.run((0..rows).map(|_| tasks()).collect()).map_err(|error| error.to_string())?;
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
