//! The tensors of a folder's weights files: what there is, of which dims, and where its bytes stand.
//!
//! Only the files' heads are read at first. A tensor's bytes are read when a block is loaded, straight into the
//! tensor, so a model needs no more memory than its own size. Mapping the files would need `unsafe`, and a file that
//! shrinks would end the process.

use crate::error::{ModelError, Result, shown};
use crate::folder::files::{self, Folder};
use serde_json::Value;
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::{DType, HostTensor};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// The most bytes of a file's head; safetensors' own limit.
const MAX_HEAD: u64 = 100_000_000;
/// The most bytes of the list of shards.
const MAX_INDEX: u64 = 64 << 20;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Files that can run code when they are read.
const PICKLES: [&str; 4] =
    ["pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model.pt", "tf_model.h5"];

/// Parameters as they are stored, by name.
///
/// Those of the model have the names that stand in the file; those of a module in a folder of its own (`2_Dense`)
/// have the folder's name before them, with a dot.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    tensors: BTreeMap<String, Stored>,
    /// What was read while somebody keeps it.
    kept: Arc<Mutex<Weak<Kept>>>,
}

/// Tensors that were read, by name.
#[derive(Debug, Default)]
struct Kept(Mutex<BTreeMap<String, HostTensor>>);

/// Has each tensor of a model read once for all its blocks, until this is dropped: see [`Weights::keep`].
#[derive(Debug)]
#[must_use = "nothing is kept once it is dropped"]
pub struct KeptWeights {
    _kept: Arc<Kept>,
}

/// Where one tensor stands.
#[derive(Clone, Debug)]
struct Stored {
    file: Arc<PathBuf>,
    /// In the file, where the folder's name is not before it.
    name: String,
    dtype: DType,
    dims: Vec<usize>,
    start: u64,
    bytes: usize,
}

impl Weights {
    /// Reads the heads of a model's weights files.
    pub(crate) fn of_model(folder: &Folder) -> Result<Self> {
        let mut weights = Self::default();
        if folder.has(SINGLE) {
            weights.add(&folder.file(SINGLE), "")?;
        } else if folder.has(INDEX) {
            weights.add_shards(folder)?;
        } else if let Some(pickle) = PICKLES.iter().find(|name| folder.has(name)) {
            let expected =
                format!("`{SINGLE}`: save the model with `save_pretrained(…, safe_serialization=True)`");
            return Err(ModelError::form(folder.file(pickle), "in a form that can run code", expected));
        } else {
            let expected = format!("`{SINGLE}`, or `{INDEX}` with the files that it names");
            return Err(ModelError::NoFile { file: folder.file(SINGLE), expected });
        }
        Ok(weights)
    }

    /// Adds those of a module in a folder of its own.
    pub(crate) fn add_module(&mut self, folder: &Folder, name: &str) -> Result<()> {
        let file = folder.file(SINGLE);
        if folder.has(SINGLE) {
            return self.add(&file, &format!("{name}."));
        }
        if folder.has(PICKLES[0]) {
            let expected = format!("`{SINGLE}`: load and save the model with sentence-transformers");
            return Err(ModelError::form(folder.file(PICKLES[0]), "in a form that can run code", expected));
        }
        Err(ModelError::NoFile { file, expected: "the weights of the module".to_owned() })
    }

    fn add_shards(&mut self, folder: &Folder) -> Result<()> {
        let file = folder.file(INDEX);
        let bytes = files::read(&file, MAX_INDEX)?.unwrap_or_default();
        let invalid =
            |key: &str, got: &Value, expected: &str| ModelError::value(&file, key, shown(got), expected);
        let index = files::parse(&file, &bytes)?;
        let map = index["weight_map"]
            .as_object()
            .ok_or_else(|| invalid("weight_map", &index["weight_map"], "an object of tensors and files"))?;
        let mut shards: Vec<&str> = Vec::new();
        for (name, shard) in map {
            let plain = |shard: &&str| {
                let path = Path::new(shard);
                path.file_name().is_some_and(|file| file == *shard) && shard.ends_with(".safetensors")
            };
            let shard = shard.as_str().filter(plain).ok_or_else(|| {
                invalid(&format!("weight_map.{name}"), shard, "the name of a safetensors file beside it")
            })?;
            if !shards.contains(&shard) {
                shards.push(shard);
            }
        }
        for shard in shards {
            self.add(&folder.file(shard), "")?;
        }
        for (name, stored) in &self.tensors {
            let shard = stored.file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            match map.get(name).and_then(Value::as_str) {
                Some(named) if named == shard => {}
                named => {
                    let got = named.map_or("missing".to_owned(), |named| format!("{named:?}"));
                    let key = format!("weight_map.{name}");
                    return Err(ModelError::value(&file, key, got, format!("{shard:?}, which holds it")));
                }
            }
        }
        match map.iter().find(|(name, _)| !self.tensors.contains_key(*name)) {
            Some((name, shard)) => {
                let expected = "a tensor that this file holds";
                Err(invalid(&format!("weight_map.{name}"), shard, expected))
            }
            None => Ok(()),
        }
    }

    /// Reads the head of one file and checks it against the file's length.
    fn add(&mut self, file: &Path, prefix: &str) -> Result<()> {
        let torn = |got: &dyn std::fmt::Display| ModelError::form(file, got, "a whole safetensors file");
        let Some((mut opened, length)) = files::open(file)? else {
            return Err(ModelError::NoFile { file: file.to_owned(), expected: "a weights file".to_owned() });
        };
        let mut start = [0; 24];
        let begin = read_up_to(&mut opened, &mut start).map_err(files::unreadable(file))?;
        files::refuse_pointer(file, &start[..begin])?;
        let Some(head_length) = start[..begin].first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
        else {
            return Err(torn(&format!("of {length} bytes, which is too short")));
        };
        let Some(data) = length.checked_sub(8).and_then(|rest| rest.checked_sub(head_length)) else {
            return Err(torn(&format!("of {length} bytes, and its head has {head_length}")));
        };
        if head_length > MAX_HEAD {
            return Err(torn(&format!("with a head of {head_length} bytes, of at most {MAX_HEAD}")));
        }
        opened.seek(SeekFrom::Start(8)).map_err(files::unreadable(file))?;
        let mut head = Vec::new();
        opened.take(head_length).read_to_end(&mut head).map_err(files::unreadable(file))?;
        let head: Value = serde_json::from_slice(&head)
            .map_err(|source| ModelError::NotJson { file: file.to_owned(), source })?;
        let Value::Object(head) = head else { return Err(torn(&"with a head that is no object")) };

        let file = Arc::new(file.to_owned());
        let mut ranges = Vec::with_capacity(head.len());
        for (name, entry) in &head {
            if name == "__metadata__" {
                continue;
            }
            let (stored, range) = entry_of(&file, name, entry, 8 + head_length)?;
            ranges.push(range);
            let full = format!("{prefix}{name}");
            if let Some(other) = self.tensors.get(&full) {
                let expected = format!("a tensor once: {} holds it as well", other.file.display());
                return Err(ModelError::value(&*file, name, "there", expected));
            }
            self.tensors.insert(full, stored);
        }
        // Every byte belongs to one tensor: a file with more or less is torn.
        ranges.sort_unstable();
        let mut end = 0;
        for (from, to) in ranges {
            if from != end {
                return Err(torn(&format!("with tensors that leave out or share bytes {from} to {end}")));
            }
            end = to;
        }
        if end != data {
            return Err(torn(&format!("with {data} bytes of tensors where its head says {end}")));
        }
        Ok(())
    }

    /// Reports if there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Returns the dims of the tensor of this name.
    pub fn dims(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|stored| &*stored.dims)
    }

    /// Returns the element type of the tensor of this name.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        self.tensors.get(name).map(|stored| stored.dtype)
    }

    /// Returns all names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Where the tensor of this name stands, and what it is called there.
    pub(crate) fn place(&self, name: &str) -> Option<(&Path, &str)> {
        self.tensors.get(name).map(|stored| (stored.file.as_path(), stored.name.as_str()))
    }

    /// Keeps the tensors that are read from now on in the host's memory, so that several blocks of one model read its files
    /// once. Drop what is returned when all of them are loaded.
    ///
    /// ```
    /// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/models/fixtures/bert_mean");
    /// let model = skep_models::Model::read(folder)?;
    /// let kept = model.weights().keep();
    /// // In a backend: `for name in names { builder.serve(TextModel { model, precision }.block(name)?, options)? }`,
    /// // and `builder.start()?`.
    /// drop(kept);
    /// # Ok::<(), skep_models::ModelError>(())
    /// ```
    pub fn keep(&self) -> KeptWeights {
        let mut current = self.kept.lock();
        let kept = current.upgrade().unwrap_or_default();
        *current = Arc::downgrade(&kept);
        KeptWeights { _kept: kept }
    }

    /// Reads a tensor as it is stored, unless it is [kept](Self::keep).
    ///
    /// # Errors
    ///
    /// Returns an error if there is none of this name, if the file has changed since its head was read, or if an
    /// element is infinite or not a number.
    pub fn tensor(&self, name: &str) -> std::result::Result<HostTensor, ModelError> {
        let Some(kept) = self.kept.lock().upgrade() else { return self.read(name) };
        // Held while it is read: another block waits for the same tensor rather than read it too.
        let mut kept = kept.0.lock();
        if let Some(known) = kept.get(name) {
            return Ok(known.clone());
        }
        let tensor = self.read(name)?;
        kept.insert(name.to_owned(), tensor.clone());
        Ok(tensor)
    }

    fn read(&self, name: &str) -> Result<HostTensor> {
        let stored = self.tensors.get(name).ok_or_else(|| ModelError::NoKey {
            file: PathBuf::from(SINGLE),
            key: name.to_owned(),
            expected: "a tensor of the folder".to_owned(),
        })?;
        let unreadable = files::unreadable(&stored.file);
        let mut file = File::open(&*stored.file).map_err(&unreadable)?;
        file.seek(SeekFrom::Start(stored.start)).map_err(&unreadable)?;
        let mut bytes = vec![0; stored.bytes];
        file.read_exact(&mut bytes).map_err(&unreadable)?;
        let tensor = HostTensor::new(stored.dtype, &stored.dims, bytes)
            .map_err(|error| ModelError::value(&*stored.file, &stored.name, error, "a whole tensor"))?;
        if !tensor.all_finite() {
            let expected = "finite numbers: the weights are damaged";
            return Err(ModelError::value(&*stored.file, &stored.name, "infinite or not a number", expected));
        }
        Ok(tensor)
    }
}

/// What the head says of one tensor, and its range in the data.
fn entry_of(file: &Arc<PathBuf>, name: &str, entry: &Value, data: u64) -> Result<(Stored, (u64, u64))> {
    let invalid = |what: &str, got: &Value, expected: &str| {
        ModelError::value(&**file, format!("{name}.{what}"), shown(got), expected)
    };
    let dtype = match entry["dtype"].as_str() {
        Some("BOOL") => DType::Bool,
        Some("U8") => DType::U8,
        Some("I8") => DType::I8,
        Some("I16") => DType::I16,
        Some("I32") => DType::I32,
        Some("U32") => DType::U32,
        Some("I64") => DType::I64,
        Some("F16") => DType::F16,
        Some("BF16") => DType::BF16,
        Some("F32") => DType::F32,
        Some("F64") => DType::F64,
        _ => return Err(invalid("dtype", &entry["dtype"], "F32, F16, BF16 or F64")),
    };
    let numbers =
        |key: &str| -> Option<Vec<u64>> { entry[key].as_array()?.iter().map(Value::as_u64).collect() };
    let dims: Option<Vec<usize>> =
        numbers("shape").and_then(|dims| dims.into_iter().map(|dim| usize::try_from(dim).ok()).collect());
    let dims = dims.ok_or_else(|| invalid("shape", &entry["shape"], "a list of sizes"))?;
    let bytes = dims.iter().try_fold(dtype.size(), |bytes, &dim| bytes.checked_mul(dim));
    let range = numbers("data_offsets").filter(|offsets| offsets.len() == 2 && offsets[0] <= offsets[1]);
    let (Some(bytes), Some(range)) = (bytes, range) else {
        return Err(invalid(
            "data_offsets",
            &entry["data_offsets"],
            "where the tensor's bytes begin and end",
        ));
    };
    if range[1] - range[0] != bytes as u64 {
        let expected = format!("{bytes} bytes for {dtype} of dims {dims:?}");
        return Err(invalid("data_offsets", &entry["data_offsets"], &expected));
    }
    let start = range[0].checked_add(data);
    let start = start.ok_or_else(|| invalid("data_offsets", &entry["data_offsets"], "bytes of the file"))?;
    let stored = Stored { file: Arc::clone(file), name: name.to_owned(), dtype, dims, start, bytes };
    Ok((stored, (range[0], range[1])))
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
