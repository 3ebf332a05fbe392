//! How modules are called, and what they give.

use crate::torch_script::{rows, write};
use crate::{assert_close, loaded, noise, tensor, values};
use skep_backend_tch::blocks::{Spec, TorchScript, Value};
use skep_backend_tch::prelude::*;
use skep_backend_tch::runtime::{Chain, DType, Fit};
use std::slice::from_ref;

/// Where a result's tensors were in it is what the outputs are called; None is left out.
#[test]
fn results_of_any_shape_keep_their_names() {
    let folder = tempfile::tempdir().unwrap();
    for (source, expected) in [
        ("def forward(self, x):\n    return {'logits': x + 1.0, 'hidden': x}\n", &["logits", "hidden"][..]),
        (
            "def forward(self, x):\n    return x, (x * 2.0, [x, x])\n",
            &["output_0", "output_1.0", "output_1.1.0", "output_1.1.1"],
        ),
        (
            "def forward(self, x):\n    y: Optional[Tensor] = None\n    return {'a': [x, x]}, y\n",
            &["output_0.a.0", "output_0.a.1"],
        ),
        ("def forward(self, x):\n    return x\n", &["output_0"]),
    ] {
        let file = write(folder.path(), source, &[]);
        let mut builder = RuntimeBuilder::new(TchDevice::cpu());
        let block = TchBlock::of("block", TorchScript::new(file, rows(&[2]))).unwrap();
        let served = builder.serve(block, ServeOptions::default()).unwrap();
        let names: Vec<_> =
            served.info.outputs.as_ref().unwrap().tensors().iter().map(TensorSpec::name).collect();
        assert_eq!(names, expected, "{source}");
    }
    let file = write(folder.path(), "def forward(self, x):\n    return x, 3\n", &[]);
    let mut block = loaded(TchBlock::of("block", TorchScript::new(file, rows(&[2]))).unwrap());
    let message = Chain(&*block.forward(&[noise(&[1, 2], 1)]).unwrap_err()).to_string();
    assert!(message.contains("method gave Int as `1`, expected Tensor"), "{message}");
    let file =
        write(folder.path(), "def forward(self, x):\n    y: Optional[Tensor] = None\n    return y\n", &[]);
    let mut block = loaded(TchBlock::of("block", TorchScript::new(file, rows(&[2]))).unwrap());
    let message = Chain(&*block.forward(&[noise(&[1, 2], 1)]).unwrap_err()).to_string();
    assert!(message.contains("method gave no tensor"), "{message}");
}

/// Arguments beside tensors, optional ones, another method; what is missing or too much is named.
#[test]
fn methods_are_called_with_what_they_need() {
    const SOURCE: &str = "
def forward(self, x, rate: int, mask: Optional[Tensor] = None, scale: float = 2.0):
    y = x * scale + rate
    return y if mask is None else y * mask

def negated(self, x):
    return -x
";
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), SOURCE, &[]);
    let script = |inputs| TorchScript::new(&file, inputs);
    let two = || {
        let spec = |name| TensorSpec::rows(name, DType::F32, &[2]);
        Schema::new(vec![spec("x"), spec("mask")]).unwrap()
    };
    let run = |script: TorchScript, inputs: &[Tensor]| {
        values(&loaded(TchBlock::of("block", script).unwrap()).forward(inputs).unwrap()[0])
    };
    let (x, mask) = (tensor(&[1, 2], &[1.0, 2.0]), tensor(&[1, 2], &[1.0, 0.0]));
    let rated = script(rows(&[2])).with_argument("rate", Value::Int(10));
    assert_close(&run(rated.clone(), from_ref(&x)), &[12.0, 14.0], 1e-6);
    let scaled = rated.clone().with_argument("scale", Value::Float(0.5));
    assert_close(&run(scaled, from_ref(&x)), &[10.5, 11.0], 1e-6);
    let masked = script(two()).with_argument("rate", Value::Int(10));
    assert_close(&run(masked, &[x.shallow_clone(), mask]), &[12.0, 0.0], 1e-6);
    assert_close(&run(script(rows(&[2])).with_method("negated"), from_ref(&x)), &[-1.0, -2.0], 1e-6);

    for (script, expected) in [
        (script(rows(&[2])), "argument `rate` of the method is int and has no default"),
        (
            rated.clone().with_argument("rat", Value::Int(1)),
            "no argument `rat`, expected one of `x`, `rate`, `mask`, `scale`",
        ),
        (rated.clone().with_method("backward"), "no method `backward`, expected one of `forward`, `negated`"),
        (rated.with_method("part.forward"), "module has no part `part`"),
        (script(two()).with_method("negated"), "method takes 1 tensors, and there are 2 inputs"),
    ] {
        let mut block = TchBlock::of("block", script).unwrap();
        let message = Chain(&*block.load(&TchDevice::cpu()).unwrap_err()).to_string();
        assert!(message.contains(expected), "{message}");
    }
    let settings = format!("file={}, inputs=x:f32[2], arguments=rate:10 scale:0.5", file.display());
    let script = TorchScript::from_config(&settings.parse().unwrap()).unwrap();
    assert_close(&run(script, from_ref(&x)), &[10.5, 11.0], 1e-6);
}

/// A module that remembers is refused; its memory may be rows, and then callers do not see each other's.
#[test]
fn state_inside_is_found_out_or_passed_as_rows() {
    const SUM: &str = "
def forward(self, x):
    self.sum = self.sum + x
    return self.sum * 1.0
";
    const IN_PLACE: &str = "
def forward(self, x):
    self.sum.add_(1.0)
    return x + self.sum
";
    const SELDOM: &str = "
def forward(self, x):
    if bool((x > 100.0).all()):
        self.sum[0].add_(x[0])
    return x + self.sum
";
    const COUNTED: &str = "
def forward(self, x):
    if self.training:
        self.sum.add_(1.0)
    return x * 1.0
";
    let folder = tempfile::tempdir().unwrap();
    let sum = || [("sum", tensor(&[1, 2], &[0.0, 0.0]), false)];
    let file = write(folder.path(), SUM, &sum());
    let message = {
        let mut block = TchBlock::of("sum", TorchScript::new(&file, rows(&[2]))).unwrap();
        Chain(&*block.load(&TchDevice::cpu()).unwrap_err()).to_string()
    };
    assert!(
        message.contains("module keeps state in `sum`, which would pass from one caller to the next"),
        "{message}"
    );

    let spec = |name| TensorSpec::rows(name, DType::F32, &[2]);
    let inputs = Schema::new(vec![spec("x"), spec("so_far")]).unwrap();
    let script = TorchScript::new(&file, inputs).with_state("so_far", "sum", 0);
    let mut block = loaded(TchBlock::of("sum", script.clone()).unwrap());
    let (x, before) = (tensor(&[2, 2], &[1.0, 2.0, 3.0, 4.0]), tensor(&[2, 2], &[10.0, 20.0, 0.0, 0.0]));
    for _ in 0..2 {
        let outputs = block.forward(&[x.shallow_clone(), before.shallow_clone()]).unwrap();
        assert_close(&values(&outputs[0]), &[11.0, 22.0, 3.0, 4.0], 1e-6);
        assert_close(&values(&outputs[1]), &[11.0, 22.0, 3.0, 4.0], 1e-6);
    }
    let error = TchBlock::of("sum", script.with_state("other", "sum", 0)).err().unwrap().to_string();
    assert!(error.contains("`states` is `other`, expected one of the inputs"), "{error}");

    // Also where it is changed now and then, or through a view of it.
    for source in [IN_PLACE, SELDOM] {
        let file = write(folder.path(), source, &sum());
        let mut block = TchBlock::of("sum", TorchScript::new(file, rows(&[2]))).unwrap();
        let message = Chain(&*block.load(&TchDevice::cpu()).unwrap_err()).to_string();
        assert!(message.contains("module changes `sum` in place, which would pass"), "{message}");
    }
    // What is changed in training only is a buffer, as a batch norm's count is.
    let file = write(folder.path(), COUNTED, &sum());
    let mut block = loaded(TchBlock::of("sum", TorchScript::new(file, rows(&[2]))).unwrap());
    block.backward(&[noise(&[1, 2], 1)], &[noise(&[1, 2], 2)]).unwrap();
    assert_eq!(block.state().unwrap().parameters["sum"].to_f32().unwrap(), [1.0, 1.0]);
}

/// Its inputs are its callers'.
#[test]
fn a_module_that_writes_to_its_inputs_gets_copies() {
    let folder = tempfile::tempdir().unwrap();
    let source = "def forward(self, x):\n    x += 1.0\n    return x * self.w\n";
    let file = write(folder.path(), source, &[("w", tensor(&[2], &[2.0, 3.0]), true)]);
    let block = TchBlock::of("block", TorchScript::new(file, rows(&[2]))).unwrap();
    let mut block = loaded(block.with_optimizer(Optimizer::sgd(Sgd::default())).unwrap());
    let x = tensor(&[1, 2], &[1.0, 2.0]);
    for _ in 0..2 {
        assert_eq!(values(&block.forward(from_ref(&x)).unwrap()[0]), [4.0, 9.0]);
        assert_eq!(values(&x), [1.0, 2.0]);
    }
    let gradient = block.backward(from_ref(&x), &[tensor(&[1, 2], &[1.0, 1.0])]).unwrap();
    assert_eq!((values(&gradient[0]), values(&x)), (vec![2.0, 3.0], vec![1.0, 2.0]));
}

/// Dropout of a module's own goes on after a restart as if there had been none, and draws nothing from anybody else.
#[test]
fn a_module_s_random_numbers_are_part_of_its_state() {
    let folder = tempfile::tempdir().unwrap();
    let source = "
def forward(self, x):
    return torch.dropout(x * self.w, 0.5, self.training)
";
    let file = write(folder.path(), source, &[("w", tensor(&[64], &[1.0; 64]), true)]);
    let new = |seed| {
        let block = TchBlock::of("block", TorchScript::new(&file, rows(&[64]))).unwrap().with_seed(seed);
        loaded(block.with_optimizer(Optimizer::sgd(Sgd::default().learning_rate(0.01))).unwrap())
    };
    let (x, gradient) = (noise(&[4, 64], 1), noise(&[4, 64], 2));
    let step = |block: &mut TchBlock| values(&block.backward(from_ref(&x), from_ref(&gradient)).unwrap()[0]);
    let mut whole = new(1);
    let first = [step(&mut whole), step(&mut whole)];
    let zeros = |values: &[f32]| values.iter().map(|v| *v == 0.0).collect::<Vec<_>>();
    assert_ne!(zeros(&first[0]), zeros(&first[1]));
    let saved = whole.state().unwrap();
    let next = [step(&mut whole), step(&mut whole)];
    let mut restarted = new(9);
    restarted.restore(&saved, Fit::Exact).unwrap();
    assert_eq!([step(&mut restarted), step(&mut restarted)], next);
    assert_eq!(restarted.state().unwrap(), whole.state().unwrap());
}
