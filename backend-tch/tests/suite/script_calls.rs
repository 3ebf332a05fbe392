//! How modules are called, and what they give.

use crate::torch_script::{rows, write};
use crate::{assert_close, loaded, noise, tensor, values};
use skep_backend_tch::blocks::{Spec, TorchScript, Value};
use skep_backend_tch::prelude::*;
use skep_backend_tch::runtime::{Chain, DType};
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

    let file = write(folder.path(), IN_PLACE, &sum());
    let mut block = loaded(TchBlock::of("sum", TorchScript::new(file, rows(&[2]))).unwrap());
    let message = Chain(&*block.forward(&[noise(&[1, 2], 1)]).unwrap_err()).to_string();
    assert!(message.contains("module changes `sum` in place"), "{message}");
}
