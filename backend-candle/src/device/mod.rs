//! Where batches run, on candle: the host's processor, or one GPU.

mod bytes;
mod failure;
mod threads;

pub(crate) use bytes::known as known_dtype;

use candle_core::{Device as Place, DeviceLocation, Tensor};
use skep_runtime_core::{Device, DeviceError, Dims, HostTensor, MemoryInfo, TensorInfo, TensorOps};
use skep_toolkit::memory;

/// Options of the processor.
///
/// Inference in f32 by text models and by this crate's [`layers`](crate::layers) takes its threads from here alone.
/// **For all else (training, f16 and bf16, an application's own layers) set `RAYON_NUM_THREADS` before the process
/// starts**, to any number: candle asks for it at each matrix product, and where it is not set, candle counts the
/// machine's cores anew each time by reading `/proc/cpuinfo`. That costs about 50 µs, where a small product takes 1 µs.
///
/// ```
/// use skep_backend_candle::{CandleDevice, CpuOptions};
///
/// let device = CandleDevice::cpu_with(CpuOptions::default().threads(Some(1)));
/// assert_eq!(device.max_bytes(), CandleDevice::cpu().max_bytes());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuOptions {
    /// The number of threads that a batch may use, the device thread included; `None` takes `RAYON_NUM_THREADS`, or as
    /// many as there are cores. Text models share the texts of a batch among them, so that threads meet once a batch;
    /// with fewer texts than threads, and in candle's own products, they meet at each product.
    ///
    /// Each runtime gets its own threads when it starts, so this is never too late, and two runtimes of
    /// one process may differ. One thread per core is right for a machine that does nothing else; where
    /// other processes are busy, one thread in all is often faster.
    ///
    /// This does not reach candle's own work on single elements of large tensors (65,536 elements and
    /// more), which runs on threads of one pool for the whole process. Their number is read from the environment
    /// (`CANDLE_NUM_THREADS`, else `RAYON_NUM_THREADS`) at the first such operation; a later change has no
    /// effect. Set it before the process starts.
    pub threads: Option<usize>,
    /// The core on which the device thread stays, with the threads that it starts: those of the runtime, and those that it
    /// computes with. They have as many cores as `threads` from this one on. Default `None`: the system decides.
    ///
    /// For several devices on one processor that [feed from one pool](skep_pool::Serve::join): each has cores of its
    /// own, and they do not fight. Needs `threads`; on Linux only, elsewhere the runtime does not start.
    pub first_core: Option<usize>,
    /// The most bytes that one tensor which the device makes may have; `None` for a quarter of the
    /// machine's memory (of the container's limit, if there is one).
    ///
    /// candle ends the process when the host's memory runs out, so the size is checked before it is asked
    /// for. What a block makes in between is not checked: leave room for it.
    pub max_bytes: Option<usize>,
}

impl CpuOptions {
    /// Sets [`threads`](Self#structfield.threads).
    pub fn threads(mut self, threads: impl Into<Option<usize>>) -> Self {
        self.threads = threads.into();
        self
    }

    /// Sets [`first_core`](Self#structfield.first_core).
    pub fn first_core(mut self, core: impl Into<Option<usize>>) -> Self {
        self.first_core = core.into();
        self
    }

    /// Sets [`max_bytes`](Self#structfield.max_bytes).
    pub fn max_bytes(mut self, max_bytes: impl Into<Option<usize>>) -> Self {
        self.max_bytes = max_bytes.into();
        self
    }
}

/// A place where candle runs: `cpu`, `cuda:0`, `metal:0`.
///
/// Cloning it gives another handle to the same place. Callers' tensors are on the host; a caller's tensor
/// that is a variable, or part of a graph, is used without its graph.
///
/// ```
/// use skep_backend_candle::CandleDevice;
/// use skep_backend_candle::candle_core::{Device as Place, Tensor};
/// use skep_backend_candle::runtime::Device;
///
/// let device = CandleDevice::cpu();
/// let part = |rows| Tensor::ones((rows, 4), candle_core::DType::F32, &Place::Cpu);
/// let batch = device.gather(&[part(1)?, part(2)?])?;
/// assert_eq!(batch.dims(), [3, 4]);
/// let parts = device.scatter(batch, &[1, 2])?;
/// assert_eq!(parts[1].dims(), [2, 4]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct CandleDevice {
    place: Place,
    options: CpuOptions,
    own_outputs: bool,
}

impl CandleDevice {
    /// Returns the host's processor, with the default options.
    pub fn cpu() -> Self {
        Self::cpu_with(CpuOptions::default())
    }

    /// Returns the host's processor.
    pub fn cpu_with(options: CpuOptions) -> Self {
        Self { place: Place::Cpu, options, own_outputs: false }
    }

    /// Opens a CUDA device. Needs the feature `cuda`.
    ///
    /// The device gets a stream of its own with events: the stream that CUDA gives to each thread would
    /// let the block read a batch before the loader's copy of it is done.
    ///
    /// # Errors
    ///
    /// Returns a [`DeviceError`] if the feature is off, or there is no such device.
    pub fn cuda(ordinal: usize) -> Result<Self, DeviceError> {
        Self::gpu(format!("cuda:{ordinal}"), Place::new_cuda_with_stream(ordinal))
    }

    /// Opens a Metal device. Needs the feature `metal`.
    ///
    /// # Errors
    ///
    /// Returns a [`DeviceError`] if the feature is off, or there is no such device.
    pub fn metal(ordinal: usize) -> Result<Self, DeviceError> {
        Self::gpu(format!("metal:{ordinal}"), Place::new_metal(ordinal))
    }

    fn gpu(name: String, place: candle_core::Result<Place>) -> Result<Self, DeviceError> {
        match place {
            Ok(place) => Ok(Self { place, options: CpuOptions::default(), own_outputs: false }),
            Err(source) => Err(DeviceError::operation(failure::Unavailable { name, source })),
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

    /// Returns candle's name for this place.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Returns the most bytes that one tensor on the host may have.
    pub fn max_bytes(&self) -> usize {
        self.options.max_bytes.unwrap_or_else(memory::default_limit)
    }

    /// Sorts candle's error: out of memory, device lost, or one failed operation.
    pub fn failure(&self, error: candle_core::Error) -> DeviceError {
        failure::sort(&self.name(), error)
    }

    /// Refuses a tensor on the host that is larger than [`max_bytes`](Self::max_bytes).
    pub(crate) fn admit(&self, bytes: usize) -> candle_core::Result<()> {
        failure::check_size(bytes, self.max_bytes())
    }

    /// Brings a tensor to the host, without its graph.
    fn to_cpu(&self, tensor: &Tensor) -> Result<Tensor, DeviceError> {
        let tensor = tensor.detach();
        if tensor.device().is_cpu() {
            return Ok(tensor);
        }
        // candle downloads all of the memory behind a view: have a strided one copied together first.
        let whole = tensor.contiguous().map_err(|e| self.failure(e))?;
        whole.to_device(&Place::Cpu).map_err(|e| self.failure(e))
    }

    /// Joins tensors on the host. One alone is passed on without a copy.
    fn join_on_cpu(&self, parts: &[Tensor]) -> Result<Tensor, DeviceError> {
        let parts = parts.iter().map(|part| self.to_cpu(part)).collect::<Result<Vec<_>, _>>()?;
        if let [part] = &*parts {
            return part.contiguous().map_err(|e| self.failure(e));
        }
        self.admit(parts.iter().fold(0, |sum: usize, part| sum.saturating_add(bytes::size(part))))
            .map_err(|e| self.failure(e))?;
        Tensor::cat(&parts, 0).map_err(|e| self.failure(e))
    }

    /// Cuts a tensor on the host into views.
    fn views(&self, tensor: &Tensor, rows: &[usize]) -> Result<Vec<Tensor>, DeviceError> {
        let mut start = 0;
        rows.iter()
            .map(|&count| {
                let part = tensor.narrow(0, start, count).map_err(|e| self.failure(e));
                start += count;
                part
            })
            .collect()
    }
}

impl TensorOps for CandleDevice {
    type Tensor = Tensor;

    fn describe(&self, tensor: &Tensor) -> Result<TensorInfo, DeviceError> {
        let dtype = bytes::dtype_of(tensor).map_err(DeviceError::operation)?;
        Ok(TensorInfo { dtype, dims: Dims::from_slice(tensor.dims()) })
    }

    fn join(&self, parts: Vec<Tensor>) -> Result<Tensor, DeviceError> {
        self.join_on_cpu(&parts)
    }

    fn split(&self, tensor: &Tensor, rows: &[usize]) -> Result<Vec<Tensor>, DeviceError> {
        self.views(tensor, rows)
    }

    fn narrow(&self, tensor: &Tensor, dim: usize, size: usize) -> Result<Tensor, DeviceError> {
        tensor.narrow(dim, 0, size).map_err(|e| self.failure(e))
    }

    fn reshape(&self, tensor: &Tensor, dims: &[usize]) -> Result<Tensor, DeviceError> {
        tensor.detach().reshape(dims).map_err(|e| self.failure(e))
    }

    fn index_outside(&self, tensor: &Tensor, below: u64) -> Result<Option<i64>, DeviceError> {
        bytes::index_outside(&self.to_cpu(tensor)?, below).map_err(|e| self.failure(e))
    }

    fn from_host(&self, tensor: &HostTensor) -> Result<Tensor, DeviceError> {
        self.admit(tensor.bytes().len()).map_err(|e| self.failure(e))?;
        bytes::from_host(tensor).map_err(|e| self.failure(e))
    }

    fn to_host(&self, tensor: &Tensor) -> Result<HostTensor, DeviceError> {
        let dtype = bytes::dtype_of(tensor).map_err(DeviceError::operation)?;
        let tensor = self.to_cpu(tensor)?;
        let bytes = bytes::of(&tensor).map_err(|e| self.failure(e))?;
        HostTensor::new(dtype, tensor.dims(), bytes).map_err(DeviceError::operation)
    }
}

impl Device for CandleDevice {
    fn name(&self) -> String {
        match self.place.location() {
            DeviceLocation::Cpu => "cpu".to_owned(),
            DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
        }
    }

    /// Joins the parts on the host, then uploads them in one copy where the device is not the host.
    fn gather(&self, parts: &[Tensor]) -> Result<Tensor, DeviceError> {
        self.join_on_cpu(parts)?.to_device(&self.place).map_err(|e| self.failure(e))
    }

    /// Fills the parts up on the host, where each element is written once, then uploads them in one copy where the device
    /// is not the host.
    fn gather_padded(&self, parts: &[Tensor], dims: &[usize], element: &[u8]) -> Result<Tensor, DeviceError> {
        let parts = parts.iter().map(|part| self.to_cpu(part)).collect::<Result<Vec<_>, _>>()?;
        let rows = parts.iter().map(|part| part.dims().first().copied().unwrap_or(0));
        let of_one = dims.iter().fold(element.len(), |bytes, dim| bytes.saturating_mul(*dim));
        self.admit(rows.sum::<usize>().saturating_mul(of_one)).map_err(|e| self.failure(e))?;
        let joined = bytes::padded(&parts, dims, element).map_err(|e| self.failure(e))?;
        joined.to_device(&self.place).map_err(|e| self.failure(e))
    }

    /// Downloads the tensor in one copy where the device is not the host. The parts are views into it, unless
    /// [`with_own_outputs`](CandleDevice::with_own_outputs) says otherwise.
    fn scatter(&self, tensor: Tensor, rows: &[usize]) -> Result<Vec<Tensor>, DeviceError> {
        let views = self.views(&self.to_cpu(&tensor)?, rows)?;
        if !self.own_outputs || rows.len() == 1 {
            return Ok(views);
        }
        views.iter().map(|view| view.force_contiguous().map_err(|e| self.failure(e))).collect()
    }

    fn is_host(&self) -> bool {
        self.place.is_cpu()
    }

    fn bind_thread(&self) -> Result<(), DeviceError> {
        if !self.place.is_cpu() {
            return Ok(());
        }
        let CpuOptions { threads, first_core, .. } = self.options;
        if let Some(first) = first_core {
            let Some(count) = threads else {
                return Err(DeviceError::operation("first_core is set and threads is not, expected both"));
            };
            threads::keep_on(first, count).map_err(DeviceError::operation)?;
        }
        threads.map_or(Ok(()), |count| threads::bind(count).map_err(DeviceError::operation))
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        self.place.synchronize().map_err(|e| self.failure(e))
    }

    fn trim_memory(&self) {
        if self.place.is_cpu() {
            memory::trim();
        }
    }

    /// The machine's memory where the device is the host, and Linux tells.
    fn memory(&self) -> Option<MemoryInfo> {
        self.place.is_cpu().then(memory::of_machine).flatten()
    }
}
