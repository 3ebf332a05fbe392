//! The head of a safetensors file: what there is and where, without its bytes.

use safetensors::tensor::Metadata;
use serde_json::Value;
use skep_runtime_core::BoxError;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// The most bytes of a head; safetensors' own limit.
const MAX_HEAD: u64 = 100_000_000;

/// The head of a file.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) tensors: Metadata,
    /// Where the tensors' bytes begin in the file.
    pub(crate) data: u64,
}

/// The reason why a file has no such head.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    /// The file is something else that is known by how it begins.
    #[error("it is {found}, expected a safetensors file: {instead}")]
    Other { found: &'static str, instead: &'static str },
    #[error("it has {got} bytes, expected {expected}: it is cut short, or more was written after it")]
    Length { got: u64, expected: u64 },
    #[error(
        "its head would have {0} bytes, expected at most {MAX_HEAD}: it is no safetensors file, or damaged"
    )]
    HeadLength(u64),
    #[error("value `{key}` of its metadata is {got}, expected a string")]
    NotAString { key: String, got: String },
    #[error("its head is damaged")]
    Damaged(#[source] BoxError),
}

/// What other files begin with, what they are, and what to do about it.
const OTHERS: &[(&[u8], &str, &str)] = &[
    (
        b"version https://git-lfs",
        "a pointer of Git LFS",
        "fetch the file that it stands for, with `git lfs pull` for example",
    ),
    (
        b"<!doctype",
        "a page of HTML",
        "the download gave an error page or needs a login; load the file itself",
    ),
    (b"<html", "a page of HTML", "the download gave an error page or needs a login; load the file itself"),
    (
        b"PK\x03\x04",
        "a ZIP archive, as PyTorch writes pickles",
        "pickles can run code; load it in Python and write it with `safetensors.torch.save_file`",
    ),
    (
        b"\x80",
        "a pickle",
        "pickles can run code; load it in Python and write it with `safetensors.torch.save_file`",
    ),
    (
        b"GGUF",
        "a GGUF file",
        "its tensors are quantized for other programs; take the model's safetensors file",
    ),
    (b"\x89HDF", "an HDF5 file", "take the model's safetensors file, or convert it"),
    (b"{", "text in JSON", "an index of shards has a name that ends in `.index.json`"),
];

/// Reads the head of a file and checks it against the file's length.
pub(crate) fn read(file: &mut File) -> Result<Head, HeadError> {
    let length = file.metadata()?.len();
    let mut start = Vec::with_capacity(32);
    file.take(32).read_to_end(&mut start)?;
    if start.is_empty() {
        return Err(HeadError::Other { found: "empty", instead: "the download was not finished" });
    }
    let text = start.trim_ascii_start().to_ascii_lowercase();
    let begins = |bytes: &[u8]| start.starts_with(bytes) || text.starts_with(bytes);
    if let Some((_, found, instead)) = OTHERS.iter().find(|(bytes, ..)| begins(bytes) && !is_head(&start)) {
        return Err(HeadError::Other { found, instead });
    }
    let Some(head) = start.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes)) else {
        return Err(HeadError::Length { got: length, expected: 8 });
    };
    if head > MAX_HEAD {
        return Err(HeadError::HeadLength(head));
    }
    let data = 8 + head;
    if length < data {
        return Err(HeadError::Length { got: length, expected: data });
    }
    file.seek(SeekFrom::Start(8))?;
    let mut bytes = Vec::new();
    file.take(head).read_to_end(&mut bytes)?;
    let damaged = |error: serde_json::Error| HeadError::Damaged(error.into());
    let value: Value = serde_json::from_slice(&bytes).map_err(damaged)?;
    if let Some(Value::Object(metadata)) = value.get("__metadata__")
        && let Some((key, got)) = metadata.iter().find(|(_, value)| !value.is_string())
    {
        return Err(HeadError::NotAString { key: key.clone(), got: got.to_string() });
    }
    let tensors: Metadata = serde_json::from_value(value).map_err(damaged)?;
    let expected = data.saturating_add(tensors.data_len() as u64);
    if length != expected {
        return Err(HeadError::Length { got: length, expected });
    }
    Ok(Head { tensors, data })
}

/// A head of 128 bytes begins as a pickle does, so the brace after the length decides.
fn is_head(start: &[u8]) -> bool {
    start.get(8) == Some(&b'{')
}
