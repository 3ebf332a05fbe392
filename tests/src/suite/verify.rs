//! Now and then a task is run alone, too: a block that mixes rows up is found out.

use crate::Subject;
use crate::kit::{
    Columns, LIMIT, Log, answer, columns, drain, new_builder, pool_of, quiet_panics, rows_block,
};
use skep_pool::{PoolOptions, Serve, ServeOptions};
use skep_runtime_core::{BoxError, Chain, Device, OfRows, Priority, Request, TensorOps, Verify};
use skep_stats::{Snapshot, Stats};
use std::sync::Arc;

/// Runs batches of four tasks of a row each, of 1 to 4, and returns the rows of each run, what the tasks of the last batch
/// got, and the numbers.
fn verified<S: Subject>(
    verify: Option<Verify>,
    batches: usize,
    mut work: impl FnMut(&[f32]) -> Result<Vec<f32>, BoxError> + Send + 'static,
) -> (Vec<Vec<f32>>, Vec<f32>, Snapshot) {
    quiet_panics();
    let stats = Stats::new();
    let (builder, _) = new_builder(S::device(), 1);
    let mut builder = builder.observer(stats.observer());
    let device = Arc::clone(builder.device());
    let ran = Log::new();
    let seen = Log::clone(&ran);
    let block = rows_block(&device, "block", move |rows| {
        seen.push(rows.clone());
        work(&rows)
    });
    let options = PoolOptions::default().min_rows(4).max_delay(Some(LIMIT)).verify(verify);
    let pool = pool_of(&mut builder, block, options);
    let runtime = builder.start().unwrap();
    let mut outputs = Vec::new();
    for _ in 0..batches {
        let submit = |row: f32| pool.submit(columns(&*device, &[row])).unwrap();
        let tickets = [1.0, 2.0, 3.0, 4.0].map(submit);
        outputs = tickets
            .into_iter()
            .map(|ticket| Columns::read(&*device, &answer(ticket).unwrap()[0])[0])
            .collect();
    }
    drain(runtime);
    (ran.take(), outputs, stats.snapshot())
}

/// Of a block that keeps rows apart, one task in so many batches runs twice, and nothing is found. Not asked for, nothing
/// runs twice.
pub fn a_block_that_keeps_rows_apart_is_left_in_peace<S: Subject>() {
    let double = |rows: &[f32]| Ok(rows.iter().map(|row| 2.0 * row).collect());
    let all = vec![1.0, 2.0, 3.0, 4.0];
    let (ran, _, snapshot) = verified::<S>(None, 3, double);
    assert_eq!(ran, vec![all.clone(); 3]);
    assert!(snapshot.pools[0].verification.is_none());

    let (ran, outputs, snapshot) = verified::<S>(Some(Verify::every(2)), 5, double);
    let (first, second, third) = (vec![1.0], vec![2.0], vec![3.0]);
    let expected = [&all, &first, &all, &all, &second, &all, &all, &third].map(Clone::clone);
    assert_eq!(ran, expected);
    assert_eq!(outputs, [2.0, 4.0, 6.0, 8.0]);
    let verification = snapshot.pools[0].verification.unwrap();
    assert_eq!((verification.batches, verification.differing), (3, 0));
    assert!(verification.largest_difference <= verification.tolerance);
    assert_eq!((snapshot.total.batches, snapshot.total.rows), (5, 20), "a verification is no batch");
}

/// One that subtracts the mean of its batch is found out, by how much its rows differ; its callers get what it gives.
pub fn a_block_that_mixes_rows_up_is_found_out<S: Subject>() {
    let centred = |rows: &[f32]| {
        let mean = rows.iter().sum::<f32>() / f32::from(u16::try_from(rows.len())?);
        Ok(rows.iter().map(|row| row - mean).collect())
    };
    let (_, outputs, snapshot) = verified::<S>(Some(Verify::every(1).tolerance(1e-3)), 2, centred);
    assert_eq!(outputs, [-1.5, -0.5, 0.5, 1.5]);
    let verification = snapshot.pools[0].verification.unwrap();
    assert_eq!((verification.batches, verification.differing), (2, 2));
    // Alone, each row is its own mean: the first task's differs by 1.5, the second's by 0.5.
    assert!((verification.largest_difference - 1.5).abs() < 1e-6, "{verification:?}");
    let told = snapshot.to_string();
    assert!(told.contains("2 batches verified, 2 differ, by at most 1.5e0 (limit 1e-3)"), "{told}");
}

/// A task that fails alone, or gives something that cannot be compared, is a finding, and its batch has its answers.
pub fn what_cannot_be_compared_is_a_finding<S: Subject>() {
    type Work = fn(&[f32]) -> Result<Vec<f32>, BoxError>;
    let works: [Work; 4] = [
        |rows| if rows.len() == 1 { Err("too few".into()) } else { Ok(rows.to_vec()) },
        |rows| if rows.len() == 1 { panic!("on purpose: too few") } else { Ok(rows.to_vec()) },
        |rows| if rows.len() == 1 { Ok(vec![1.0, 1.0]) } else { Ok(rows.to_vec()) },
        |rows| if rows.len() == 1 { Ok(vec![f32::NAN]) } else { Ok(rows.to_vec()) },
    ];
    for work in works {
        let (_, outputs, snapshot) = verified::<S>(Some(Verify::every(1)), 1, work);
        assert_eq!(outputs, [1.0, 2.0, 3.0, 4.0]);
        let verification = snapshot.pools[0].verification.unwrap();
        assert_eq!((verification.batches, verification.differing), (1, 1));
        assert!(verification.largest_difference >= f64::MAX);
        assert_eq!(snapshot.total.failed, 0);
    }
}

/// A block that knows whose fault it was, and has not changed: its culprits fail, and the others' pass runs without them,
/// backward too.
pub fn a_backward_pass_runs_again_without_its_culprits<S: Subject>() {
    let (mut builder, _) = new_builder(S::device(), 1);
    let device = Arc::clone(builder.device());
    let ran = Log::new();
    let (seen, on) = (Log::clone(&ran), Arc::clone(&device));
    let block = rows_block(&device, "block", Ok).with_backward(move |inputs, gradients| {
        let rows = on.to_host(&inputs[0])?.to_f32().unwrap();
        seen.push(rows.clone());
        let culprits: Vec<usize> = (0..rows.len()).filter(|at| rows[*at] < 0.0).collect();
        if !culprits.is_empty() {
            return Err(OfRows::new(culprits, "row is negative").into());
        }
        Ok(vec![on.gather(&[on.from_host(&on.to_host(&gradients[0])?)?])?])
    });
    let backward = PoolOptions::default().min_rows(6).max_delay(Some(LIMIT));
    let served = builder.serve(block, ServeOptions::default().backward(backward)).unwrap();
    let runtime = builder.start().unwrap();
    let pool = served.backward.as_ref().unwrap();
    let submit = |rows: &[f32]| {
        let both = [rows, rows].map(|rows| Columns::shaped(&*device, &[rows.len(), 1], rows));
        pool.submit(Request::new(both.into()).priority(Priority::NORMAL)).unwrap()
    };
    let tasks: [&[f32]; 4] = [&[1.0], &[2.0, -3.0], &[4.0, 5.0], &[-6.0]];
    let answers = tasks.map(submit).map(answer);
    for (task, answer) in tasks.iter().zip(answers) {
        if task.iter().any(|row| *row < 0.0) {
            let message = Chain(&answer.err().unwrap()).to_string();
            assert_eq!(message, "batch failed: block `block` failed because of this task: row is negative");
        } else {
            assert_eq!(Columns::read(&*device, &answer.unwrap()[0]), *task);
        }
    }
    drain(runtime);
    assert_eq!(ran.take(), [vec![1.0, 2.0, -3.0, 4.0, 5.0, -6.0], vec![1.0, 4.0, 5.0]]);
}
