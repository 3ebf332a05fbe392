//! Compiled packages, made by `tests/data/packages/make.py`, beside what Python gives.
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use crate::{assert_close, dims, loaded, tensor, values};
use serde_json::Value;
use skep_backend_tch::blocks::{Package, PackageError, Spec};
use skep_backend_tch::prelude::*;
use skep_backend_tch::runtime::{BoxError, Chain, DType, DeviceError};
use std::path::{Path, PathBuf};
use std::time::Duration;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/packages").join(name)
}

/// The packages are compiled for this system and any processor of this kind.
fn is_here() -> bool {
    let here = cfg!(all(target_os = "linux", target_arch = "x86_64"));
    if !here {
        println!("skipped: the packages of the repository are compiled for Linux on x86-64");
    }
    here
}

fn expected() -> impl Fn(&str) -> Vec<f32> {
    let all: Value =
        serde_json::from_str(include_str!("../../../tests/data/packages/expected.json")).unwrap();
    #[expect(clippy::cast_possible_truncation, reason = "they are f32")]
    move |name| all[name].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

const ROWS: usize = 5;

fn inputs(x: DType, features: usize, scale: usize) -> Schema {
    let rows = |name, dtype, features: usize| TensorSpec::rows(name, dtype, &[features]);
    Schema::new(vec![rows("x", x, features), rows("scale", DType::F32, scale)]).unwrap()
}

/// From many callers, in batches of any size, each gets what Python gives its row.
#[test]
fn a_package_is_served_and_gives_what_python_gives() {
    if !is_here() {
        return;
    }
    let numbers = expected();
    let package = Package::open(file("expert.pt2")).unwrap();
    assert_eq!(package.inputs, inputs(DType::F32, 4, 1), "it tells what it takes");
    let mut builder = RuntimeBuilder::new(TchDevice::cpu());
    let served = builder.serve(TchBlock::of("expert", package).unwrap(), ServeOptions::default()).unwrap();
    assert!(served.backward.is_none());
    let outputs = served.info.outputs.as_ref().unwrap().tensors();
    let outputs: Vec<_> = outputs.iter().map(|spec| format!("{}: {spec}", spec.name())).collect();
    assert_eq!(outputs, ["y: f32 [batch, 3]", "total: f32 [batch]"]);
    let runtime = builder.start().unwrap();
    let row = |name: &str, row: usize, width: usize| numbers(name)[row * width..(row + 1) * width].to_vec();
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let (served, row) = (&served, &row);
            scope.spawn(move || {
                for turn in 0..16 {
                    let at = (caller + turn) % ROWS;
                    let task = vec![tensor(&[1, 4], &row("x", at, 4)), tensor(&[1, 1], &row("scale", at, 1))];
                    let outputs = served.forward.submit(task).unwrap().wait().unwrap();
                    assert_close(&values(&outputs[0]), &row("y", at, 3), 1e-5);
                    assert_close(&values(&outputs[1]), &row("total", at, 1), 1e-5);
                }
            });
        }
    });
    runtime.shutdown(Shutdown::Drain, Duration::from_mins(1)).unwrap();
    let config = Config::new().with("file", file("expert.pt2").display());
    let block = Registry::with_defaults().build("package", "expert", &config).unwrap();
    let mut block = loaded(block);
    let all = [tensor(&[ROWS, 4], &numbers("x")), tensor(&[ROWS, 1], &numbers("scale"))];
    let outputs = block.forward(&all).unwrap();
    assert_eq!((dims(&outputs[0]), dims(&outputs[1])), (vec![ROWS, 3], vec![ROWS]));
    assert_close(&values(&outputs[0]), &numbers("y"), 1e-5);
    let config = config.with("inputs", "x:f32[4] scale:f32[1]");
    assert_eq!(Package::from_config(&config).unwrap().inputs, inputs(DType::F32, 4, 1));
}

#[track_caller]
fn refused(package: Package) -> (BoxError, String) {
    let error = TchBlock::of("block", package).unwrap().load(&TchDevice::cpu()).unwrap_err();
    let message = Chain(&*error).to_string();
    assert!(!message.contains("frame #"), "{message}");
    (error, message)
}

/// What the code does not take is told by the input's name: it would read past the end of it.
#[test]
fn inputs_that_do_not_fit_are_told() {
    if !is_here() {
        return;
    }
    let serve = |inputs| {
        let mut builder = RuntimeBuilder::new(TchDevice::cpu());
        let block = TchBlock::of("block", Package::new(file("expert.pt2"), inputs)).unwrap();
        Chain(&builder.serve(block, ServeOptions::default()).unwrap_err()).to_string()
    };
    let message = serve(inputs(DType::F32, 7, 1));
    assert!(message.contains("input `x`: unmatched dim value at 1, expected: 4, but got: 7"), "{message}");
    let message = serve(inputs(DType::F32, 4, 2));
    assert!(
        message.contains("input `scale`: unmatched dim value at 1, expected: 1, but got: 2"),
        "{message}"
    );
    let message = serve(inputs(DType::F64, 4, 1));
    assert!(message.contains("input `x`: unmatched dtype"), "{message}");
    let one = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[4])]).unwrap();
    let (_, message) = refused(Package::new(file("expert.pt2"), one));
    assert!(message.ends_with("expert.pt2 takes 2 tensors, and there are 1 inputs"), "{message}");
    let (error, message) = refused(Package::open(file("fixed.pt2")).unwrap());
    assert!(matches!(error.downcast_ref(), Some(PackageError::FixedRows { rows: 1, .. })), "{error}");
    assert!(message.contains("export it with dynamic rows"), "{message}");
}

/// For another device, system, processor, or `PyTorch`: told before its code is loaded.
#[test]
fn a_package_for_something_else_is_told() {
    for (name, expected) in [
        ("for_cuda.pt2", "is compiled for device cuda, expected cpu"),
        ("for_darwin.pt2", "is compiled for system darwin, expected linux"),
        ("for_riscv.pt2", "is compiled for processor riscv64, expected x86_64"),
        ("of_torch_2_6.pt2", "is compiled for PyTorch 2.6.0, expected 2.11.0"),
    ] {
        if !is_here() {
            return;
        }
        let (_, message) = refused(Package::new(file(name), inputs(DType::F32, 4, 1)));
        assert!(message.contains(expected), "{name}: {message}");
        let error = Package::open(file(name)).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(PackageError::NoInputs { .. })), "{error}");
    }
}

#[test]
fn a_missing_or_torn_package_is_named() {
    let (_, message) = refused(Package::new(file("nothing.pt2"), inputs(DType::F32, 4, 1)));
    assert!(message.starts_with("package ") && message.contains("nothing.pt2 cannot be read: "), "{message}");
    let folder = tempfile::tempdir().unwrap();
    let torn = folder.path().join("torn.pt2");
    let whole = std::fs::read(file("expert.pt2")).unwrap();
    for length in [0, 5, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&torn, &whole[..length]).unwrap();
        let (_, message) = refused(Package::new(&torn, inputs(DType::F32, 4, 1)));
        assert!(message.contains("torn.pt2 is not a whole compiled package"), "{length} bytes: {message}");
    }
    // A `TorchScript` file is an archive of the same kind.
    let script = folder.path().join("script.pt");
    skep_backend_tch::blocks::TorchScript::save(&script, "def forward(self, x):\n    return x\n", &[])
        .unwrap();
    let (error, message) = refused(Package::new(&script, inputs(DType::F32, 4, 1)));
    assert!(matches!(error.downcast_ref(), Some(PackageError::Torn { .. })), "{message}");
    assert!(error.source().is_some_and(<dyn std::error::Error>::is::<DeviceError>));
}
