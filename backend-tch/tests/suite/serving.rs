//! Blocks behind pools, on the runtime's own threads.

use crate::{assert_close, loaded, noise, tensor, values};
use skep_backend_tch::blocks::{Activation, Ffn, TorchScript};
use skep_backend_tch::pool::{Serve, ServeOptions};
use skep_backend_tch::prelude::*;
use skep_backend_tch::runtime::DType;
use skep_backend_tch::runtime::{RuntimeBuilder, Shutdown};
use std::slice::from_ref;
use std::thread;
use std::time::Duration;

const LIMIT: Duration = Duration::from_mins(1);

fn ffn() -> TchBlock {
    let ffn = Ffn { input: 6, hidden: 12, output: 4, activation: Activation::Gelu };
    TchBlock::of("ffn", ffn).unwrap().with_seed(3)
}

#[test]
fn many_callers_get_what_the_block_alone_gives() {
    let options = CpuOptions::default().threads(Some(1));
    let mut builder = RuntimeBuilder::new(TchDevice::cpu_with(options));
    let served = builder.serve(ffn(), ServeOptions::default()).unwrap();
    let runtime = builder.start().unwrap();
    let answers: Vec<Vec<f32>> = thread::scope(|scope| {
        let call = |seed: u32| {
            let pool = &served.forward;
            scope.spawn(move || {
                let rows = usize::try_from(seed % 3).unwrap() + 1;
                let tickets = (0..20).map(|_| pool.submit(vec![noise(&[rows, 6], seed)]).unwrap());
                let tickets: Vec<_> = tickets.collect();
                tickets.into_iter().flat_map(|t| values(&t.wait().unwrap()[0])).collect()
            })
        };
        let callers: Vec<_> = (0..6).map(call).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();

    let mut alone = loaded(ffn());
    for (seed, answers) in (0..).zip(&answers) {
        let rows = usize::try_from(seed % 3).unwrap() + 1;
        let expected = values(&alone.forward(&[noise(&[rows, 6], seed)]).unwrap()[0]);
        assert_close(answers, &expected.repeat(20), 1e-5);
    }
}

#[test]
fn a_training_step_through_a_pool_is_the_blocks_own() {
    let sgd = || Optimizer::sgd(Sgd::default().learning_rate(0.1));
    let mut builder = RuntimeBuilder::new(TchDevice::cpu());
    let served = builder.serve(ffn().with_optimizer(sgd()).unwrap(), ServeOptions::default()).unwrap();
    let runtime = builder.start().unwrap();
    let (x, gradient) = (noise(&[2, 6], 1), noise(&[2, 4], 2));
    let task = vec![x.shallow_clone(), gradient.shallow_clone()];
    let got = served.backward.as_ref().unwrap().submit(task).unwrap().wait().unwrap();
    let after = served.forward.submit(vec![x.shallow_clone()]).unwrap().wait().unwrap();
    runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();

    let mut alone = loaded(ffn().with_optimizer(sgd()).unwrap());
    let expected = alone.backward(from_ref(&x), from_ref(&gradient)).unwrap();
    assert_close(&values(&got[0]), &values(&expected[0]), 1e-6);
    assert_close(&values(&after[0]), &values(&alone.forward(&[x]).unwrap()[0]), 1e-6);
}

#[test]
fn an_exception_of_libtorch_reaches_its_caller_and_the_runtime_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("picky.pt");
    let source = "
def forward(self, x):
    assert bool((x >= 0.0).all()), 'no negative numbers'
    return x
";
    TorchScript::save(&file, source, &[]).unwrap();
    let inputs = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[1])]).unwrap();
    let mut builder = RuntimeBuilder::new(TchDevice::cpu());
    let served = builder
        .serve(TchBlock::of("picky", TorchScript::new(file, inputs)).unwrap(), ServeOptions::default())
        .unwrap();
    let runtime = builder.start().unwrap();
    let ask = |value: f32| served.forward.submit(vec![tensor(&[1, 1], &[value])]).unwrap().wait();
    assert_eq!(values(&ask(2.0).unwrap()[0]), [2.0]);
    let error = skep_backend_tch::runtime::Chain(&ask(-1.0).unwrap_err()).to_string();
    assert!(error.contains("block `picky` failed: ") && error.contains("no negative numbers"), "{error}");
    assert_eq!(values(&ask(3.0).unwrap()[0]), [3.0]);
    runtime.shutdown(Shutdown::Drain, LIMIT).unwrap();
}
