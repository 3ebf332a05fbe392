//! Tasks whose free dims differ: laid end to end in one batch.

use super::shapes::{POISON, give, specs};
use crate::Subject;
use crate::kit::{Bench, Known, Log, all_succeed, answer, columns, drain, gated, new_builder, pool_of};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use skep_pool::{PoolOptions, Serve, ServeOptions};
use skep_runtime_core::testing::FnBlock;
use skep_runtime_core::{
    BoxError, Chain, DType, Device, Dim, HostTensor, PadTo, Padding, Request, Schema, SubmitError, TaskError,
    TensorOps, Ticket, Verify,
};
use skep_stats::Stats;
use std::sync::Arc;
use std::time::Duration;

fn n() -> Dim {
    Dim::free("n", 16)
}

/// `x` `[batch, n, 2]` and `w` `[batch, 1]`, f32, laid end to end.
fn inputs() -> Schema {
    let inputs = specs(&[("x", DType::F32, &[n(), Dim::Fixed(2)]), ("w", DType::F32, &[Dim::Fixed(1)])]);
    inputs.ragged("offsets").unwrap()
}

/// `y`, as `x`; the place of each element in its row; and a number of each row.
fn outputs() -> Schema {
    specs(&[
        ("y", DType::F32, &[n(), Dim::Fixed(2)]),
        ("place", DType::F32, &[n()]),
        ("sum", DType::F32, &[Dim::Fixed(1)]),
    ])
}

/// What a block was given: the numbers of `x`, those of `w`, and the offsets.
#[derive(Clone, Debug, PartialEq)]
struct Given {
    x: Vec<f32>,
    w: Vec<f32>,
    offsets: Vec<i64>,
}

impl Given {
    fn read<D: Device>(device: &D, inputs: &[D::Tensor]) -> Result<Self, BoxError> {
        let [x, w, offsets] = inputs else { return Err(format!("got {} inputs", inputs.len()).into()) };
        let [x, w, offsets] = [device.to_host(x)?, device.to_host(w)?, device.to_host(offsets)?];
        let numbers = |tensor: &HostTensor| tensor.to_f32().ok_or("a number should be f32");
        let given = Self {
            x: numbers(&x)?,
            w: numbers(&w)?,
            offsets: offsets.elements().ok_or("offsets should be i64")?,
        };
        let (rows, elements) = (given.w.len(), given.x.len() / 2);
        let all = i64::try_from(elements)?;
        let dims = x.dims() == [elements, 2] && w.dims() == [rows, 1] && offsets.dims() == [rows + 1];
        if !dims || given.offsets.first() != Some(&0) || given.offsets.last() != Some(&all) {
            return Err(
                format!("{:?}, {:?} and {:?} do not go together", x.dims(), w.dims(), given.offsets).into()
            );
        }
        Ok(given)
    }

    /// The elements of each row.
    fn rows(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let at = |offset: i64| usize::try_from(offset).unwrap();
        self.offsets.windows(2).map(move |pair| at(pair[0])..at(pair[1]))
    }
}

/// What the block makes of a row: each number times `w`, and the sum of them.
fn of_row(x: &[f32], w: f32) -> (Vec<f32>, f32) {
    (x.iter().map(|number| number * w).collect(), x.iter().fold(0.0, |sum, number| sum + number * w))
}

/// A block of [`inputs`] and [`outputs`]. A backward pass gives the gradient of `y` times `w` as that of `x`, and that of
/// `sum` as that of `w`.
fn laid<D: Device>(device: &Arc<D>, log: &Log<Given>) -> FnBlock<D> {
    let (on, ran) = (Arc::clone(device), log.clone());
    let (of, seen) = (Arc::clone(device), log.clone());
    let forward = move |inputs: &[D::Tensor]| {
        let given = Given::read(&*on, inputs)?;
        ran.push(given.clone());
        if given.x.contains(&POISON) {
            return Err("a number that this block does not bear".into());
        }
        let (mut y, mut places, mut sums) = (Vec::new(), Vec::new(), Vec::new());
        for (row, w) in given.rows().zip(&given.w) {
            places.extend((0u8..).take(row.len()).map(f32::from));
            let (of_row, sum) = of_row(&given.x[2 * row.start..2 * row.end], *w);
            y.extend(of_row);
            sums.push(sum);
        }
        let elements = places.len();
        give(&*on, &[(&[elements, 2], &y), (&[elements], &places), (&[sums.len(), 1], &sums)])
    };
    FnBlock::new("laid", inputs(), Some(outputs()), forward).with_backward(move |inputs, gradients| {
        let given = Given::read(&*of, inputs)?;
        let [of_y, of_place, of_sum] = gradients else { return Err("three gradients are wanted".into()) };
        let [of_y, of_place, of_sum] = [of.to_host(of_y)?, of.to_host(of_place)?, of.to_host(of_sum)?];
        let (elements, rows) = (given.x.len() / 2, given.w.len());
        if of_y.dims() != [elements, 2] || of_place.dims() != [elements] || of_sum.dims() != [rows, 1] {
            return Err("gradients should be laid as outputs are".into());
        }
        let (of_y, of_w) = (of_y.to_f32().unwrap(), of_sum.to_f32().unwrap());
        let rows = given.rows().zip(&given.w);
        let of_x: Vec<f32> =
            rows.flat_map(|(row, w)| of_row(&of_y[2 * row.start..2 * row.end], *w).0).collect();
        seen.push(given.clone());
        give(&*of, &[(&[elements, 2], &of_x), (&[of_w.len(), 1], &of_w)])
    })
}

/// A task of so many rows and elements.
#[derive(Clone)]
struct Sized {
    rows: usize,
    n: usize,
    x: Vec<f32>,
    w: Vec<f32>,
}

impl Sized {
    /// Its numbers are its own.
    fn new(rows: usize, n: usize, from: f32) -> Self {
        let count = |count: usize, by: f32| (0u8..).take(count).map(|at| from + f32::from(at) / by).collect();
        Self { rows, n, x: count(rows * n * 2, 8.0), w: count(rows, 4.0) }
    }
}

impl Known for Sized {
    fn inputs<D: Device>(&self, device: &D) -> Vec<D::Tensor> {
        let place = |dims: &[usize], numbers: &[f32]| {
            device.from_host(&HostTensor::from_f32(dims, numbers).unwrap()).unwrap()
        };
        vec![place(&[self.rows, self.n, 2], &self.x), place(&[self.rows, 1], &self.w)]
    }

    /// It has what the block makes of its own numbers, in its own length, to the last bit.
    fn check<D: Device>(&self, device: &D, ticket: Ticket<D::Tensor>) {
        let outputs = answer(ticket).unwrap();
        let [y, place, sum] = [0, 1, 2].map(|at| device.to_host(&outputs[at]).unwrap());
        assert_eq!((y.dims(), place.dims()), (&[self.rows, self.n, 2][..], &[self.rows, self.n][..]));
        assert_eq!(sum.dims(), [self.rows, 1]);
        let (mut of_y, mut sums, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (row, w) in self.x.chunks(2 * self.n).zip(&self.w) {
            let (of_row, sum) = of_row(row, *w);
            of_y.extend(of_row);
            sums.push(sum);
            places.extend((0u8..).take(self.n).map(f32::from));
        }
        let got = [y, place, sum].map(|output| output.to_f32().unwrap());
        assert_eq!(got, [of_y, places, sums]);
    }
}

/// A bench with that block.
fn bench<D: Device>(device: D, options: PoolOptions) -> Bench<D, Given> {
    Bench::new(device, options, laid)
}

/// The elements of each row of each batch.
fn lengths(given: &[Given]) -> Vec<Vec<usize>> {
    given.iter().map(|given| given.rows().map(|row| row.len()).collect()).collect()
}

/// Tasks of several lengths run in one batch, in which nothing is padding, and the block hears where each row begins.
pub fn tasks_are_laid_end_to_end<S: Subject>() {
    let mut bench = bench(S::device(), PoolOptions::default());
    let stats = Stats::new();
    bench.builder = bench.builder.observer(stats.observer());
    let tasks = [Sized::new(1, 5, 100.0), Sized::new(2, 16, 200.0), Sized::new(3, 1, 300.0)];
    assert_eq!(lengths(&bench.run(&tasks)), [[5, 16, 16, 1, 1, 1]]);
    let pool = &stats.snapshot().pools[0];
    assert!(pool.padding.abs() < f64::EPSILON, "{}", pool.padding);
}

/// Whatever their rows and lengths, tasks get their own numbers, in batches that are no larger than they may be.
pub fn ragged_tasks_get_their_own_numbers<S: Subject>() {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(24) });
    let sizes = prop::collection::vec((1usize..4, 1usize..17), 1..24);
    runner
        .run(&(sizes, 1usize..9, prop::option::of(16usize..100)), |(sizes, max_rows, max_elements)| {
            let options =
                PoolOptions::default().max_rows(max_rows).max_elements(max_elements).split_large_tasks(true);
            let tasks = sizes.iter().zip(0u8..);
            let tasks: Vec<_> =
                tasks.map(|(&(rows, n), number)| Sized::new(rows, n, 100.0 * f32::from(number))).collect();
            let batches = lengths(&bench(S::device(), options).run(&tasks));
            let rows: usize = batches.iter().map(Vec::len).sum();
            prop_assert_eq!(rows, tasks.iter().map(|task| task.rows).sum::<usize>());
            for batch in batches {
                let elements: usize = batch.iter().sum();
                prop_assert!(
                    batch.len() <= max_rows && max_elements.is_none_or(|max| elements <= max),
                    "{batch:?}"
                );
            }
            Ok(())
        })
        .unwrap();
}

/// A batch has no more elements in all than it may: a task that has more is split, or refused where it cannot be.
pub fn ragged_batches_are_bounded_by_elements<S: Subject>() {
    let options = PoolOptions::default().max_elements(24);
    let tasks = [9, 8, 7, 1, 6].map(|n| Sized::new(1, n, 0.0));
    let mut limited = bench(S::device(), options.clone());
    let stats = Stats::new();
    limited.builder = limited.builder.observer(stats.observer());
    assert_eq!(lengths(&limited.run(&tasks)), [vec![9, 8, 7], vec![1, 6]], "their own elements count");
    let cuts = stats.snapshot().pools[0].cuts.clone();
    let cuts: Vec<_> = cuts.iter().map(|(reason, batches)| (&**reason, *batches)).collect();
    assert_eq!(cuts, [("elements", 1), ("empty", 1)]);

    let refused = |options: PoolOptions, task: Sized| {
        let bench = bench(S::device(), options);
        match bench.pool.try_submit(task.inputs(&*bench.device)).unwrap_err().error {
            SubmitError::TooManyElements { got, max } => (got, max),
            other => panic!("{other}"),
        }
    };
    assert_eq!(refused(options.clone().max_elements(10), Sized::new(1, 11, 0.0)), (11, 10), "one row");
    assert_eq!(refused(options.clone(), Sized::new(4, 7, 0.0)), (28, 24), "it is not split");
    let split = bench(S::device(), options.split_large_tasks(true));
    let tasks = [Sized::new(1, 3, 0.0), Sized::new(5, 7, 0.0), Sized::new(1, 2, 0.0)];
    let batches = lengths(&split.run(&tasks));
    assert_eq!(batches[0], [3, 7, 7, 7], "a part goes along");
    assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), 7);
}

/// A ragged batch that fails is taken apart: only the culprit fails, and the others get their own numbers.
pub fn a_ragged_batch_that_fails_is_taken_apart<S: Subject>() {
    let mut tasks: Vec<_> = (0..7).map(|at| Sized::new(1 + at % 2, 9 + at, 100.0)).collect();
    tasks[3].x[1] = POISON;
    let batches = lengths(&bench(S::device(), PoolOptions::default()).run_with(&tasks, Some(3)));
    assert_eq!(batches[0].len(), 10, "all in one batch at first");
    assert!(batches.contains(&vec![12, 12]), "the culprit alone: {batches:?}");
}

/// A task that expires in a batch that was gathered leaves it: the rest is gathered anew.
pub fn the_rest_of_a_ragged_batch_runs<S: Subject>() {
    let (builder, clock) = new_builder(S::device(), 1);
    let mut builder = builder.just_in_time(false).linger(false);
    let (device, log) = (Arc::clone(builder.device()), Log::new());
    let (block, gate) = gated(&device, "gated");
    let held = pool_of(&mut builder, block, PoolOptions::default());
    let pool = pool_of(&mut builder, laid(&device, &log), PoolOptions::default());
    let runtime = builder.start().unwrap();
    let first = held.try_submit(columns(&*device, &[0.0])).unwrap();
    gate.entered();
    let (expires, stays) = (Sized::new(1, 7, 1.0), Sized::new(2, 5, 2.0));
    let soon = Request::new(expires.inputs(&*device)).deadline(Duration::from_millis(5));
    let gone = pool.try_submit(soon).unwrap();
    let ticket = pool.try_submit(stays.inputs(&*device)).unwrap();
    clock.advance(Duration::from_millis(6));
    assert!(matches!(answer(gone), Err(TaskError::Expired { .. })));
    gate.open();
    answer(first).unwrap();
    stays.check(&*device, ticket);
    drain(runtime);
    assert_eq!(log.take().into_iter().map(|given| given.offsets).collect::<Vec<_>>(), [[0, 5, 10]]);
}

/// Gradients come and go laid as their outputs and inputs are.
pub fn a_backward_pass_is_laid_end_to_end<S: Subject>() {
    let (builder, clock) = new_builder(S::device(), 0);
    let mut builder = builder.just_in_time(false).linger(false);
    let (device, log) = (Arc::clone(builder.device()), Log::new());
    let served = builder.serve(laid(&device, &log), ServeOptions::both(PoolOptions::default())).unwrap();
    let (block, gate) = gated(&device, "gated");
    let held = pool_of(&mut builder, block, PoolOptions::default());
    let pool = served.backward.unwrap();
    let runtime = builder.start().unwrap();
    let first = held.try_submit(columns(&*device, &[0.0])).unwrap();
    gate.entered();
    let place = |dims: &[usize], numbers: &[f32]| {
        device.from_host(&HostTensor::from_f32(dims, numbers).unwrap()).unwrap()
    };
    let of_place = |rows: usize, n: usize| place(&[rows, n], &vec![0.0; rows * n]);
    let tasks = [(1, 5), (2, 7)].map(|(rows, n)| (Sized::new(rows, n, 1.0), Sized::new(rows, n, 50.0)));
    let tickets = tasks.each_ref().map(|(task, gradient)| {
        clock.advance(Duration::from_micros(1));
        let [of_y, of_sum] = <[_; 2]>::try_from(gradient.inputs(&*device)).ok().unwrap();
        let mut inputs = task.inputs(&*device);
        inputs.extend([of_y, of_place(task.rows, task.n), of_sum]);
        pool.try_submit(inputs).unwrap()
    });
    let mut differ = tasks[0].0.inputs(&*device);
    let [of_y, of_sum] = <[_; 2]>::try_from(Sized::new(1, 7, 1.0).inputs(&*device)).ok().unwrap();
    differ.extend([of_y, of_place(1, 7), of_sum]);
    let refused = pool.try_submit(differ).unwrap_err().error;
    assert_eq!(refused.to_string(), "input `grad.y` has 7 for the dim `n`, expected 5 as before");
    gate.open();
    answer(first).unwrap();
    for ((task, gradient), ticket) in tasks.iter().zip(tickets) {
        let outputs = answer(ticket).unwrap();
        assert_eq!(outputs.len(), 2, "none of the offsets");
        let [of_x, of_w] = [&outputs[0], &outputs[1]].map(|output| device.to_host(output).unwrap());
        assert_eq!((of_x.dims(), of_w.dims()), (&[task.rows, task.n, 2][..], &[task.rows, 1][..]));
        let rows = gradient.x.chunks(2 * task.n).zip(&task.w);
        let expected: Vec<_> = rows.flat_map(|(row, w)| of_row(row, *w).0).collect();
        assert_eq!((of_x.to_f32().unwrap(), of_w.to_f32().unwrap()), (expected, gradient.w.clone()));
    }
    let steps = log.take();
    assert_eq!(steps.iter().map(|given| &*given.offsets).collect::<Vec<_>>(), [[0, 5, 12, 19]], "one step");
    drain(runtime);
}

/// A block that takes the elements of a row for those of another is found where batches are verified.
pub fn elements_that_are_mixed_up_are_found<S: Subject>() {
    for (heeds, found) in [(true, 0), (false, 1)] {
        let (builder, _) = new_builder(S::device(), 0);
        let stats = Stats::new();
        let mut builder = builder.just_in_time(false).linger(false).observer(stats.observer());
        let device = Arc::clone(builder.device());
        let (block, gate) = gated(&device, "gated");
        let held = pool_of(&mut builder, block, PoolOptions::default());
        let on = Arc::clone(&device);
        let outputs = specs(&[("y", DType::F32, &[n()]), ("sum", DType::F32, &[Dim::Fixed(1)])]);
        let block = FnBlock::new("sums", inputs(), Some(outputs), move |inputs: &[_]| {
            let given = Given::read(&*on, inputs)?;
            let (rows, elements) = (given.w.len(), given.x.len() / 2);
            let sum = |range: std::ops::Range<usize>| given.x[2 * range.start..2 * range.end].iter().sum();
            let even = |row: usize| row * elements / rows..(row + 1) * elements / rows;
            let sums: Vec<f32> =
                if heeds { given.rows().map(sum).collect() } else { (0..rows).map(even).map(sum).collect() };
            let firsts: Vec<f32> = given.x.chunks(2).map(|pair| pair[0]).collect();
            give(&*on, &[(&[elements], &firsts), (&[rows, 1], &sums)])
        });
        let pool = pool_of(&mut builder, block, PoolOptions::default().verify(Verify::every(1)));
        let runtime = builder.start().unwrap();
        let first = held.try_submit(columns(&*device, &[0.0])).unwrap();
        gate.entered();
        let tickets = [5, 7].map(|n| pool.try_submit(Sized::new(1, n, 1.0).inputs(&*device)).unwrap());
        gate.open();
        answer(first).unwrap();
        all_succeed(tickets);
        drain(runtime);
        let verification = stats.snapshot().pools[1].verification.unwrap();
        assert_eq!((verification.batches, verification.differing), (1, found));
    }
}

/// A block warms up with zeros laid as its tasks will be.
pub fn a_warm_up_is_laid_end_to_end<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 0);
    let (device, log) = (Arc::clone(builder.device()), Log::new());
    let options = ServeOptions::both(PoolOptions::default()).warm_up([1, 3]);
    let served = builder.serve(laid(&device, &log), options).unwrap();
    let runtime = builder.start().unwrap();
    assert_eq!(
        log.take().into_iter().map(|given| given.offsets).collect::<Vec<_>>(),
        [vec![0, 16], vec![0, 16, 32, 48]]
    );
    let task = Sized::new(2, 3, 1.0);
    task.check(&*device, served.forward.try_submit(task.inputs(&*device)).unwrap());
    drain(runtime);
}

/// Blocks of which tasks cannot be laid end to end are refused when they are served, and so is padding for one that takes
/// them so.
pub fn what_cannot_be_laid_end_to_end_is_refused<S: Subject>() {
    let serve = |outputs: Option<Schema>, options: PoolOptions| {
        let (mut builder, _) = new_builder(S::device(), 0);
        let block = FnBlock::new("block", inputs(), outputs, |_: &[_]| Err("is not called".into()));
        let served = builder.serve(block, ServeOptions::forward(options));
        served.map(|_| ()).map_err(|error| Chain(&error).to_string())
    };
    let options = PoolOptions::default;
    assert_eq!(serve(Some(outputs()), options()), Ok(()));
    let error = serve(None, options()).unwrap_err();
    assert_eq!(error, "block `block`: ragged is a block without outputs, expected outputs that are declared");
    let error = serve(Some(specs(&[("y", DType::F32, &[Dim::free("m", 4)])])), options()).unwrap_err();
    assert!(error.contains("an output `y` f32 [batch, m"), "{error}");
    let error = serve(Some(outputs()), options().padding(Padding::new(PadTo::Longest))).unwrap_err();
    assert!(
        error.contains("padding is padding, expected none: the block takes tasks laid end to end"),
        "{error}"
    );
}

/// Elements that are missing, or too many, or of other dims fail their batch, and nobody else's.
pub fn outputs_that_are_not_laid_end_to_end_are_errors<S: Subject>() {
    let wrong: [fn(usize) -> Vec<usize>; 3] =
        [|all| vec![all - 1, 2], |all| vec![all, 3], |all| vec![1, all, 2]];
    for dims in wrong {
        let (mut builder, _) = new_builder(S::device(), 0);
        let device = Arc::clone(builder.device());
        let (on, log) = (Arc::clone(&device), Log::new());
        let outputs = specs(&[("y", DType::F32, &[n(), Dim::Fixed(2)])]);
        let block = FnBlock::new("wrong", inputs(), Some(outputs), move |inputs: &[_]| {
            let dims = dims(Given::read(&*on, inputs)?.x.len() / 2);
            give(&*on, &[(&dims, &vec![0.0; dims.iter().product()])])
        });
        let pool = pool_of(&mut builder, block, PoolOptions::default());
        let good = pool_of(&mut builder, laid(&device, &log), PoolOptions::default());
        let runtime = builder.start().unwrap();
        let task = Sized::new(2, 3, 1.0);
        let error = answer(pool.try_submit(task.inputs(&*device)).unwrap()).err().unwrap();
        let error = Chain(&error).to_string();
        assert!(error.contains("6 elements laid end to end"), "{error}");
        task.check(&*device, good.try_submit(task.inputs(&*device)).unwrap());
        drain(runtime);
    }
}

/// A block that would be called in another way does not take the place of one.
pub fn a_block_is_replaced_by_one_that_is_called_alike<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 0);
    let (device, log) = (Arc::clone(builder.device()), Log::new());
    let pool = pool_of(&mut builder, laid(&device, &log), PoolOptions::default());
    let runtime = builder.start().unwrap();
    let padded = inputs().tensors().to_vec();
    let other = FnBlock::new("padded", Schema::new(padded).unwrap(), Some(outputs()), |_: &[_]| {
        Err("is not called".into())
    })
    .with_backward(|_, _| Err("is not called".into()));
    let error = Chain(&runtime.handle().replace("laid", other).unwrap_err()).to_string();
    assert!(error.ends_with("their offsets differ"), "{error}");
    runtime.handle().replace("laid", laid(&device, &log)).unwrap();
    let task = Sized::new(2, 3, 1.0);
    task.check(&*device, pool.try_submit(task.inputs(&*device)).unwrap());
    drain(runtime);
}
