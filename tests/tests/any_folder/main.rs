//! No bytes in any file of a model folder cause a panic, an abort, or more memory than a stated multiple of the file:
//! the folder is refused, or read, and what was read can be used.
//!
//! A process of its own, because it counts the memory of the process; and one test, so that nothing else is counted.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

mod unsafe_peak;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config as Cases, TestRunner};
use serde_json::Value;
use skep_models::Model;
use skep_runtime_core::{Backend, DType, HostTensor, TensorOps};
use skep_tests::Learner;
use skep_toolkit::Config;
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use unsafe_peak::most_at_once;

/// What the crate promises, beside the tables that regular expressions are made into.
const MULTIPLE: usize = 64;
const BESIDE: usize = 24 << 20;

/// One of each family, kind, and way to be stored.
const FOLDERS: [&str; 10] = [
    "bert_joined_dense",
    "bert_sharded",
    "bert_cross_encoder",
    "bert_prompts_left_out",
    "roberta_token",
    "xlm_roberta_cross_encoder",
    "mpnet_embedding",
    "modernbert_mean_head",
    "nomic_bert_published",
    "qwen3_sequence",
];

#[derive(Clone, Debug)]
enum Damage {
    /// Bytes over others.
    Over(Index, Vec<u8>),
    /// The file ends, or goes on.
    Length(Index),
    /// Another value for some key, at any depth.
    Value(Index, Value),
    /// What stands in the first eight bytes.
    Head(u64),
}

fn damage() -> impl Strategy<Value = Damage> {
    let over = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..24),
        "[0-9,.:e\\[\\]{}\"-]{1,12}".prop_map(String::into_bytes),
    ];
    let values = [
        "0",
        "1",
        "2",
        "-1",
        "7",
        "65536",
        "268435456",
        "4294967296",
        "18446744073709551615",
        "1e300",
        "0.5",
        "null",
        "true",
        "false",
        "[]",
        "{}",
        "\"\"",
        "\"x\"",
        "\"Sequence\"",
        "\"gelu\"",
        "[[]]",
        "[0]",
        "[\"a\",1]",
        "{\"a\":{}}",
        "\"/////wAAAAA=\"",
        "\"AAQAAP////8\"",
        "\"(a*)*b\"",
        "\"..\"",
        "\"/\"",
    ];
    let values: Vec<Value> = values.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    prop_oneof![
        3 => (any::<Index>(), over).prop_map(|(at, bytes)| Damage::Over(at, bytes)),
        1 => any::<Index>().prop_map(Damage::Length),
        6 => (any::<Index>(), prop::sample::select(values)).prop_map(|(at, value)| Damage::Value(at, value)),
        1 => any::<u64>().prop_map(Damage::Head),
    ]
}

impl Damage {
    fn to(&self, file: &Path) {
        let mut bytes = fs::read(file).unwrap();
        match self {
            Self::Over(at, over) => {
                let at = at.index(bytes.len().max(1)).min(bytes.len());
                let end = bytes.len().min(at + over.len());
                bytes[at..end].copy_from_slice(&over[..end - at]);
            }
            Self::Length(at) => {
                let length = at.index(2 * bytes.len() + 1);
                bytes.resize(length, b'0');
            }
            Self::Value(at, value) => {
                let head = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
                let is_head = file.extension().is_some_and(|it| it == "safetensors");
                let end = usize::try_from(head).unwrap().saturating_add(8);
                let range = if is_head { 8..end } else { 0..bytes.len() };
                // Damaged already, perhaps.
                let json = bytes.get(range.clone()).and_then(|json| serde_json::from_slice(json).ok());
                let Some(mut json) = json else { return };
                let count = nodes(&mut json, None, &mut 0);
                nodes(&mut json, Some((at.index(count), value)), &mut 0);
                let json = json.to_string().into_bytes();
                let data = bytes.split_off(range.end);
                bytes = if is_head { (json.len() as u64).to_le_bytes().to_vec() } else { Vec::new() };
                bytes.extend(json);
                bytes.extend(data);
            }
            Self::Head(length) => {
                let length = length.to_le_bytes();
                let end = bytes.len().min(8);
                bytes[..end].copy_from_slice(&length[..end]);
            }
        }
        fs::write(file, bytes).unwrap();
    }
}

/// Counts the values in a value, and replaces one of them.
fn nodes(value: &mut Value, replace: Option<(usize, &Value)>, seen: &mut usize) -> usize {
    let own = *seen;
    *seen += 1;
    match value {
        Value::Array(list) => {
            for it in list {
                nodes(it, replace, seen);
            }
        }
        Value::Object(map) => {
            for it in map.values_mut() {
                nodes(it, replace, seen);
            }
        }
        _ => {}
    }
    if let Some((place, new)) = replace
        && place == own
    {
        *value = new.clone();
    }
    *seen
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join("models").join("fixtures")
}

/// All files of a folder, as paths in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found.retain(|path| path.file_name().unwrap() != "expected.json");
    found
}

/// Everything that can be done with a model, on a text of one letter.
fn use_it<L: Learner>(folder: &Path, model: &Model) {
    if let Some(tokens) = model.tokens() {
        for text in ["", "a", "the cat 👩‍🚀 é [SEP] </s>"] {
            tokens.count(text).ok();
        }
    }
    let device = L::device();
    let mut block = L::block("text_model", "model", &Config::new().with("directory", folder.display()), None);
    if block.load(&device).is_err() {
        return;
    }
    let row = |_| {
        let host = HostTensor::from_u32(&[1, 2], &[1, 1]).unwrap();
        assert_eq!(host.dtype(), DType::U32);
        device.from_host(&host).unwrap()
    };
    block.forward(&(0..model.inputs().len()).map(row).collect::<Vec<_>>()).ok();
}

fn any_bytes<L: Learner>() {
    // `PROPTEST_CASES` asks for more.
    let cases = Cases::default().cases.max(600);
    let mut runner = TestRunner::new(Cases { cases, failure_persistence: None, ..Cases::default() });
    let damages =
        (prop::sample::select(FOLDERS.to_vec()), any::<Index>(), prop::collection::vec(damage(), 1..3));
    let (read, most) = (Cell::new(0), Cell::new(0.0_f64));
    runner
        .run(&damages, |(name, which, damages)| {
            let folder = tempfile::tempdir().unwrap();
            let from = fixtures().join(name);
            for file in files(&from) {
                let to = folder.path().join(file.strip_prefix(&from).unwrap());
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::copy(file, to).unwrap();
            }
            let all = files(folder.path());
            // The second on a file that is another by then.
            for (damage, file) in damages.iter().zip([which.index(all.len()), 0]) {
                damage.to(&all[file]);
            }
            let bytes: u64 = all.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
            let (model, taken) = most_at_once(|| Model::read(folder.path()));
            let allowed = MULTIPLE * usize::try_from(bytes).unwrap() + BESIDE;
            prop_assert!(taken <= allowed, "{taken} bytes for {bytes} of {name}");
            most.set(most.get().max(taken as f64 / bytes as f64));
            if let Ok(model) = model {
                read.set(read.get() + 1);
                use_it::<L>(folder.path(), &model);
            }
            Ok(())
        })
        .unwrap();
    let (read, most) = (read.get(), most.get());
    println!(
        "{cases} damaged folders: {read} are read, the others refused; at most {most:.0} times the files' bytes at once"
    );
    assert!((cases / 20..cases - cases / 20).contains(&read), "the damage is none, or all there is: {read}");
}

#[cfg(feature = "candle")]
#[test]
fn any_bytes_are_refused_or_served() {
    any_bytes::<skep_tests::backends::Candle>();
}

#[cfg(all(feature = "ort", not(any(feature = "candle", feature = "tch"))))]
#[test]
fn any_bytes_are_refused_or_served() {
    any_bytes::<skep_tests::backends::Ort>();
}

#[cfg(all(feature = "tch", not(feature = "candle")))]
#[test]
fn any_bytes_are_refused_or_served() {
    any_bytes::<skep_tests::backends::Tch>();
}
