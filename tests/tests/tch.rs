//! The suite on libtorch, and what only libtorch can do wrong.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use skep_backend_tch::blocks::TorchScript;
use skep_backend_tch::tch::{Kind, TchError, Tensor};
use skep_backend_tch::{TchBlock, TchDevice};
use skep_pool::{PoolOptions, Serve, ServeOptions, Served};
use skep_runtime_core::{
    BatchError, DType, HostTensor, RunningRuntime, RuntimeBuilder, Schema, TaskError, TensorSpec,
};
use skep_tests::backends::Tch;
use skep_tests::kit::{Alone, Columns, answer, columns, damage, drain, for_all, limited, schema, values_of};
use skep_tests::{Subject, conformance, training};

conformance!(Tch);
training!(Tch);

/// What a block does with a batch in which there is a number below 0; all else comes out as it went in.
type Wrong = fn(&Tensor) -> Result<Tensor, TchError>;

fn picky(wrong: Wrong) -> TchBlock {
    let block = TchBlock::new("picky", schema("x"), move |_| {
        Ok(Box::new(move |inputs: &[Tensor]| {
            let x = &inputs[0];
            let is_bad = x.f_min()?.f_double_value(&[])? < 0.0;
            Ok(vec![if is_bad { wrong(x)? } else { x.shallow_clone() }])
        }))
    });
    block.with_outputs(schema("y"))
}

fn serve(block: TchBlock) -> (RunningRuntime<TchDevice>, Served<TchDevice>) {
    let mut builder = RuntimeBuilder::new(Tch::device());
    let block = builder.serve(block, ServeOptions::both(PoolOptions::default())).unwrap();
    (builder.start().unwrap(), block)
}

/// Good tasks, a bad one, and good ones again, forward and backward: only the bad one fails, nothing hangs, and
/// the runtime goes on. Returns what the caller of the bad one was told, forward and backward.
fn only_the_bad_task_fails(block: TchBlock) -> [TaskError; 2] {
    let (runtime, block) = serve(block);
    let device = Tch::device();
    let tasks = [1.0, 2.0, -1.0, 3.0, 4.0];
    let tickets = tasks.map(|v| (v, block.forward.submit(columns(&device, &[v])).unwrap()));
    let mut forward = None;
    for (value, ticket) in tickets {
        if value < 0.0 {
            forward = answer(ticket).err();
        } else {
            assert_eq!(values_of(&device, ticket), [value]);
        }
    }
    // A backward pass fails with its batch, so each goes alone.
    let backward = block.backward.as_ref().unwrap();
    let step = |value: f32| {
        let task = Vec::from([value, 0.5].map(|v| Columns::shaped(&device, &[1, 1], &[v])));
        answer(backward.submit(task).unwrap())
    };
    assert_eq!(Columns::read(&device, &step(1.0).unwrap()[0]), [0.5]);
    let failed = step(-1.0).err();
    assert_eq!(Columns::read(&device, &step(2.0).unwrap()[0]), [0.5], "graphs are recorded again");
    drain(runtime);
    [forward.unwrap(), failed.unwrap()]
}

/// Libtorch throws: its operation gives an error.
#[test]
fn an_exception_fails_its_task_only() {
    limited("an_exception_fails_its_task_only", || {
        let [forward, backward] = only_the_bad_task_fails(picky(|x| x.f_matmul(&x.f_reshape([1, -1, 3])?)));
        for error in [forward, backward] {
            let error = skep_runtime_core::Chain(&error).to_string();
            assert!(error.starts_with("batch failed: block `picky` failed: "), "{error}");
            assert!(error.contains("shape '[1, -1, 3]' is invalid"), "{error}");
            assert!(!error.contains("frame #"), "{error}");
        }
    });
}

/// Panics with `words` in their message are expected, and this one comes with a long stack.
fn keep_off_the_terminal(words: &'static str) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload_as_str().is_some_and(|message| message.contains(words)) {
            usual(info);
        }
    }));
}

/// Libtorch throws, and tch makes a panic of it.
#[test]
fn a_panic_of_an_operator_fails_its_task_only() {
    keep_off_the_terminal("cannot be multiplied");
    limited("a_panic_of_an_operator_fails_its_task_only", || {
        let wrong: Wrong = |x| Ok(x.matmul(&Tensor::f_zeros([3, 3], (Kind::Float, x.device()))?));
        for error in only_the_bad_task_fails(picky(wrong)) {
            let error = error.batch_error().unwrap();
            assert!(matches!(error, BatchError::Panic { .. }), "{error}");
            assert!(error.to_string().contains("cannot be multiplied"), "{error}");
        }
    });
}

/// An allocation that no machine can make has a type of its own.
#[test]
fn out_of_memory_fails_its_task_only_and_is_typed() {
    limited("out_of_memory_fails_its_task_only_and_is_typed", || {
        let wrong: Wrong = |x| Tensor::f_zeros([1 << 50], (Kind::Float, x.device()));
        for error in only_the_bad_task_fails(picky(wrong)) {
            let error = error.batch_error().unwrap();
            let is_typed = error.is_out_of_memory("cpu");
            assert!(is_typed, "{error}");
        }
    });
}

/// A module of somebody else's throws, from inside libtorch's interpreter.
#[test]
fn an_exception_of_a_script_fails_its_task_only() {
    limited("an_exception_of_a_script_fails_its_task_only", || {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("picky.pt");
        let source = "
def forward(self, x):
    assert bool((x >= 0.0).all()), 'no negative numbers'
    return x * 1.0
";
        TorchScript::save(&file, source, &[]).unwrap();
        let block = TchBlock::of("picky", TorchScript::new(file, schema("x"))).unwrap();
        for error in only_the_bad_task_fails(block) {
            assert!(skep_runtime_core::Chain(&error).to_string().contains("no negative numbers"), "{error}");
        }
    });
}

/// A file of somebody else's that another process, or a disk, has written over and cut.
#[test]
fn a_script_that_was_written_over_is_refused_or_loads() {
    for_all(damage(), |damage| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("block.pt");
        let source = "def forward(self, x):\n    return x * self.scale\n";
        let scale = Tensor::from_slice(&[1.0_f32, 2.0]);
        TorchScript::save(&file, source, &[("scale", scale, true)]).unwrap();
        damage.to(&file, None);
        let inputs = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[2])]).unwrap();
        let block = TchBlock::of("b", TorchScript::new(file, inputs)).unwrap();
        if let Ok(mut block) = Alone::<Tch>::load(block) {
            block.forward(&[HostTensor::from_f32(&[1, 2], &[3.0, 4.0]).unwrap()]).ok();
        }
    });
}
