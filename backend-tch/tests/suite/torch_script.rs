//! `TorchScript` files, made here, as blocks.

use crate::{assert_close, dims, loaded, noise, tensor, values};
use skep_backend_tch::blocks::{ScriptError, Spec, TorchScript};
use skep_backend_tch::prelude::*;
use skep_backend_tch::runtime::{Chain, DType, Fit, RuntimeBuilder};
use std::fs;
use std::path::{Path, PathBuf};
use std::slice::from_ref;

const LINEAR: &str = "
def forward(self, x):
    return torch.matmul(x, self.weight.t()) + self.bias
";

pub(crate) fn rows(dims: &[usize]) -> Schema {
    Schema::new(vec![TensorSpec::rows("x", DType::F32, dims)]).unwrap()
}

pub(crate) fn write(folder: &Path, source: &str, values: &[(&str, Tensor, bool)]) -> PathBuf {
    let file = folder.join("block.pt");
    TorchScript::save(&file, source, values).unwrap();
    file
}

fn linear(folder: &Path) -> TchBlock {
    let values = [("weight", noise(&[2, 3], 1), true), ("bias", noise(&[2], 2), true)];
    TchBlock::of("linear", TorchScript::new(write(folder, LINEAR, &values), rows(&[3]))).unwrap()
}

/// `x w^T + b`, written out.
fn by_hand(x: &Tensor) -> Vec<f32> {
    let (w, b) = (values(&noise(&[2, 3], 1)), values(&noise(&[2], 2)));
    let row = |x: &[f32]| [0, 1].map(|o| (0..3).map(|i| x[i] * w[3 * o + i]).sum::<f32>() + b[o]);
    values(x).chunks(3).flat_map(row).collect()
}

#[test]
fn a_module_is_served_forward() {
    let folder = tempfile::tempdir().unwrap();
    let mut block = loaded(linear(folder.path()));
    let x = noise(&[4, 3], 3);
    let y = block.forward(from_ref(&x)).unwrap();
    assert_eq!(dims(&y[0]), [4, 2]);
    assert_close(&values(&y[0]), &by_hand(&x), 1e-6);
    assert!(!y[0].requires_grad());
}

#[test]
fn a_module_is_trained_where_its_parameters_allow_it() {
    let folder = tempfile::tempdir().unwrap();
    let sgd = || Optimizer::sgd(Sgd::default().learning_rate(1.0));
    let mut block = loaded(linear(folder.path()).with_optimizer(sgd()).unwrap());
    let (x, gy) = (noise(&[1, 3], 3), noise(&[1, 2], 4));
    let gradients = block.backward(from_ref(&x), from_ref(&gy)).unwrap();

    let (w, x, gy) = (values(&noise(&[2, 3], 1)), values(&x), values(&gy));
    let expected = [0, 1, 2].map(|i| gy[0] * w[i] + gy[1] * w[3 + i]);
    assert_close(&values(&gradients[0]), &expected, 1e-6);
    let stepped: Vec<f32> = (0..6).map(|i| w[i] - gy[i / 3] * x[i % 3]).collect();
    let state = block.state().unwrap();
    assert_close(&state.parameters["weight"].to_f32().unwrap(), &stepped, 1e-6);

    // The next inference sees the step, and so does a block that is restored.
    let probe = noise(&[2, 3], 5);
    let after = values(&block.forward(from_ref(&probe)).unwrap()[0]);
    assert_ne!(after, by_hand(&probe));
    let mut other = loaded(linear(folder.path()).with_optimizer(sgd()).unwrap());
    other.restore(&state, Fit::Exact).unwrap();
    assert_eq!(values(&other.forward(from_ref(&probe)).unwrap()[0]), after);
}

#[test]
fn what_is_not_a_parameter_is_kept_and_saved_but_not_trained() {
    let folder = tempfile::tempdir().unwrap();
    let source = "def forward(self, x):\n    return x * self.scale + self.offset\n";
    let scale = || tensor(&[2], &[2.0, 3.0]);
    let file = write(folder.path(), source, &[("scale", scale(), false), ("offset", scale(), true)]);
    let block = TchBlock::of("scale", TorchScript::new(file, rows(&[2]))).unwrap();
    let mut block = loaded(block.with_optimizer(Optimizer::sgd(Sgd::default())).unwrap());
    let gradient = block.backward(&[noise(&[1, 2], 1)], &[tensor(&[1, 2], &[1.0, 1.0])]).unwrap();
    assert_eq!(values(&gradient[0]), [2.0, 3.0]);
    let state = block.state().unwrap();
    assert_eq!(state.parameters["scale"].to_f32().unwrap(), [2.0, 3.0]);
    assert_close(&state.parameters["offset"].to_f32().unwrap(), &[1.99, 2.99], 1e-6);
}

#[test]
fn modules_are_in_training_mode_during_a_backward_pass_only() {
    let folder = tempfile::tempdir().unwrap();
    let source = "
def forward(self, x):
    if self.training:
        return x * 10.0
    return x * 2.0
";
    let file = write(folder.path(), source, &[]);
    let mut block = loaded(TchBlock::of("mode", TorchScript::new(file, rows(&[1]))).unwrap());
    let one = tensor(&[1, 1], &[1.0]);
    for _ in 0..2 {
        assert_eq!(values(&block.forward(from_ref(&one)).unwrap()[0]), [2.0]);
        assert_eq!(values(&block.backward(from_ref(&one), from_ref(&one)).unwrap()[0]), [10.0]);
    }
}

#[test]
fn several_outputs_come_as_a_tuple_or_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let tuple = "def forward(self, x):\n    return x, x.sum(1)\n";
    let list = "def forward(self, x):\n    return [x, x.sum(1)]\n";
    for source in [tuple, list] {
        let file = write(folder.path(), source, &[]);
        let mut block = loaded(TchBlock::of("two", TorchScript::new(file, rows(&[2]))).unwrap());
        let outputs = block.forward(&[tensor(&[1, 2], &[1.0, 2.0])]).unwrap();
        assert_eq!((values(&outputs[0]), values(&outputs[1])), (vec![1.0, 2.0], vec![3.0]));
    }
    let file = write(folder.path(), "def forward(self, x):\n    return 1\n", &[]);
    let mut block = loaded(TchBlock::of("number", TorchScript::new(file, rows(&[2]))).unwrap());
    let error = block.forward(&[noise(&[1, 2], 1)]).unwrap_err().to_string();
    assert_eq!(error, "method gave Int, expected Tensor, or tuples, lists and dicts of them");
}

#[test]
fn the_runtime_finds_the_outputs_and_serves_the_module_by_name() {
    let folder = tempfile::tempdir().unwrap();
    linear(folder.path());
    let config =
        Config::new().with("file", folder.path().join("block.pt").display()).with("inputs", "x:f32[3]");
    let block = Registry::with_defaults().build("torch_script", "linear", &config).unwrap();
    assert_eq!(block.info().inputs, rows(&[3]));
    let mut builder = RuntimeBuilder::new(TchDevice::cpu());
    builder.block(block).unwrap();
}

#[test]
fn an_exception_inside_the_module_is_an_error_of_that_batch() {
    let folder = tempfile::tempdir().unwrap();
    let source = "
def forward(self, x):
    assert bool((x > 0.0).all()), 'no negative numbers'
    return x
";
    let file = write(folder.path(), source, &[]);
    let mut block = loaded(TchBlock::of("picky", TorchScript::new(file, rows(&[1]))).unwrap());
    let error = block.forward(&[tensor(&[1, 1], &[-1.0])]).unwrap_err().to_string();
    assert!(error.contains("no negative numbers"), "{error}");
    assert_eq!(values(&block.forward(&[tensor(&[1, 1], &[1.0])]).unwrap()[0]), [1.0]);
}

#[track_caller]
fn load_error(file: &Path) -> String {
    let mut block = TchBlock::of("broken", TorchScript::new(file.to_owned(), rows(&[3]))).unwrap();
    let error = block.load(&TchDevice::cpu()).unwrap_err();
    assert!(error.downcast_ref::<ScriptError>().is_some(), "{error}");
    Chain(&*error).to_string()
}

#[test]
fn a_missing_or_torn_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = load_error(&folder.path().join("nothing.pt"));
    assert!(
        error.starts_with("TorchScript file ") && error.contains("nothing.pt cannot be read: "),
        "{error}"
    );

    linear(folder.path());
    let file = folder.path().join("block.pt");
    let whole = fs::read(&file).unwrap();
    for length in [0, 5, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        let error = load_error(&file);
        assert!(error.contains("is not a whole TorchScript file: "), "{length} bytes: {error}");
        assert!(!error.contains("frame #"), "{error}");
    }
}

#[test]
fn source_that_is_wrong_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("block.pt");
    let error =
        TorchScript::save(&file, "def forward(self, x):\n    return y\n", &[]).unwrap_err().to_string();
    assert!(error.contains("undefined value y"), "{error}");
    assert!(!file.exists());
}

#[test]
fn inputs_are_read_from_settings() {
    let read = |inputs: &str| {
        TorchScript::from_config(&Config::new().with("file", "f.pt").with("inputs", inputs))
            .map(|script| script.inputs)
            .map_err(|error| skep_backend_tch::runtime::Chain(&error).to_string())
    };
    let expected = Schema::new(vec![
        TensorSpec::new("ids", DType::I64, [Dim::Batch, Dim::free("tokens", 128)]),
        TensorSpec::rows("weights", DType::F32, &[3, 4]),
        TensorSpec::rows("label", DType::U8, &[]),
    ]);
    assert_eq!(read("ids:i64[tokens..128] weights:f32[3x4] label:u8[]"), Ok(expected.unwrap()));
    for wrong in ["", "x", "x:f32", "x:f31[3]", "x:f32[3", "x:f32[a]", "x:f32[3x]", ":f32[3]"] {
        let error = read(wrong).unwrap_err();
        assert!(error.contains("expected tensors like `x:f32[3x4]`"), "{wrong}: {error}");
    }
    assert!(read("x:f32[1] x:f32[1]").unwrap_err().contains("`x` is given twice"));
}

/// A module with one tensor under two names, in one step of any optimizer as if it had one.
#[test]
fn a_parameter_with_two_names_steps_once() {
    const TIED: &str = "
def forward(self, x):
    return x * self.a + self.b
";
    const ALONE: &str = "
def forward(self, x):
    return x * self.w + self.w
";
    let (tied, alone) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shared = tensor(&[2], &[1.0, 2.0]);
    let two = [("a", shared.shallow_clone(), true), ("b", shared.shallow_clone(), true)];
    let one = [("w", shared.shallow_clone(), true)];
    let block = |folder: &Path, source, values: &[(&str, Tensor, bool)], optimizer: &Optimizer| {
        let file = write(folder, source, values);
        let block = TchBlock::of("block", TorchScript::new(file, rows(&[2]))).unwrap();
        loaded(block.with_optimizer(optimizer.clone()).unwrap())
    };
    let (x, gy) = (tensor(&[1, 2], &[1.0, 1.0]), tensor(&[1, 2], &[1.0, 1.0]));
    let sgd = Optimizer::sgd(Sgd::default().learning_rate(0.1));
    let mut first = block(tied.path(), TIED, &two, &sgd);
    first.backward(from_ref(&x), from_ref(&gy)).unwrap();
    let stepped = first.state().unwrap().parameters["a"].to_f32().unwrap();
    assert_close(&stepped, &[0.8, 1.8], 1e-6);
    let optimizers =
        [sgd.clone(), sgd.with_max_norm(0.5), Optimizer::adamw(AdamW::default()).with_max_norm(0.5)];
    for optimizer in optimizers {
        let mut tied = block(tied.path(), TIED, &two, &optimizer);
        let mut alone = block(alone.path(), ALONE, &one, &optimizer);
        for seed in 0..3 {
            let (x, gy) = (noise(&[3, 2], seed), noise(&[3, 2], 10 + seed));
            tied.backward(from_ref(&x), from_ref(&gy)).unwrap();
            alone.backward(from_ref(&x), from_ref(&gy)).unwrap();
            let (tied, alone) = (tied.training().unwrap(), alone.training().unwrap());
            assert!((tied.gradient_norm - alone.gradient_norm).abs() < 1e-6, "{tied:?} {alone:?}");
        }
        let (state, alone) = (tied.state().unwrap(), alone.state().unwrap());
        assert_eq!(state.parameters["a"], state.parameters["b"]);
        let values = |tensor: &HostTensor| tensor.to_f32().unwrap();
        assert_close(&values(&state.parameters["a"]), &values(&alone.parameters["w"]), 1e-6);
        assert_eq!(state.optimizer.len(), alone.optimizer.len(), "it is remembered once");
        tied.restore(&state, Fit::Exact).unwrap();
        let mut torn = state.clone();
        torn.parameters.insert("b".to_owned(), HostTensor::from_f32(&[2], &[7.0, 7.0]).unwrap());
        let error = tied.restore(&torn, Fit::Exact).unwrap_err().to_string();
        assert_eq!(error, "`a` and `b` are one parameter, and the state has two values for it");
    }
}

/// Neither of them could be stepped by itself.
#[test]
fn parameters_that_share_a_part_of_their_memory_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let whole = tensor(&[4], &[1.0; 4]);
    let values = [("part", whole.narrow(0, 1, 2), true), ("whole", whole.shallow_clone(), true)];
    let source = "
def forward(self, x):
    return x * self.whole.sum() * self.part.sum()
";
    let file = write(folder.path(), source, &values);
    let mut block = TchBlock::of("block", TorchScript::new(file, rows(&[2]))).unwrap();
    let error = block.load(&TchDevice::cpu()).unwrap_err().to_string();
    assert_eq!(
        error,
        "parameters `whole` and `part` share a part of their memory, expected all of it or none"
    );
}

/// Of half precision as well: two masters' steps are what they would be in f32.
#[test]
fn a_module_of_half_precision_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let scale = tensor(&[3], &[1.0; 3]).f_to_kind(skep_backend_tch::tch::Kind::Half).unwrap();
    let source = "
def forward(self, x):
    return (x.half() * self.scale).float()
";
    let file = write(folder.path(), source, &[("scale", scale, true)]);
    let block = TchBlock::of("block", TorchScript::new(file, rows(&[3]))).unwrap();
    let mut block = loaded(block.with_optimizer(Optimizer::adamw(AdamW::default())).unwrap());
    block.backward(&[tensor(&[1, 3], &[1e-3, 1.0, 0.0])], &[tensor(&[1, 3], &[1.0; 3])]).unwrap();
    let state = block.state().unwrap();
    // PyTorch's AdamW in f32: lr 1e-3 down where there is a gradient, weight decay 1e-5 everywhere.
    let expected = [1.0 - 1e-3 - 1e-5, 1.0 - 1e-3 - 1e-5, 1.0 - 1e-5];
    assert_close(&state.optimizer["master.scale"].to_f32().unwrap(), &expected, 1e-6);
    assert!(state.parameters["scale"].all_finite());
}
