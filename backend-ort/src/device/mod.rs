//! Where batches run, on ONNX Runtime: the host's processor, or one GPU.

mod library;
mod tensor;

pub use library::LibraryError;
pub use tensor::OrtTensor;

use ort::environment::Environment;
use skep_runtime_core::{
    BoxError, DType, Device, DeviceError, Dims, HostTensor, MemoryInfo, TensorInfo, TensorOps,
};
use skep_toolkit::{FailureWords, memory};
use std::fmt;

/// Options of the processor.
///
/// ```no_run
/// use skep_backend_ort::{CpuOptions, OrtDevice};
///
/// let device = OrtDevice::cpu_with(CpuOptions::default().threads(Some(1)))?;
/// # Ok::<(), skep_backend_ort::runtime::DeviceError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuOptions {
    /// The number of threads that one operation may use (ONNX Runtime's intra-op threads), the device thread
    /// included; `None` leaves it to ONNX Runtime: as many as there are physical cores.
    ///
    /// Each block has threads of its own, which look for work a moment after each run and then sleep. One thread per
    /// core is right for a machine that does nothing else.
    pub threads: Option<usize>,
    /// The most bytes that one tensor which the device makes may have; `None` for a quarter of the
    /// machine's memory (of the container's limit, if there is one).
    ///
    /// What a block makes in between is not checked: leave room for it.
    pub max_bytes: Option<usize>,
}

impl CpuOptions {
    /// Sets [`threads`](Self#structfield.threads).
    pub fn threads(mut self, threads: impl Into<Option<usize>>) -> Self {
        self.threads = threads.into();
        self
    }

    /// Sets [`max_bytes`](Self#structfield.max_bytes).
    pub fn max_bytes(mut self, max_bytes: impl Into<Option<usize>>) -> Self {
        self.max_bytes = max_bytes.into();
        self
    }
}

/// A place where ONNX Runtime runs: `cpu`, `cuda:0`.
///
/// Cloning it gives another handle to the same place. Tensors are on the host in both cases: ONNX Runtime copies to a
/// GPU and back by itself.
///
/// ```
/// use skep_backend_ort::OrtDevice;
/// use skep_backend_ort::runtime::{Device, HostTensor, TensorOps};
///
/// # if std::env::var_os("ORT_DYLIB_PATH").is_none() { println!("skipped: no ONNX Runtime"); return Ok(()) }
/// let device = OrtDevice::cpu()?;
/// let part = |rows| device.from_host(&HostTensor::from_f32(&[rows, 2], &vec![1.0; 2 * rows]).unwrap());
/// let batch = device.gather(&[part(1)?, part(2)?])?;
/// assert_eq!(batch.dims(), [3, 2]);
/// let parts = device.scatter(batch, &[1, 2])?;
/// assert_eq!(parts[1].dims(), [2, 2]);
/// # Ok::<(), skep_backend_ort::runtime::DeviceError>(())
/// ```
#[derive(Clone)]
pub struct OrtDevice {
    environment: Environment,
    cuda: Option<usize>,
    options: CpuOptions,
    own_outputs: bool,
}

/// A device that is not there.
#[derive(Debug, thiserror::Error)]
#[error("{name} is not available")]
struct Unavailable {
    name: String,
    source: BoxError,
}

/// What its threads may not be.
#[derive(Debug, thiserror::Error)]
#[error("threads is {got}, expected {}", if *got == 0 { "at least 1" } else { "at most 1024" })]
struct WrongThreads {
    got: usize,
}

/// More threads than this are a mistake.
const MAX_THREADS: usize = 1024;

const WORDS: FailureWords = FailureWords {
    out_of_memory: &["Failed to allocate memory", "out of memory", "bad_alloc", "bad allocation"],
    lost: &["CUDA failure 700", "CUDA failure 719", "device-side assert"],
};

impl OrtDevice {
    /// Returns the host's processor, with the default options.
    ///
    /// # Errors
    ///
    /// Returns a [`DeviceError`] that holds a [`LibraryError`] if ONNX Runtime cannot be loaded.
    pub fn cpu() -> Result<Self, DeviceError> {
        Self::cpu_with(CpuOptions::default())
    }

    /// Returns the host's processor.
    ///
    /// # Errors
    ///
    /// Returns a [`DeviceError`] that holds a [`LibraryError`] if ONNX Runtime cannot be loaded.
    pub fn cpu_with(options: CpuOptions) -> Result<Self, DeviceError> {
        let environment = library::environment().map_err(DeviceError::operation)?;
        Ok(Self { environment, cuda: None, options, own_outputs: false })
    }

    /// Opens a CUDA device. Needs the feature `cuda`, and an ONNX Runtime that was built with it. Blocks find out
    /// whether it works when they are loaded.
    ///
    /// # Errors
    ///
    /// Returns a [`DeviceError`] if the feature is off, or ONNX Runtime cannot be loaded.
    pub fn cuda(ordinal: usize) -> Result<Self, DeviceError> {
        let name = format!("cuda:{ordinal}");
        if cfg!(not(feature = "cuda")) {
            let source = "this build has no feature `cuda`".into();
            return Err(DeviceError::operation(Unavailable { name, source }));
        }
        if i32::try_from(ordinal).is_err() {
            let source = "there is no such device".into();
            return Err(DeviceError::operation(Unavailable { name, source }));
        }
        Ok(Self { cuda: Some(ordinal), ..Self::cpu()? })
    }

    /// Gives each task outputs of its own. Without it the outputs of a batch are views into one tensor, which
    /// costs nothing but keeps the whole batch's output in memory for as long as any caller holds its part:
    /// choose this where callers keep a few outputs for long and the batches are large. It copies each output
    /// once, on the thread that answers.
    pub fn with_own_outputs(mut self) -> Self {
        self.own_outputs = true;
        self
    }

    /// Returns the most bytes that one tensor on the host may have.
    pub fn max_bytes(&self) -> usize {
        self.options.max_bytes.unwrap_or_else(memory::default_limit)
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The ordinal of the CUDA device, `None` for the host.
    #[cfg(feature = "cuda")]
    pub(crate) fn cuda_ordinal(&self) -> Option<usize> {
        self.cuda
    }

    /// Threads of one operation; `None` for ONNX Runtime's own choice.
    pub(crate) fn threads(&self) -> Option<usize> {
        self.options.threads
    }

    /// Sorts ONNX Runtime's error: out of memory, device lost, or one failed operation.
    pub(crate) fn failure(&self, error: ort::Error) -> DeviceError {
        WORDS.sort(&self.name(), error.message()).unwrap_or_else(|| DeviceError::operation(error))
    }

    /// Refuses a tensor on the host that is larger than [`max_bytes`](Self::max_bytes).
    pub(crate) fn admit(&self, bytes: usize) -> Result<(), DeviceError> {
        let limit = self.max_bytes();
        if bytes <= limit {
            return Ok(());
        }
        let message =
            format!("a tensor of {bytes} bytes is too large for the host, expected at most {limit}");
        Err(DeviceError::OutOfMemory { device: self.name(), message })
    }

    fn joined(&self, parts: &[OrtTensor]) -> Result<OrtTensor, DeviceError> {
        let Some(first) = parts.first() else { return Err(DeviceError::operation("nothing to join")) };
        let mut dims = Dims::from_slice(first.dims());
        let (mut rows, mut bytes) = (0, 0);
        for part in parts {
            if part.dtype() != first.dtype() || part.dims().get(1..) != first.dims().get(1..) {
                let message = format!(
                    "tensors of {} {:?} and {} {:?} cannot be joined",
                    first.dtype(),
                    first.dims(),
                    part.dtype(),
                    part.dims()
                );
                return Err(DeviceError::operation(message));
            }
            rows += part.dims().first().copied().unwrap_or_default();
            bytes += part.bytes().len();
        }
        self.admit(bytes)?;
        match dims.first_mut() {
            Some(all) => *all = rows,
            None => return Err(DeviceError::operation("a scalar has no rows to join")),
        }
        Ok(OrtTensor::joined(first.dtype(), dims, parts.iter().map(OrtTensor::bytes)))
    }
}

impl fmt::Debug for OrtDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrtDevice")
            .field("name", &self.name())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Cuts a tensor into views.
fn views(tensor: &OrtTensor, rows: &[usize]) -> Result<Vec<OrtTensor>, DeviceError> {
    let there = tensor.dims().first().copied().unwrap_or_default();
    let mut start = 0usize;
    rows.iter()
        .map(|&count| {
            let first = start;
            start = start.saturating_add(count);
            if start > there {
                return Err(DeviceError::operation(format!("a tensor of {there} rows has no row {start}")));
            }
            Ok(tensor.rows(first, count))
        })
        .collect()
}

impl TensorOps for OrtDevice {
    type Tensor = OrtTensor;

    fn describe(&self, tensor: &OrtTensor) -> Result<TensorInfo, DeviceError> {
        Ok(TensorInfo { dtype: tensor.dtype(), dims: Dims::from_slice(tensor.dims()) })
    }

    fn join(&self, parts: Vec<OrtTensor>) -> Result<OrtTensor, DeviceError> {
        self.joined(&parts)
    }

    fn split(&self, tensor: &OrtTensor, rows: &[usize]) -> Result<Vec<OrtTensor>, DeviceError> {
        views(tensor, rows)
    }

    fn narrow(&self, tensor: &OrtTensor, dim: usize, size: usize) -> Result<OrtTensor, DeviceError> {
        if tensor.dims().get(dim).is_none_or(|all| *all < size) {
            let wrong = format!("tensor of dims {:?} cannot be cut to {size} along dim {dim}", tensor.dims());
            return Err(DeviceError::operation(wrong));
        }
        Ok(tensor.narrowed(dim, size))
    }

    fn reshape(&self, tensor: &OrtTensor, dims: &[usize]) -> Result<OrtTensor, DeviceError> {
        tensor.reshaped(dims).ok_or_else(|| {
            let wrong = format!("tensor of dims {:?} has not as many elements as {dims:?}", tensor.dims());
            DeviceError::operation(wrong)
        })
    }

    fn index_outside(&self, tensor: &OrtTensor, below: u64) -> Result<Option<i64>, DeviceError> {
        fn first<T: Copy + Into<i64>>(elements: Option<&[T]>, below: u64) -> Option<i64> {
            let mut all = elements.unwrap_or_default().iter().map(|&e| e.into());
            all.find(|&e: &i64| u64::try_from(e).map_or(true, |e| e >= below))
        }
        Ok(match tensor.dtype() {
            DType::Bool | DType::U8 => first::<u8>(tensor.elements(), below),
            DType::I8 => first::<i8>(tensor.elements(), below),
            DType::I16 => first::<i16>(tensor.elements(), below),
            DType::I32 => first::<i32>(tensor.elements(), below),
            DType::U32 => first::<u32>(tensor.elements(), below),
            DType::I64 => first::<i64>(tensor.elements(), below),
            other => return Err(DeviceError::operation(format!("indices are {other}, expected integers"))),
        })
    }

    fn from_host(&self, tensor: &HostTensor) -> Result<OrtTensor, DeviceError> {
        self.admit(tensor.bytes().len())?;
        Ok(OrtTensor::from_host(tensor))
    }

    fn to_host(&self, tensor: &OrtTensor) -> Result<HostTensor, DeviceError> {
        HostTensor::new(tensor.dtype(), tensor.dims(), tensor.bytes().to_vec())
            .map_err(DeviceError::operation)
    }
}

impl Device for OrtDevice {
    fn name(&self) -> String {
        self.cuda.map_or_else(|| "cpu".to_owned(), |ordinal| format!("cuda:{ordinal}"))
    }

    fn gather(&self, parts: &[OrtTensor]) -> Result<OrtTensor, DeviceError> {
        match parts {
            [alone] => Ok(alone.clone()),
            parts => self.joined(parts),
        }
    }

    /// Each byte is written once.
    fn gather_padded(
        &self,
        parts: &[OrtTensor],
        dims: &[usize],
        element: &[u8],
    ) -> Result<OrtTensor, DeviceError> {
        let Some(first) = parts.first() else { return Err(DeviceError::operation("nothing to join")) };
        let dtype = first.dtype();
        let fits = |part: &OrtTensor| {
            let row = part.dims().get(1..).unwrap_or_default();
            part.dtype() == dtype
                && row.len() == dims.len()
                && row.iter().zip(dims).all(|(own, all)| own <= all)
        };
        if element.len() != dtype.size() || !parts.iter().all(fits) {
            let wrong = format!("tensors like {dtype} {:?} cannot be filled up to {dims:?}", first.dims());
            return Err(DeviceError::operation(wrong));
        }
        let rows = parts.iter().filter_map(|part| part.dims().first()).sum();
        let whole: Dims = std::iter::once(rows).chain(dims.iter().copied()).collect();
        self.admit(whole.iter().fold(dtype.size(), |bytes: usize, dim| bytes.saturating_mul(*dim)))?;
        Ok(OrtTensor::padded(dtype, whole, parts, element))
    }

    /// The parts are views into the tensor, unless
    /// [`with_own_outputs`](OrtDevice::with_own_outputs) says otherwise.
    fn scatter(&self, tensor: OrtTensor, rows: &[usize]) -> Result<Vec<OrtTensor>, DeviceError> {
        let views = views(&tensor, rows)?;
        if !self.own_outputs || rows.len() == 1 {
            return Ok(views);
        }
        Ok(views.iter().map(OrtTensor::own).collect())
    }

    fn is_host(&self) -> bool {
        true
    }

    fn bind_thread(&self) -> Result<(), DeviceError> {
        match self.options.threads {
            Some(got) if !(1..=MAX_THREADS).contains(&got) => {
                Err(DeviceError::operation(WrongThreads { got }))
            }
            _ => Ok(()),
        }
    }

    /// Runs are over when they return.
    fn synchronize(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn trim_memory(&self) {
        if self.cuda.is_none() {
            memory::trim();
        }
    }

    /// The machine's memory where Linux tells.
    fn memory(&self) -> Option<MemoryInfo> {
        if self.cuda.is_none() { memory::of_machine() } else { None }
    }
}
