//! What an ONNX file holds, looked through before ONNX Runtime is asked to load it: the schema must be known before a
//! device is, and a file that contradicts itself is to be refused by name.

use super::wire::{Fields, Torn, Value, varint};
use skep_runtime_core::DType;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Graphs within graphs, at most.
const DEEPEST: usize = 16;

/// The reason why an ONNX file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The file is missing or cannot be read.
    #[error("ONNX file {} cannot be read", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is torn, or something else.
    #[error("{} is not a whole ONNX file", .path.display())]
    Torn {
        /// The file.
        path: PathBuf,
    },
    /// A part of the file contradicts itself, or is nothing that can be served.
    #[error("{}: {part} is {got}, expected {expected}", .path.display())]
    Part {
        /// The file.
        path: PathBuf,
        /// The tensor or other part.
        part: String,
        /// What stands there.
        got: String,
        /// What would be right.
        expected: String,
    },
    /// ONNX Runtime does not take the file.
    #[error("{} cannot be loaded", .path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// ONNX Runtime's error.
        source: skep_runtime_core::DeviceError,
    },
}

/// A dim of an input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileDim {
    Fixed(usize),
    Named(String),
    Unknown,
}

/// An input or output as the file declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outlet {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    /// `None` where the file does not say.
    pub(crate) dims: Option<Vec<FileDim>>,
}

/// What goes into a file's graph and comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outlets {
    pub(crate) inputs: Vec<Outlet>,
    pub(crate) outputs: Vec<Outlet>,
}

/// Looks an ONNX file through.
pub(crate) fn read(path: &Path) -> Result<Outlets, OnnxError> {
    let bytes = fs::read(path).map_err(|source| OnnxError::Read { path: path.to_owned(), source })?;
    let file = File { path };
    let mut graph = None;
    for field in Fields(&bytes) {
        // The graph, and functions, which are graphs with other numbers and without tensors.
        if let (7, Value::Bytes(found)) = field.map_err(|_| file.torn())? {
            graph = Some(found);
        }
    }
    file.graph(graph.ok_or_else(|| file.torn())?, 0)
}

struct File<'a> {
    path: &'a Path,
}

/// A tensor that is stored.
#[derive(Default)]
struct Stored<'a> {
    name: &'a [u8],
    dims: Vec<u64>,
    dtype: u64,
    raw: Option<&'a [u8]>,
    external: Vec<(String, String)>,
    is_external: bool,
}

impl File<'_> {
    fn torn(&self) -> OnnxError {
        OnnxError::Torn { path: self.path.to_owned() }
    }

    fn part(
        &self,
        part: impl Into<String>,
        got: impl Into<String>,
        expected: impl Into<String>,
    ) -> OnnxError {
        let (path, part) = (self.path.to_owned(), part.into());
        OnnxError::Part { path, part, got: got.into(), expected: expected.into() }
    }

    fn fields<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = Result<(u64, Value<'a>), OnnxError>> {
        Fields(bytes).map(|field| field.map_err(|Torn| self.torn()))
    }

    fn text(&self, bytes: &[u8]) -> Result<String, OnnxError> {
        String::from_utf8(bytes.to_vec()).map_err(|_| self.torn())
    }

    fn graph(&self, bytes: &[u8], depth: usize) -> Result<Outlets, OnnxError> {
        if depth > DEEPEST {
            return Err(self.part(
                "a graph",
                format!("more than {DEEPEST} deep"),
                "fewer graphs within graphs",
            ));
        }
        let (mut inputs, mut outputs, mut stored) = (Vec::new(), Vec::new(), BTreeSet::new());
        for field in self.fields(bytes) {
            match field? {
                (1, Value::Bytes(node)) => self.node(node, depth)?,
                (5, Value::Bytes(tensor)) => drop(stored.insert(self.tensor(tensor)?)),
                (11, Value::Bytes(input)) => inputs.push(input),
                (12, Value::Bytes(output)) => outputs.push(output),
                _ => {}
            }
        }
        if depth > 0 {
            // What goes into an inner graph is not ours to serve.
            return Ok(Outlets { inputs: Vec::new(), outputs: Vec::new() });
        }
        let all = |outlets: Vec<&[u8]>| {
            outlets.into_iter().map(|outlet| self.outlet(outlet)).collect::<Result<Vec<_>, _>>()
        };
        let mut inputs = all(inputs)?;
        // Older files name what is stored among what goes in.
        inputs.retain(|input| !stored.contains(&input.name));
        Ok(Outlets { inputs, outputs: all(outputs)? })
    }

    fn node(&self, bytes: &[u8], depth: usize) -> Result<(), OnnxError> {
        for field in self.fields(bytes) {
            if let (5, Value::Bytes(attribute)) = field? {
                for field in self.fields(attribute) {
                    match field? {
                        (5 | 10, Value::Bytes(tensor)) => drop(self.tensor(tensor)?),
                        (6 | 11, Value::Bytes(graph)) => drop(self.graph(graph, depth + 1)?),
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// The name of a stored tensor, whose bytes are checked against its dims.
    fn tensor(&self, bytes: &[u8]) -> Result<String, OnnxError> {
        let mut tensor = Stored::default();
        for field in self.fields(bytes) {
            match field? {
                (1, Value::Varint(dim)) => tensor.dims.push(dim),
                (1, Value::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        tensor.dims.push(varint(&mut packed).map_err(|Torn| self.torn())?);
                    }
                }
                (2, Value::Varint(dtype)) => tensor.dtype = dtype,
                (8, Value::Bytes(name)) => tensor.name = name,
                (9, Value::Bytes(raw)) => tensor.raw = Some(raw),
                (13, Value::Bytes(entry)) => tensor.external.push(self.entry(entry)?),
                (14, Value::Varint(place)) => tensor.is_external = place == 1,
                _ => {}
            }
        }
        let name = self.text(tensor.name)?;
        let part = || format!("tensor `{name}`");
        let elements = tensor.dims.iter().try_fold(1u64, |n, &dim| n.checked_mul(dim));
        let elements = elements.filter(|&n| i64::try_from(n).is_ok()).ok_or_else(|| {
            self.part(part(), format!("of dims {:?}", tensor.dims), "dims of a tensor that can be there")
        })?;
        let expected = size(tensor.dtype).map(|size| (elements * size.0).div_ceil(size.1));
        if tensor.is_external {
            return self.external(&name, &tensor.external, expected).map(|()| name);
        }
        if let (Some(raw), Some(expected)) = (tensor.raw, expected)
            && raw.len() as u64 != expected
        {
            return Err(self.part(part(), format!("{} bytes", raw.len()), format!("{expected} bytes")));
        }
        Ok(name)
    }

    fn entry(&self, bytes: &[u8]) -> Result<(String, String), OnnxError> {
        let mut entry = (String::new(), String::new());
        for field in self.fields(bytes) {
            match field? {
                (1, Value::Bytes(key)) => entry.0 = self.text(key)?,
                (2, Value::Bytes(value)) => entry.1 = self.text(value)?,
                _ => {}
            }
        }
        Ok(entry)
    }

    /// Whether the bytes of a tensor stand in the file beside this one that is named.
    fn external(
        &self,
        name: &str,
        entries: &[(String, String)],
        expected: Option<u64>,
    ) -> Result<(), OnnxError> {
        let part = || format!("tensor `{name}`");
        let entry = |key: &str| entries.iter().find(|(known, _)| known == key).map(|(_, value)| &**value);
        let number = |key: &str| match entry(key) {
            Some(text) => text
                .parse::<u64>()
                .map(Some)
                .map_err(|_| self.part(part(), format!("external with {key} `{text}`"), "a whole number")),
            None => Ok(None),
        };
        let location = entry("location").unwrap_or_default();
        let is_beside = !location.is_empty()
            && Path::new(location)
                .components()
                .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !is_beside {
            let expected = "the name of a file in the folder of the ONNX file";
            return Err(self.part(part(), format!("in `{location}`"), expected));
        }
        let file = self.path.parent().unwrap_or(Path::new("")).join(location);
        let there =
            fs::metadata(&file).map_err(|source| OnnxError::Read { path: file.clone(), source })?.len();
        let offset = number("offset")?.unwrap_or(0);
        let length = match number("length")? {
            Some(length) => length,
            None => there.saturating_sub(offset),
        };
        if offset.checked_add(length).is_none_or(|end| end > there) {
            let got = format!("at byte {offset}, {length} bytes long");
            return Err(self.part(part(), got, format!("within the {there} bytes of {}", file.display())));
        }
        match expected {
            Some(expected) if expected != length => {
                Err(self.part(part(), format!("{length} bytes"), format!("{expected} bytes")))
            }
            _ => Ok(()),
        }
    }

    fn outlet(&self, bytes: &[u8]) -> Result<Outlet, OnnxError> {
        let (mut name, mut tensor) = (String::new(), None);
        for field in self.fields(bytes) {
            match field? {
                (1, Value::Bytes(text)) => name = self.text(text)?,
                (2, Value::Bytes(kind)) => {
                    for field in self.fields(kind) {
                        if let (1, Value::Bytes(found)) = field? {
                            tensor = Some(found);
                        }
                    }
                }
                _ => {}
            }
        }
        let part = format!("`{name}`");
        let tensor = tensor.ok_or_else(|| self.part(&*part, "no tensor", "a tensor"))?;
        let (mut code, mut dims) = (0, None);
        for field in self.fields(tensor) {
            match field? {
                (1, Value::Varint(number)) => code = number,
                (2, Value::Bytes(shape)) => dims = Some(self.dims(shape)?),
                _ => {}
            }
        }
        let dtype = dtype(code).ok_or_else(|| {
            let expected = "bool, u8, i8, i16, i32, u32, i64, f16, bf16, f32 or f64";
            self.part(part, format!("of ONNX's element type {code}"), expected)
        })?;
        Ok(Outlet { name, dtype, dims })
    }

    fn dims(&self, bytes: &[u8]) -> Result<Vec<FileDim>, OnnxError> {
        let mut dims = Vec::new();
        for field in self.fields(bytes) {
            let (1, Value::Bytes(dim)) = field? else { continue };
            let mut found = FileDim::Unknown;
            for field in self.fields(dim) {
                match field? {
                    // A negative one stands for a free dim in some files.
                    (1, Value::Varint(size)) => {
                        let size = usize::try_from(size).ok().filter(|&size| isize::try_from(size).is_ok());
                        found = size.map_or(FileDim::Unknown, FileDim::Fixed);
                    }
                    (2, Value::Bytes(name)) if !name.is_empty() => found = FileDim::Named(self.text(name)?),
                    _ => {}
                }
            }
            dims.push(found);
        }
        Ok(dims)
    }
}

/// The element types that both have.
const DTYPES: [(u64, DType); 11] = [
    (1, DType::F32),
    (2, DType::U8),
    (3, DType::I8),
    (5, DType::I16),
    (6, DType::I32),
    (7, DType::I64),
    (9, DType::Bool),
    (10, DType::F16),
    (11, DType::F64),
    (12, DType::U32),
    (16, DType::BF16),
];

fn dtype(code: u64) -> Option<DType> {
    DTYPES.iter().find(|(known, _)| *known == code).map(|(_, dtype)| *dtype)
}

/// ONNX's number of an element type.
pub(super) fn code(dtype: DType) -> Option<i64> {
    DTYPES.iter().find(|(_, known)| *known == dtype).and_then(|(code, _)| i64::try_from(*code).ok())
}

/// Bytes of so many elements; `None` for texts and what is not known.
fn size(code: u64) -> Option<(u64, u64)> {
    match code {
        2 | 3 | 9 | 17..=20 => Some((1, 1)),
        4 | 5 | 10 | 16 => Some((2, 1)),
        1 | 6 | 12 => Some((4, 1)),
        7 | 11 | 13 | 14 => Some((8, 1)),
        15 => Some((16, 1)),
        // Two to a byte.
        21..=23 => Some((1, 2)),
        _ => None,
    }
}
