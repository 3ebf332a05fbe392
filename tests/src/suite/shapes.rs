//! Tasks whose free dims differ: padded into one batch, and cut back.

use crate::Subject;
use crate::kit::{
    Bench, Known, Log, all_succeed, answer, columns, drain, gated, new_builder, pool_of, quiet_panics, schema,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use skep_pool::{PoolOptions, Serve, ServeOptions};
use skep_runtime_core::testing::FnBlock;
use skep_runtime_core::{
    BoxError, Chain, DType, Device, Dim, HostTensor, PadTo, Padding, Priority, Request, Schema, SubmitError,
    TaskError, TensorOps, TensorSpec, Ticket, Verify,
};
use skep_stats::Stats;
use std::sync::Arc;
use std::time::Duration;

/// A number that the block does not bear.
pub(super) const POISON: f32 = 666.0;

pub(super) fn specs(of: &[(&str, DType, &[Dim])]) -> Schema {
    let spec = |(name, dtype, dims): &(&str, DType, &[Dim])| {
        TensorSpec::new(*name, *dtype, [&[Dim::Batch], *dims].concat())
    };
    Schema::new(of.iter().map(spec).collect()).unwrap()
}

/// What a block was given: the dims of `x`, its numbers, and the mask.
type Given = (Vec<usize>, Vec<f32>, Vec<u32>);

fn read<D: Device>(device: &D, inputs: &[D::Tensor]) -> Result<Given, BoxError> {
    let (x, mask) = (device.to_host(&inputs[0])?, device.to_host(&inputs[1])?);
    let numbers = x.to_f32().ok_or("x should hold f32")?;
    let places = mask.bytes().chunks_exact(4).map(|place| u32::from_le_bytes(place.try_into().unwrap()));
    Ok((x.dims().to_vec(), numbers, places.collect()))
}

/// A block of `x` `[batch, n, 2]`, f32, and `mask` `[batch, n]`, u32. Gives `y` of the dims of `x`, each number times 2, and
/// the sum of each row's numbers, of the places that its mask has. A backward pass gives the gradient of `x` by `y`, and
/// logs what came as the gradient of `y`.
fn masked<D: Device>(device: &Arc<D>, log: &Log<Given>) -> FnBlock<D> {
    let n = || Dim::free("n", 16);
    let inputs = specs(&[("x", DType::F32, &[n(), Dim::Fixed(2)]), ("mask", DType::U32, &[n()])]);
    let outputs = specs(&[("y", DType::F32, &[n(), Dim::Fixed(2)]), ("sum", DType::F32, &[Dim::Fixed(1)])]);
    let (on, ran) = (Arc::clone(device), log.clone());
    let (of, seen) = (Arc::clone(device), log.clone());
    let forward = move |inputs: &[D::Tensor]| {
        let (dims, numbers, places) = read(&*on, inputs)?;
        ran.push((dims.clone(), numbers.clone(), places.clone()));
        if numbers.contains(&POISON) {
            return Err("a number that this block does not bear".into());
        }
        let row = |(row, places): (&[f32], &[u32])| {
            let there = row.chunks(2).zip(places).filter(|(_, place)| **place == 1);
            there.fold(0.0, |sum, (pair, _)| sum + pair[0] + pair[1])
        };
        let sums: Vec<f32> = numbers.chunks(2 * dims[1]).zip(places.chunks(dims[1])).map(row).collect();
        let y: Vec<f32> = numbers.iter().map(|number| number * 2.0).collect();
        give(&*on, &[(&dims, &y), (&[sums.len(), 1], &sums)])
    };
    FnBlock::new("masked", inputs, Some(outputs), forward).with_backward(move |inputs, gradients| {
        let (dims, _, places) = read(&*of, inputs)?;
        let gradient = of.to_host(&gradients[0])?.to_f32().ok_or("a gradient should be f32")?;
        seen.push((dims.clone(), gradient.clone(), places.clone()));
        let of_x: Vec<f32> = gradient.iter().map(|number| number * 2.0).collect();
        let mask = HostTensor::zeros(DType::U32, &dims[..2]).ok_or("too large")?;
        let mut given = give(&*of, &[(&dims, &of_x)])?;
        given.push(of.gather(&[of.from_host(&mask)?])?);
        Ok(given)
    })
}

/// Tensors on the device.
pub(super) fn give<D: Device>(
    device: &D,
    tensors: &[(&[usize], &[f32])],
) -> Result<Vec<D::Tensor>, BoxError> {
    let give = |(dims, numbers): &(&[usize], &[f32])| {
        Ok(device.gather(&[device.from_host(&HostTensor::from_f32(dims, numbers)?)?])?)
    };
    tensors.iter().map(give).collect()
}

fn pads(to: PadTo) -> PoolOptions {
    PoolOptions::default().padding(Padding::new(to).with_value("x", -1).with_mask("mask"))
}

/// A task of so many rows and places.
#[derive(Clone)]
struct Sized {
    rows: usize,
    n: usize,
    numbers: Vec<f32>,
}

impl Sized {
    /// Its numbers are its own.
    fn new(rows: usize, n: usize, from: f32) -> Self {
        Self { rows, n, numbers: (0u8..).take(rows * n * 2).map(|at| from + f32::from(at) / 8.0).collect() }
    }

    fn input<D: Device>(&self, device: &D) -> D::Tensor {
        let host = HostTensor::from_f32(&[self.rows, self.n, 2], &self.numbers).unwrap();
        device.from_host(&host).unwrap()
    }
}

impl Known for Sized {
    fn inputs<D: Device>(&self, device: &D) -> Vec<D::Tensor> {
        vec![self.input(device)]
    }

    /// It has its own numbers, in its own length, to the last bit.
    fn check<D: Device>(&self, device: &D, ticket: Ticket<D::Tensor>) {
        let outputs = answer(ticket).unwrap();
        let [y, sum] = [&outputs[0], &outputs[1]].map(|output| device.to_host(output).unwrap());
        assert_eq!(y.dims(), [self.rows, self.n, 2], "cut back to its own");
        assert_eq!(y.to_f32().unwrap(), self.numbers.iter().map(|number| number * 2.0).collect::<Vec<_>>());
        let row = |row: &[f32]| row.chunks(2).fold(0.0, |sum, pair| sum + pair[0] + pair[1]);
        let alone: Vec<f32> = self.numbers.chunks(2 * self.n).map(row).collect();
        assert_eq!(sum.to_f32().unwrap(), alone, "as it gets alone");
    }
}

/// A bench with that block.
fn bench<D: Device>(device: D, options: PoolOptions) -> Bench<D, Given> {
    Bench::new(device, options, masked)
}

fn dims(given: Vec<Given>) -> Vec<Vec<usize>> {
    given.into_iter().map(|(dims, ..)| dims).collect()
}

/// Tasks of several lengths run in one batch, padded as the rule says, and the pool makes the mask. Stats tell how much was
/// padding.
pub fn tasks_of_several_lengths_share_a_batch<S: Subject>() {
    for (to, padded) in [(PadTo::Longest, 7), (PadTo::Multiple(4), 8), (PadTo::Buckets(vec![3, 10]), 10)] {
        let mut bench = bench(S::device(), pads(to));
        let stats = Stats::new();
        bench.builder = bench.builder.observer(stats.observer());
        assert_eq!(bench.pool.schema().tensors().len(), 1, "the mask is the pool's");
        let tasks = [Sized::new(1, 5, 100.0), Sized::new(2, 7, 200.0), Sized::new(1, 6, 300.0)];
        assert_eq!(dims(bench.run(&tasks)), [[4, padded, 2]]);
        let all = 4 * padded;
        let padding = stats.snapshot().pools[0].padding;
        assert!((padding - (all - 25) as f64 / all as f64).abs() < 1e-9, "{padding} of {all}");
    }
}

/// What is not a task's own is the value of the rule, and 0 in the mask.
pub fn padding_is_the_value_of_the_rule<S: Subject>() {
    let bench = bench(S::device(), pads(PadTo::Multiple(4)));
    let runtime = bench.builder.start().unwrap();
    let task = Sized::new(1, 3, 1.0);
    task.check(&*bench.device, bench.pool.try_submit(vec![task.input(&*bench.device)]).unwrap());
    let padded = [&task.numbers[..], &[-1.0, -1.0]].concat();
    assert_eq!(bench.log.take(), [(vec![1, 4, 2], padded, vec![1, 1, 1, 0])]);
    drain(runtime);
}

/// Whatever their lengths and the rule, tasks get their own numbers, and no batch is larger than it may be.
pub fn padded_tasks_get_their_own_numbers<S: Subject>() {
    let rule = prop_oneof![
        Just(PadTo::Longest),
        (1usize..6).prop_map(PadTo::Multiple),
        Just(PadTo::Buckets(vec![3, 8])),
    ];
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(24) });
    let sizes = prop::collection::vec((1usize..4, 1usize..17), 1..24);
    runner
        .run(&(rule, sizes, 1usize..9, 16usize..100), |(to, sizes, max_rows, max_elements)| {
            let options = pads(to).max_rows(max_rows).max_elements(max_elements).split_large_tasks(true);
            let tasks = sizes.iter().zip(0u8..);
            let tasks: Vec<_> =
                tasks.map(|(&(rows, n), number)| Sized::new(rows, n, 100.0 * f32::from(number))).collect();
            for dims in dims(bench(S::device(), options).run(&tasks)) {
                prop_assert!(dims[0] <= max_rows && dims[0] * dims[1] <= max_elements, "{dims:?}");
            }
            Ok(())
        })
        .unwrap();
}

/// A batch has no more elements than it may: a task that has more is split, or refused where it cannot be.
pub fn batches_are_bounded_by_elements<S: Subject>() {
    let options = pads(PadTo::Multiple(4)).max_elements(24);
    let tasks: Vec<_> = (0..7).map(|at| Sized::new(1, 5 + at % 3, 0.0)).collect();
    let mut limited = bench(S::device(), options.clone());
    let stats = Stats::new();
    limited.builder = limited.builder.observer(stats.observer());
    assert_eq!(dims(limited.run(&tasks)), [[3, 8, 2], [3, 8, 2], [1, 8, 2]], "three times eight");
    let cuts = stats.snapshot().pools[0].cuts.clone();
    assert_eq!(
        cuts.iter().map(|(reason, batches)| (&**reason, *batches)).collect::<Vec<_>>(),
        [("elements", 2), ("empty", 1)]
    );
    let refused = |options: PoolOptions, task: Sized| {
        let bench = bench(S::device(), options);
        match bench.pool.try_submit(vec![task.input(&*bench.device)]).unwrap_err().error {
            SubmitError::TooManyElements { got, max } => (got, max),
            other => panic!("{other}"),
        }
    };
    assert_eq!(refused(options.clone().max_elements(10), Sized::new(1, 9, 0.0)), (12, 10), "one row");
    assert_eq!(refused(options.clone(), Sized::new(4, 8, 0.0)), (32, 24), "it is not split");
    let split = bench(S::device(), options.split_large_tasks(true));
    assert_eq!(dims(split.run(&[Sized::new(5, 7, 0.0)])), [[3, 8, 2], [2, 8, 2]]);
}

/// The most urgent task is always in the next batch, and tasks of one class of lengths run in their order.
pub fn padding_keeps_the_order_of_work<S: Subject>() {
    let Bench { builder, clock, device, pool, held, gate, log } =
        bench(S::device(), pads(PadTo::Multiple(4)).max_rows(2));
    let runtime = builder.start().unwrap();
    let first = held.try_submit(columns(&*device, &[0.0])).unwrap();
    gate.entered();
    // By its first number each.
    let tasks = [(3, 1, 1.0), (8, 1, 2.0), (4, 1, 3.0), (5, 0, 4.0), (1, 1, 5.0), (7, 1, 6.0), (2, 0, 7.0)];
    let tickets = tasks.map(|(n, priority, first)| {
        clock.advance(Duration::from_micros(1));
        let input = Sized::new(1, n, first).input(&*device);
        pool.try_submit(Request::new(vec![input]).priority(Priority(priority))).unwrap()
    });
    gate.open();
    answer(first).unwrap();
    all_succeed(tickets);
    let firsts =
        |(dims, numbers, _): Given| numbers.chunks(dims[1] * 2).map(|row| row[0]).collect::<Vec<_>>();
    let batches: Vec<_> = log.take().into_iter().map(firsts).collect();
    assert_eq!(batches, [vec![4.0, 2.0], vec![7.0, 1.0], vec![3.0, 5.0], vec![6.0]]);
    drain(runtime);
}

/// A padded batch that fails is taken apart: only the culprit fails, and the others get their own numbers.
pub fn a_padded_batch_that_fails_is_taken_apart<S: Subject>() {
    let mut tasks: Vec<_> = (0..7).map(|at| Sized::new(1 + at % 2, 9 + at, 100.0)).collect();
    tasks[3].numbers[1] = POISON;
    let given = bench(S::device(), pads(PadTo::Longest)).run_with(&tasks, Some(3));
    let rows: Vec<_> = given.into_iter().map(|(dims, ..)| (dims[0], dims[1])).collect();
    assert_eq!(rows[0], (10, 15), "all in one batch at first");
    assert!(rows.contains(&(2, 12)), "the culprit alone, no longer than it is: {rows:?}");
}

/// A task that expires in a batch that was gathered leaves it: the rest is gathered anew.
pub fn the_rest_of_a_padded_batch_runs<S: Subject>() {
    let (builder, clock) = new_builder(S::device(), 1);
    let mut builder = builder.just_in_time(false).linger(false);
    let (device, log) = (Arc::clone(builder.device()), Log::new());
    let (block, gate) = gated(&device, "gated");
    let held = pool_of(&mut builder, block, PoolOptions::default());
    let pool = pool_of(&mut builder, masked(&device, &log), pads(PadTo::Longest));
    let runtime = builder.start().unwrap();
    let first = held.try_submit(columns(&*device, &[0.0])).unwrap();
    gate.entered();
    let (expires, short) = (Sized::new(1, 7, 1.0), Sized::new(2, 5, 2.0));
    let soon = Request::new(vec![expires.input(&*device)]).deadline(Duration::from_millis(5));
    let (gone, stays) =
        (pool.try_submit(soon).unwrap(), pool.try_submit(vec![short.input(&*device)]).unwrap());
    clock.advance(Duration::from_millis(6));
    assert!(matches!(answer(gone), Err(TaskError::Expired { .. })));
    gate.open();
    answer(first).unwrap();
    short.check(&*device, stays);
    drain(runtime);
    assert_eq!(dims(log.take()), [[2, 5, 2]]);
}

/// A backward pass is padded with gradients of 0, and gives each task the gradients of its own length.
pub fn a_backward_pass_is_padded<S: Subject>() {
    let (builder, clock) = new_builder(S::device(), 0);
    let mut builder = builder.just_in_time(false).linger(false);
    let (device, log) = (Arc::clone(builder.device()), Log::new());
    let served = builder.serve(masked(&device, &log), ServeOptions::both(pads(PadTo::Longest))).unwrap();
    let (block, gate) = gated(&device, "gated");
    let held = pool_of(&mut builder, block, PoolOptions::default());
    let pool = served.backward.unwrap();
    let runtime = builder.start().unwrap();
    let first = held.try_submit(columns(&*device, &[0.0])).unwrap();
    gate.entered();
    let tasks = [(1, 5), (2, 7)].map(|(rows, n)| (Sized::new(rows, n, 1.0), Sized::new(rows, n, 50.0)));
    let tickets = tasks.each_ref().map(|(x, gradient)| {
        clock.advance(Duration::from_micros(1));
        let of_sum = HostTensor::from_f32(&[x.rows, 1], &vec![0.0; x.rows]).unwrap();
        let inputs = vec![x.input(&*device), gradient.input(&*device), device.from_host(&of_sum).unwrap()];
        pool.try_submit(inputs).unwrap()
    });
    let longer = Sized::new(1, 7, 1.0).input(&*device);
    let differ = vec![tasks[0].0.input(&*device), longer, columns(&*device, &[0.0]).remove(0)];
    let refused = pool.try_submit(differ).unwrap_err().error;
    assert_eq!(refused.to_string(), "input `grad.y` has 7 for the dim `n`, expected 5 as before");
    gate.open();
    answer(first).unwrap();
    for ((x, gradient), ticket) in tasks.iter().zip(tickets) {
        let outputs = answer(ticket).unwrap();
        let [of_x, of_mask] = [&outputs[0], &outputs[1]].map(|output| device.to_host(output).unwrap());
        assert_eq!((of_x.dims(), of_mask.dims()), (&[x.rows, x.n, 2][..], &[x.rows, x.n][..]));
        let doubled: Vec<_> = gradient.numbers.iter().map(|number| number * 2.0).collect();
        assert_eq!(of_x.to_f32().unwrap(), doubled);
    }
    let (dims, gradient, places) = log.take().remove(0);
    assert_eq!(dims, [3, 7, 2], "both in one step");
    let is_there = places.iter().flat_map(|place| [*place == 1; 2]);
    assert!(gradient.iter().zip(is_there).all(|(number, there)| there == (*number != 0.0)), "{gradient:?}");
    drain(runtime);
}

/// What padding does to a task shows where batches are verified: it runs alone without any.
pub fn padding_that_is_not_masked_is_found<S: Subject>() {
    let n = || Dim::free("n", 16);
    for (masks, found) in [(true, 0), (false, 1)] {
        let (builder, _) = new_builder(S::device(), 0);
        let stats = Stats::new();
        let mut builder = builder.just_in_time(false).linger(false).observer(stats.observer());
        let device = Arc::clone(builder.device());
        let (block, gate) = gated(&device, "gated");
        let held = pool_of(&mut builder, block, PoolOptions::default());
        let inputs = specs(&[("x", DType::F32, &[n(), Dim::Fixed(2)]), ("mask", DType::U32, &[n()])]);
        let on = Arc::clone(&device);
        let block = FnBlock::new("sums", inputs, Some(schema("y")), move |inputs: &[_]| {
            let (dims, numbers, places) = read(&*on, inputs)?;
            let places: Vec<_> = places.iter().flat_map(|place| [*place == 1 || !masks; 2]).collect();
            let rows = numbers.chunks(dims[1] * 2).zip(places.chunks(dims[1] * 2));
            let sum = |(row, places): (&[f32], &[bool])| {
                row.iter().zip(places).filter(|(_, there)| **there).map(|(number, _)| number).sum::<f32>()
            };
            let sums: Vec<f32> = rows.map(sum).collect();
            give(&*on, &[(&[dims[0], 1], &sums)])
        });
        let pool = pool_of(&mut builder, block, pads(PadTo::Longest).verify(Verify::every(1)));
        let runtime = builder.start().unwrap();
        let first = held.try_submit(columns(&*device, &[0.0])).unwrap();
        gate.entered();
        let tickets = [5, 7].map(|n| pool.try_submit(vec![Sized::new(1, n, 1.0).input(&*device)]).unwrap());
        gate.open();
        answer(first).unwrap();
        all_succeed(tickets);
        drain(runtime);
        let verification = stats.snapshot().pools[1].verification.unwrap();
        assert_eq!((verification.batches, verification.differing), (1, found));
    }
}

/// Rules that cannot be honoured are refused when the block is served, and an output that ignores them fails its batch.
pub fn padding_that_cannot_be_honoured_is_refused<S: Subject>() {
    quiet_panics();
    let serve = |inputs: Schema, outputs: Schema, padding: Padding| {
        let (mut builder, _) = new_builder(S::device(), 0);
        let block = FnBlock::new("block", inputs, Some(outputs), |_: &[_]| Err("is not called".into()));
        let served = builder.serve(block, ServeOptions::forward(PoolOptions::default().padding(padding)));
        served.map(|_| ()).map_err(|error| Chain(&error).to_string())
    };
    let n = |name: &str| specs(&[("x", DType::F32, &[Dim::free(name, 8)])]);
    let longest = || Padding::new(PadTo::Longest);
    assert_eq!(serve(n("n"), n("n"), longest()), Ok(()));
    let error = serve(n("n"), n("m"), longest()).unwrap_err();
    assert!(error.contains("an output `x` of free size along `m`"), "{error}");
    let error = serve(schema("x"), schema("y"), longest()).unwrap_err();
    assert!(error.contains("none: the block has no free dims"), "{error}");
    let error = serve(n("n"), n("n"), longest().with_mask("mask")).unwrap_err();
    assert!(error.contains("a mask `mask`, expected an input of the block"), "{error}");
    let error = serve(n("n"), n("n"), longest().with_mask("x")).unwrap_err();
    assert!(error.contains("expected an input beside others"), "{error}");

    let (mut builder, _) = new_builder(S::device(), 0);
    let on = Arc::clone(builder.device());
    let block = FnBlock::new("short", n("n"), Some(n("n")), move |inputs: &[_]| {
        let rows = on.describe(&inputs[0])?.dims[0];
        give(&*on, &[(&[rows, 1], &vec![0.0; rows])])
    });
    let device = Arc::clone(builder.device());
    let pool = pool_of(&mut builder, block, PoolOptions::default().padding(longest()));
    let runtime = builder.start().unwrap();
    let input = device.from_host(&HostTensor::from_f32(&[1, 3], &[0.0; 3]).unwrap()).unwrap();
    let error = answer(pool.try_submit(vec![input]).unwrap()).err().unwrap();
    let error = Chain(&error).to_string();
    assert!(error.contains("3 along `n`"), "{error}");
    drain(runtime);
}
