//! Where batches run, on libtorch: the host's processor, or one GPU.

mod bytes;
mod failure;
mod threads;

use crate::shim::{self, JoinError};
use failure::{NoCuda, Unavailable};
use skep_runtime_core::{BoxError, Device, DeviceError, HostTensor, MemoryInfo, TensorInfo, TensorOps};
use skep_toolkit::memory;
use tch::{Device as TorchDevice, TchError, Tensor};

pub(crate) use bytes::torch_dims;
pub(crate) use threads::OneThread;

/// Options of the processor.
///
/// ```
/// use skep_backend_tch::{CpuOptions, TchDevice};
///
/// let device = TchDevice::cpu_with(CpuOptions::default().threads(Some(1)));
/// assert_eq!(device.max_bytes(), TchDevice::cpu().max_bytes());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuOptions {
    /// The number of threads that one operation may use (libtorch's intra-op threads), the device thread included;
    /// `None` leaves it to libtorch: `OMP_NUM_THREADS`, or as many as there are physical cores.
    ///
    /// It is set when the device thread of a runtime starts and holds for that thread, so two runtimes of
    /// one process may differ. Threads that use libtorch for the first time later take it over. One thread per
    /// core is right for a machine that does nothing else. Where other processes or callers are busy, one
    /// thread in all is faster, by a factor of five on two cores: OpenMP's threads spin while they wait for
    /// each other. `OMP_WAIT_POLICY=passive`, set before the process starts, makes them sleep instead.
    pub threads: Option<usize>,
    /// The most bytes that one tensor which the device makes may have; `None` for a quarter of the
    /// machine's memory (of the container's limit, if there is one).
    ///
    /// Operating systems promise more memory than there is and end the process that uses it, so the size is
    /// checked before it is asked for. What a block makes in between is not checked: leave room for it.
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

/// A place where libtorch runs: `cpu`, `cuda:0`.
///
/// Cloning it gives another handle to the same place. Callers' tensors are on the host; a caller's tensor
/// that is part of a graph is used without its graph.
///
/// ```
/// use skep_backend_tch::TchDevice;
/// use skep_backend_tch::runtime::Device;
/// use skep_backend_tch::tch::{Kind, Tensor};
///
/// let device = TchDevice::cpu();
/// let part = |rows| Tensor::f_ones([rows, 4], (Kind::Float, device.place()));
/// let batch = device.gather(&[part(1)?, part(2)?])?;
/// assert_eq!(batch.size(), [3, 4]);
/// let parts = device.scatter(batch, &[1, 2])?;
/// assert_eq!(parts[1].size(), [2, 4]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TchDevice {
    cuda: Option<usize>,
    options: CpuOptions,
    own_outputs: bool,
}

impl TchDevice {
    /// Returns the host's processor, with the default options.
    pub fn cpu() -> Self {
        Self::cpu_with(CpuOptions::default())
    }

    /// Returns the host's processor.
    pub fn cpu_with(options: CpuOptions) -> Self {
        Self { cuda: None, options, own_outputs: false }
    }

    /// Opens a CUDA device. Needs a libtorch that was built with CUDA, and a driver; this crate itself is the same
    /// for all.
    ///
    /// Loads the CUDA half of libtorch, which the linker leaves out of programs. Make this device before
    /// anything else uses libtorch: it looks for CUDA once, and keeps the answer.
    ///
    /// # Errors
    ///
    /// Returns a [`DeviceError`] if this libtorch has no CUDA, or there is no such device.
    pub fn cuda(ordinal: usize) -> Result<Self, DeviceError> {
        let name = format!("cuda:{ordinal}");
        let unavailable =
            |source: BoxError| DeviceError::operation(Unavailable { name: name.clone(), source });
        shim::load_cuda().map_err(|e| unavailable(NoCuda(text(&e).into()).into()))?;
        match shim::cuda_count().map_err(|e| unavailable(text(&e).into()))? {
            0 => Err(unavailable("libtorch finds no device or no driver".into())),
            count if ordinal >= count => {
                Err(unavailable(format!("there are {count} devices, from cuda:0").into()))
            }
            _ => {
                let options = CpuOptions::default();
                Ok(Self { cuda: Some(ordinal), options, own_outputs: false })
            }
        }
    }

    /// Gives each task outputs of its own. Without it the outputs of a batch are views into one tensor, which
    /// costs nothing but keeps the whole batch's output in memory for as long as any caller holds its part:
    /// choose this where callers keep a few outputs for long and the batches are large. It copies each output
    /// once, on the thread that answers.
    pub fn with_own_outputs(mut self) -> Self {
        self.own_outputs = true;
        self
    }

    /// Returns tch's name for this place.
    pub fn place(&self) -> TorchDevice {
        self.cuda.map_or(TorchDevice::Cpu, TorchDevice::Cuda)
    }

    /// Returns the most bytes that one tensor on the host may have.
    pub fn max_bytes(&self) -> usize {
        self.options.max_bytes.unwrap_or_else(memory::default_limit)
    }

    /// Sorts tch's error: out of memory, device lost, or one failed operation.
    pub fn failure(&self, error: TchError) -> DeviceError {
        failure::sort(&self.name(), error)
    }

    /// The same for an error that may be of any kind.
    pub(crate) fn unbox(&self, error: BoxError) -> DeviceError {
        match error.downcast::<TchError>() {
            Ok(error) => self.failure(*error),
            Err(error) => match error.downcast::<DeviceError>() {
                Ok(error) => *error,
                Err(error) => DeviceError::operation(error),
            },
        }
    }

    /// The ordinal of the CUDA device, `None` for the host.
    pub(crate) fn cuda_ordinal(&self) -> Option<usize> {
        self.cuda
    }

    /// Refuses a tensor on the host that is larger than [`max_bytes`](Self::max_bytes).
    pub(crate) fn admit(&self, bytes: usize) -> Result<(), DeviceError> {
        let limit = self.max_bytes();
        if bytes <= limit { Ok(()) } else { Err(failure::too_large(self.name(), bytes, limit)) }
    }

    /// Where the device is the host, its threads are not to be disturbed by those of other threads.
    fn one_thread(&self) -> Option<OneThread> {
        self.is_host().then(OneThread::here)
    }

    fn to_cpu(&self, tensor: &Tensor) -> Result<Tensor, DeviceError> {
        shim::to_host(tensor).map_err(|e| self.failure(e))
    }

    fn join_on(&self, cuda: Option<usize>, parts: &[Tensor]) -> Result<Tensor, DeviceError> {
        let _one = self.one_thread();
        shim::join(parts, cuda, self.max_bytes()).map_err(|error| self.unjoined(error))
    }

    fn unjoined(&self, error: JoinError) -> DeviceError {
        match error {
            JoinError::TooLarge(bytes) => failure::too_large(self.name(), bytes, self.max_bytes()),
            JoinError::Torch(error) => self.failure(error),
        }
    }

    /// Cuts a tensor on the host into views.
    fn views(&self, tensor: &Tensor, rows: &[usize]) -> Result<Vec<Tensor>, DeviceError> {
        let mut start = 0;
        let cut = |rows: i64| {
            let part = tensor.f_narrow(0, start, rows);
            start += rows;
            part
        };
        let rows = torch_dims(rows).map_err(|e| self.failure(e))?;
        rows.into_iter().map(cut).collect::<Result<_, _>>().map_err(|e| self.failure(e))
    }
}

/// The text of an error without the name of its variant.
fn text(error: &TchError) -> String {
    match error {
        TchError::Torch(text) => text.clone(),
        other => other.to_string(),
    }
}

impl TensorOps for TchDevice {
    type Tensor = Tensor;

    fn describe(&self, tensor: &Tensor) -> Result<TensorInfo, DeviceError> {
        let facts = shim::describe(tensor).map_err(|e| self.failure(e))?;
        let dtype = bytes::dtype_of(facts.scalar_type).map_err(DeviceError::operation)?;
        Ok(TensorInfo { dtype, dims: facts.dims })
    }

    fn join(&self, parts: Vec<Tensor>) -> Result<Tensor, DeviceError> {
        self.join_on(None, &parts)
    }

    fn split(&self, tensor: &Tensor, rows: &[usize]) -> Result<Vec<Tensor>, DeviceError> {
        self.views(tensor, rows)
    }

    fn narrow(&self, tensor: &Tensor, dim: usize, size: usize) -> Result<Tensor, DeviceError> {
        let [dim, size] = *torch_dims(&[dim, size]).map_err(|e| self.failure(e))? else {
            return Err(DeviceError::operation("a tensor has no such dim"));
        };
        tensor.f_narrow(dim, 0, size).map_err(|e| self.failure(e))
    }

    fn reshape(&self, tensor: &Tensor, dims: &[usize]) -> Result<Tensor, DeviceError> {
        let _one = self.one_thread();
        let dims = torch_dims(dims).map_err(|e| self.failure(e))?;
        tensor.f_reshape(dims).map_err(|e| self.failure(e))
    }

    fn index_outside(&self, tensor: &Tensor, below: u64) -> Result<Option<i64>, DeviceError> {
        let _one = self.one_thread();
        let tensor = self.to_cpu(tensor)?;
        let info = self.describe(&tensor)?;
        bytes::index_outside(&tensor, info.dtype, &info.dims, below).map_err(|e| self.unbox(e))
    }

    fn from_host(&self, tensor: &HostTensor) -> Result<Tensor, DeviceError> {
        let _one = self.one_thread();
        self.admit(tensor.bytes().len())?;
        bytes::from_host(tensor).map_err(|e| self.unbox(e))
    }

    fn to_host(&self, tensor: &Tensor) -> Result<HostTensor, DeviceError> {
        let _one = self.one_thread();
        // Unlike outputs that are scattered, this one may still be in the making.
        self.synchronize()?;
        let tensor = self.to_cpu(tensor)?;
        let info = self.describe(&tensor)?;
        let bytes = shim::to_bytes(&tensor, bytes::count(info.dtype, &info.dims));
        let bytes = bytes.map_err(|e| self.failure(e))?;
        HostTensor::new(info.dtype, &info.dims, bytes).map_err(DeviceError::operation)
    }
}

impl Device for TchDevice {
    fn name(&self) -> String {
        self.cuda.map_or_else(|| "cpu".to_owned(), |ordinal| format!("cuda:{ordinal}"))
    }

    /// Joins the parts on the host, in pinned memory where the device is not the host, and uploads them in one
    /// copy on a stream of its own, so that a batch that is running goes on.
    fn gather(&self, parts: &[Tensor]) -> Result<Tensor, DeviceError> {
        self.join_on(self.cuda, parts)
    }

    /// Fills the parts up on the host, where each byte is written once, and uploads them as [`gather`](Device::gather)
    /// does.
    fn gather_padded(&self, parts: &[Tensor], dims: &[usize], element: &[u8]) -> Result<Tensor, DeviceError> {
        let dims = torch_dims(dims).map_err(|e| self.failure(e))?;
        shim::join_padded(parts, &dims, element, self.cuda, self.max_bytes())
            .map_err(|error| self.unjoined(error))
    }

    /// Downloads the tensor in one copy, on a stream of its own, where the device is not the host. The parts
    /// are views into it.
    fn scatter(&self, tensor: Tensor, rows: &[usize]) -> Result<Vec<Tensor>, DeviceError> {
        let _one = self.one_thread();
        let views = self.views(&self.to_cpu(&tensor)?, rows)?;
        if !self.own_outputs || rows.len() == 1 {
            return Ok(views);
        }
        views.iter().map(|view| view.f_detach_copy().map_err(|e| self.failure(e))).collect()
    }

    fn is_host(&self) -> bool {
        self.cuda.is_none()
    }

    /// Sets the threads of one operation where the device is the host, and has numbers below the smallest normal one
    /// taken for 0: they cost a hundred times as much as others.
    fn bind_thread(&self) -> Result<(), DeviceError> {
        if !self.is_host() {
            return Ok(());
        }
        threads::claim();
        shim::flush_denormals();
        self.options.threads.map_or(Ok(()), threads::bind).map_err(DeviceError::operation)
    }

    /// Waits for what blocks have started. Copies wait for themselves.
    fn synchronize(&self) -> Result<(), DeviceError> {
        self.cuda.map_or(Ok(()), |ordinal| shim::synchronize(ordinal).map_err(|e| self.failure(e)))
    }

    fn trim_memory(&self) {
        match self.cuda {
            None => memory::trim(),
            // What cannot be given back is kept.
            Some(_) => drop(shim::empty_cache()),
        }
    }

    /// The GPU's memory, or the machine's where the device is the host and Linux tells.
    fn memory(&self) -> Option<MemoryInfo> {
        let Some(ordinal) = self.cuda else { return memory::of_machine() };
        let (free, total) = shim::memory(ordinal).ok()?;
        Some(MemoryInfo::new(total.saturating_sub(free), total))
    }
}
