use super::*;
use safetensors::tensor::TensorView;
use skep_runtime_core::Chain;

fn file(tensors: &[(&str, Dtype, usize)]) -> Vec<u8> {
    let data = [1; 64];
    let view = |&(name, dtype, count): &(&str, Dtype, usize)| {
        let size = dtype.bitsize() / 8 * count;
        (name.to_owned(), TensorView::new(dtype, vec![count], &data[..size]).unwrap())
    };
    safetensors::serialize(tensors.iter().map(view), None).unwrap()
}

fn refused(name: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    Chain(&Weights::read(&path).unwrap_err()).to_string()
}

#[test]
fn files_of_other_kinds_are_known_by_how_they_begin() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n";
    for (bytes, expected) in [
        (&b""[..], "it is empty"),
        (pointer.as_bytes(), "a pointer of Git LFS, expected a safetensors file: fetch"),
        (b"<!DOCTYPE html><html>", "a page of HTML"),
        (b"\n  <HTML><body>401", "a page of HTML"),
        (b"PK\x03\x04 archive/data.pkl", "pickles can run code; load it in Python"),
        (b"\x80\x02}q\x00(X", "a pickle"),
        (b"GGUF\x03\x00\x00\x00", "a GGUF file"),
        (b"{\"weight_map\": {}}", "text in JSON"),
        (b"\x01\x00\x00", "it has 3 bytes, expected 8"),
        (b"hello, this is no weights file", "no safetensors file, or damaged"),
    ] {
        let message = refused("model.safetensors", bytes);
        assert!(message.contains(expected), "{message}");
        assert!(message.contains("model.safetensors"), "{message}");
    }
}

#[test]
fn a_head_that_is_as_long_as_a_pickle_begins_is_a_head() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w");
    // Names of all lengths, so that the head's length begins with 0x80 once.
    let mut met = false;
    for length in 1..200 {
        let bytes = file(&[(&"n".repeat(length), Dtype::F32, 1)]);
        met |= bytes[0] == 0x80;
        std::fs::write(&path, bytes).unwrap();
        Weights::read(&path).unwrap();
    }
    assert!(met);
}

#[test]
fn cut_and_odd_files_are_told_in_words_of_their_own() {
    let whole = file(&[("w", Dtype::F32, 4)]);
    let message = refused("w", &whole[..whole.len() - 3]);
    assert!(
        message.contains(&format!("it has {} bytes, expected {}", whole.len() - 3, whole.len())),
        "{message}"
    );
    let head = br#"{"__metadata__":{"step":7},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let bytes = [&(head.len() as u64).to_le_bytes(), &head[..], &[0; 4]].concat();
    let message = refused("w", &bytes);
    assert!(message.contains("value `step` of its metadata is 7, expected a string"), "{message}");
}

#[test]
fn only_a_tensor_that_is_asked_for_must_be_of_a_known_type() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w");
    std::fs::write(&path, file(&[("a", Dtype::F32, 2), ("scale", Dtype::F8_E4M3, 4)])).unwrap();
    let weights = Weights::read(&path).unwrap();
    assert_eq!(weights.get("a").unwrap().dims(), [2]);
    let message = weights.get("scale").unwrap_err().to_string();
    assert!(message.starts_with("tensor `scale` of the weights file is F8_E4M3, expected f32"), "{message}");
}

#[test]
fn only_what_is_asked_for_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w");
    let bytes = file(&[("a", Dtype::F32, 2), ("b", Dtype::F32, 3)]);
    std::fs::write(&path, &bytes).unwrap();
    let weights = Weights::read(&path).unwrap();
    // What stands behind `a` is not there any more, and `a` is read all the same.
    std::fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
    assert_eq!(weights.get("a").unwrap().dims(), [2]);
    assert!(matches!(weights.get("b"), Err(ParameterError::Gone { .. })));
}

#[test]
fn what_blocks_share_is_read_once_and_kept_until_they_are_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w");
    std::fs::write(&path, file(&[("a", Dtype::F32, 2), ("b", Dtype::F32, 3)])).unwrap();
    let shared = SharedWeights::read(&path).unwrap();
    let (first, second) = (shared.weights(), shared.weights());
    let a = first.get("a").unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(second.get("a").unwrap(), a);
    assert!(matches!(second.get("b"), Err(ParameterError::Gone { .. })), "nobody has asked for it before");
    drop(shared);
    assert!(first.contains("a") && matches!(first.get("a"), Err(ParameterError::Gone { .. })));
}

/// The most memory that this process has had, in bytes. `None` where the system does not tell.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[test]
fn sixteen_blocks_of_a_large_file_are_read_with_little_more_memory_than_it() {
    const PARTS: u64 = 8;
    const PART: u64 = 1 << 24;
    let Some(before) = peak() else {
        println!("skipped: the system does not tell how much memory a process has had");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w");
    let part = |at: u64| {
        let (dims, from, to) = (PART / 4, at * PART, (at + 1) * PART);
        format!(r#""{at}":{{"dtype":"F32","shape":[{dims}],"data_offsets":[{from},{to}]}}"#)
    };
    let head = format!("{{{}}}", (0..PARTS).map(part).collect::<Vec<_>>().join(","));
    let length = u64::try_from(head.len()).unwrap();
    std::fs::write(&path, [&length.to_le_bytes()[..], head.as_bytes()].concat()).unwrap();
    // Zeros that take no room on the disk.
    File::options().write(true).open(&path).unwrap().set_len(8 + length + PARTS * PART).unwrap();
    let shared = SharedWeights::read(&path).unwrap();
    let blocks: Vec<_> = (0..16).map(|_| shared.weights()).collect();
    for block in &blocks {
        // Each goes to the device, and need not stay here.
        (0..PARTS).for_each(|at| drop(block.get(&at.to_string()).unwrap()));
    }
    let grown = peak().unwrap() - before;
    assert!(grown < PARTS * PART * 5 / 4, "{} MiB for {} blocks", grown >> 20, blocks.len());
}

#[test]
fn shards_are_found_through_their_list() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("model-1.safetensors", &file(&[("a", Dtype::F32, 2)]));
    write("model-2.safetensors", &file(&[("b", Dtype::F16, 2)]));
    let index = folder.path().join("model.safetensors.index.json");
    let list = |b: &str| format!(r#"{{"weight_map":{{"a":"model-1.safetensors","b":"{b}"}}}}"#);
    std::fs::write(&index, list("model-2.safetensors")).unwrap();
    let weights = Weights::read(&index).unwrap();
    assert!(weights.contains("a") && weights.get("b").unwrap().dims() == [2]);

    for (list, expected) in [
        (list("model-1.safetensors"), "`weight_map.b` \"model-1.safetensors\", expected a file that holds"),
        (list("model-3.safetensors"), "model-3.safetensors cannot be read"),
        (list("../model-2.safetensors"), "expected the name of a file beside it"),
        ("{}".to_owned(), "`weight_map` null, expected an object"),
        ("no".to_owned(), "is not a whole safetensors file"),
    ] {
        std::fs::write(&index, list).unwrap();
        let message = Chain(&Weights::read(&index).unwrap_err()).to_string();
        assert!(message.contains(expected), "{message}");
    }
}
