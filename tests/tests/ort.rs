//! The suite on ONNX Runtime, and what only ONNX files can do wrong.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use proptest::prelude::*;
use skep_backend_ort::blocks::Onnx;
use skep_backend_ort::{OrtBlock, Registry};
use skep_models::{Model, Precision};
use skep_runtime_core::{Chain, DType, Dim, HostTensor};
use skep_tests::backends::Ort;
use skep_tests::kit::{Alone, damage, for_all};
use skep_tests::{Learner, conformance, inference};
use skep_toolkit::Config;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

conformance!(Ort);
inference!(Ort, "backend ort has no backward pass, and no parameters apart from its graphs");

/// What protocol buffers are made of, so that files can be wrong in ways that no writer would make them.
mod message {
    pub(super) fn varint(mut number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
            number >>= 7;
        }
        bytes.push(u8::try_from(number).unwrap());
        bytes
    }

    pub(super) fn number(field: u64, number: u64) -> Vec<u8> {
        [varint(field << 3), varint(number)].concat()
    }

    pub(super) fn bytes(field: u64, bytes: &[u8]) -> Vec<u8> {
        [varint(field << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
    }

    pub(super) fn text(field: u64, text: &str) -> Vec<u8> {
        bytes(field, text.as_bytes())
    }
}

use message::{bytes, number, text};

fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| text(1, input)).collect();
    bytes(1, &[inputs, text(2, output), text(4, operator)].concat())
}

/// An input (11) or output (12); an empty dim is free without a name, a number is fixed.
fn outlet(field: u64, name: &str, code: u64, dims: &[&str]) -> Vec<u8> {
    let dim = |dim: &&str| match dim.parse::<u64>() {
        Ok(size) => bytes(1, &number(1, size)),
        Err(_) => bytes(1, &text(2, dim)),
    };
    let shape: Vec<u8> = dims.iter().flat_map(dim).collect();
    let kind = bytes(1, &[number(1, code), bytes(2, &shape)].concat());
    bytes(field, &[text(1, name), bytes(2, &kind)].concat())
}

fn stored(name: &str, code: u64, dims: &[u64], rest: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&dim| number(1, dim)).collect();
    bytes(5, &[dims, number(2, code), text(8, name), rest.to_vec()].concat())
}

fn floats(numbers: &[f32]) -> Vec<u8> {
    bytes(9, &numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>())
}

fn model(graph: &[Vec<u8>]) -> Vec<u8> {
    let graph = [graph.concat(), text(2, "g")].concat();
    [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 17))].concat()
}

/// `y = x · w`, of two columns.
fn scale() -> Vec<Vec<u8>> {
    vec![
        node("Mul", &["x", "w"], "y"),
        stored("w", 1, &[2], &floats(&[2.0, 3.0])),
        outlet(11, "x", 1, &["batch", "2"]),
        outlet(12, "y", 1, &["batch", "2"]),
    ]
}

/// Where a file is written that ends with its test.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, graph: &[Vec<u8>]) -> PathBuf {
        let file = self.0.path().join("model.onnx");
        fs::write(&file, model(graph)).unwrap();
        file
    }
}

/// Loads a file and runs it once, on ones.
fn used(onnx: Onnx) -> Result<Vec<HostTensor>, String> {
    let told = |error: &(dyn std::error::Error + 'static)| Chain(error).to_string();
    let block = OrtBlock::of("b", onnx).map_err(|error| told(&error))?;
    let info = skep_runtime_core::Backend::info(&block);
    let mut block = Alone::<Ort>::load(block).map_err(|error| told(&*error))?;
    let inputs: Vec<HostTensor> = info
        .inputs
        .tensors()
        .iter()
        .map(|spec| {
            let dims: Vec<usize> = spec
                .dims()
                .iter()
                .map(|dim| match *dim {
                    Dim::Batch => 3,
                    Dim::Fixed(size) => size,
                    Dim::Free { .. } => 2,
                })
                .collect();
            let count = dims.iter().product::<usize>();
            HostTensor::new(spec.dtype(), &dims, vec![1; count * spec.dtype().size()]).unwrap()
        })
        .collect();
    block.forward(&inputs).map_err(|error| told(&*error))
}

#[track_caller]
fn refused(graph: &[Vec<u8>], words: &[&str]) {
    let folder = Folder::new();
    let error = used(Onnx::new(folder.file(graph))).unwrap_err();
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
    assert!(error.contains("model.onnx") || error.contains("output"), "the file is not named: {error}");
}

#[test]
fn a_file_is_served_by_what_stands_in_it() {
    let folder = Folder::new();
    let config = Config::new().with("file", folder.file(&scale()).display());
    let block = Registry::with_defaults().build("onnx", "scale", &config).unwrap();
    let info = skep_runtime_core::Backend::info(&block);
    assert!(!info.backward);
    assert_eq!(info.inputs.tensors()[0].dims(), [Dim::Batch, Dim::Fixed(2)]);
    let mut block = Alone::<Ort>::new(block);
    let x = HostTensor::from_f32(&[2, 2], &[1.0, 1.0, 5.0, 7.0]).unwrap();
    assert_eq!(block.forward(&[x]).unwrap()[0].to_f32().unwrap(), [2.0, 3.0, 10.0, 21.0]);
}

#[test]
fn free_dims_need_a_largest_size() {
    let graph = [
        node("Identity", &["x"], "y"),
        outlet(11, "x", 7, &["batch", "tokens"]),
        outlet(12, "y", 7, &["batch", "tokens"]),
    ];
    refused(&graph, &["input `x`", "dim `tokens`", "`with_max`"]);
    let folder = Folder::new();
    assert_eq!(used(Onnx::new(folder.file(&graph)).with_max("tokens", 8)).unwrap()[0].dims(), [3, 2]);
    refused(
        &[node("Identity", &["x"], "y"), outlet(11, "x", 1, &["3", "2"]), outlet(12, "y", 1, &["3", "2"])],
        &["input `x`", "3 rows always"],
    );
    refused(
        &[node("Identity", &["x"], "y"), outlet(11, "x", 1, &["b", ""]), outlet(12, "y", 1, &["b", ""])],
        &["input `x`", "free in dim 1"],
    );
}

#[test]
fn an_operator_that_is_not_known_is_named() {
    let mut graph = scale();
    graph[0] = node("Frobnicate", &["x", "w"], "y");
    refused(&graph, &["Frobnicate"]);
}

#[test]
fn types_that_do_not_fit_are_told() {
    let mut graph = scale();
    graph[1] = stored("w", 7, &[2], &bytes(9, &[0; 16]));
    refused(&graph, &["cannot be loaded"]);
    let mut graph = scale();
    graph[2] = outlet(11, "x", 8, &["batch", "2"]);
    refused(&graph, &["`x`", "element type 8"]);
    let mut graph = scale();
    graph[1] = stored("w", 1, &[2], &floats(&[1.0]));
    refused(&graph, &["tensor `w`", "4 bytes", "8 bytes"]);
    let mut graph = scale();
    graph[1] = stored("w", 1, &[u64::MAX, 1 << 40], &[]);
    refused(&graph, &["tensor `w`", "dims"]);
}

#[test]
fn outputs_that_do_not_follow_the_rows_are_refused() {
    // The places of what is not 0: as many columns as there are, one row for each dim.
    let graph = [
        node("NonZero", &["x"], "y"),
        outlet(11, "x", 1, &["batch", "2"]),
        outlet(12, "y", 7, &["batch", "found"]),
    ];
    refused(&graph, &["output `y`", "of dims [2, 6]", "3 rows"]);
    // A text has no bytes that the runtime knows.
    let graph =
        [node("Identity", &["x"], "y"), outlet(11, "x", 1, &["batch", "2"]), bytes(12, &text(1, "y"))];
    refused(&graph, &["`y`", "no tensor"]);
}

/// An entry of a tensor's external data.
fn entry(key: &str, value: &str) -> Vec<u8> {
    bytes(13, &[text(1, key), text(2, value)].concat())
}

fn external(entries: &[(&str, &str)]) -> Vec<Vec<u8>> {
    let entries: Vec<u8> = entries.iter().flat_map(|(key, value)| entry(key, value)).collect();
    let mut graph = scale();
    graph[1] = stored("w", 1, &[2], &[entries, number(14, 1)].concat());
    graph
}

#[test]
fn data_beside_the_file_is_found_or_told() {
    refused(&external(&[("location", "w.bin")]), &["w.bin", "cannot be read"]);
    for outside in ["/etc/passwd", "../w.bin", ""] {
        refused(&external(&[("location", outside)]), &["tensor `w`", "folder of the ONNX file"]);
    }
    let folder = Folder::new();
    fs::write(folder.0.path().join("w.bin"), [0, 0, 0, 64, 0, 0, 64, 64]).unwrap();
    let file = |entries| Onnx::new(folder.file(&external(entries)));
    let whole = file(&[("location", "w.bin"), ("offset", "0"), ("length", "8")]);
    assert_eq!(used(whole).unwrap()[0].dims(), [3, 2]);
    for (entries, word) in [
        (&[("location", "w.bin"), ("offset", "4"), ("length", "8")][..], "at byte 4"),
        (&[("location", "w.bin"), ("length", "4")], "4 bytes"),
        (&[("location", "w.bin"), ("offset", "18446744073709551615"), ("length", "8")], "at byte"),
        (&[("location", "w.bin"), ("offset", "-1")], "offset `-1`"),
    ] {
        let error = used(file(entries)).unwrap_err();
        assert!(error.contains("tensor `w`") && error.contains(word), "{error}");
    }
}

#[test]
fn what_is_no_file_of_this_kind_is_told() {
    let folder = Folder::new();
    let file = folder.0.path().join("model.onnx");
    let error = used(Onnx::new(&file)).unwrap_err();
    assert!(error.contains("model.onnx cannot be read"), "{error}");
    for bytes in [&b""[..], b"not an ONNX file", &[0xff; 100], &[0x3a, 0xff, 0xff, 0xff, 0x7f]] {
        fs::write(&file, bytes).unwrap();
        let error = used(Onnx::new(&file)).unwrap_err();
        assert!(error.contains("model.onnx is not a whole ONNX file"), "{error}");
    }
    // Graphs within graphs, so deep that a reader that follows them would run out of its stack.
    let mut graph = Vec::new();
    for _ in 0..5000 {
        graph = bytes(1, &bytes(5, &bytes(6, &graph)));
    }
    refused(&[graph], &["a graph", "deep"]);
}

fn minilm_like() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models/fixtures/bert_mean");
    let model = Arc::new(Model::read(folder).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("model.onnx");
    skep_backend_ort::blocks::TextModel { model, precision: Precision::F32 }.save(&file).unwrap();
    fs::read(file).unwrap()
}

/// A file of somebody else's that another process, or a disk, has written over and cut.
#[test]
fn a_file_that_was_written_over_is_refused_or_runs() {
    let (whole, small) = (minilm_like(), model(&scale()));
    for_all((damage(), any::<bool>()), |(damage, is_small)| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.onnx");
        fs::write(&file, if is_small { &small } else { &whole }).unwrap();
        damage.to(&file, None);
        used(Onnx::new(file).with_max("tokens", 16)).ok();
    });
}

#[test]
fn a_text_model_is_written_as_a_file_that_gives_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    fs::write(&file, minilm_like()).unwrap();
    let block = OrtBlock::of("written", Onnx::new(file).with_max("tokens", 16)).unwrap();
    let mut written = Alone::<Ort>::new(block);
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/data/models/fixtures/bert_mean");
    let config = Config::new().with("directory", directory);
    let mut made = Alone::<Ort>::new(Ort::block("text_model", "made", &config, None));
    let ids = HostTensor::from_u32(&[2, 3], &[1, 2, 3, 4, 5, 6]).unwrap();
    let inputs = [ids, ones(1), ones(0)];
    let [a, b] = [&mut written, &mut made].map(|block| block.forward(&inputs).unwrap().remove(0));
    assert_eq!((a.dtype(), a.dims(), a.bytes()), (DType::F32, b.dims(), b.bytes()));
}

fn ones(value: u32) -> HostTensor {
    HostTensor::from_u32(&[2, 3], &[value; 6]).unwrap()
}
