//! A device and a block that go wrong by seed, and keep a ledger of what they did.

use super::faults::{Fault, Faults};
use super::ledger::{Census, Ledger, Life, Row, RunId};
use super::stuck::Stuck;
use crate::kit::{Bomb, HostileError};
use skep_runtime_core::testing::FnBlock;
use skep_runtime_core::{
    BoxError, DType, Device, DeviceError, HostTensor, MemoryInfo, Schema, TensorInfo, TensorOps, TensorSpec,
};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Columns of a task's input, and of the first output: `[caller, serial, row, doom, 0]` becomes
/// `[pool, caller, serial, row, run]`. Whole numbers below 2^24, which f32 holds exactly.
pub(super) const WIDTH: usize = 5;

/// A tensor that is counted, and knows the run that it came from.
pub(super) struct Tracked<T> {
    tensor: T,
    run: RunId,
    /// Its dims were told before, and can be again.
    is_readable: AtomicBool,
    _life: Life,
}

/// A device that does what another does, and goes wrong by seed.
pub(super) struct Faulty<D: Device> {
    /// Which one of several it is.
    pub(super) number: u32,
    pub(super) inner: D,
    pub(super) faults: Faults,
    pub(super) ledger: Arc<Ledger>,
    pub(super) census: Arc<Census>,
    pub(super) stuck: Stuck,
    /// It has died: nothing works any more.
    pub(super) dead: AtomicBool,
    /// The most rows that fit.
    pub(super) room: usize,
    /// Outputs must be copied back.
    pub(super) remote: bool,
    /// The last run, which the synchronization after it belongs to.
    pub(super) last_run: AtomicU32,
}

impl<D: Device> Faulty<D> {
    fn track(&self, tensor: D::Tensor, run: RunId) -> Tracked<D::Tensor> {
        Tracked { tensor, run, is_readable: AtomicBool::new(false), _life: Life::new(&self.census) }
    }

    fn track_all(&self, tensors: Vec<D::Tensor>, run: RunId) -> Vec<Tracked<D::Tensor>> {
        tensors.into_iter().map(|tensor| self.track(tensor, run)).collect()
    }

    /// Makes a host tensor of f32 rows.
    pub(super) fn rows(&self, width: usize, values: &[f32]) -> Tracked<D::Tensor> {
        let tensor = HostTensor::from_f32(&[values.len() / width, width], values).unwrap();
        self.track(self.inner.from_host(&tensor).unwrap(), 0)
    }

    /// Returns the values of a tensor, row major.
    pub(super) fn read(&self, tensor: &Tracked<D::Tensor>) -> Vec<f32> {
        self.inner.to_host(&tensor.tensor).unwrap().to_f32().expect("tensor should hold f32")
    }

    /// Brings the output of a run onto the device.
    fn output(&self, run: RunId, width: usize, values: &[f32]) -> Result<Tracked<D::Tensor>, BoxError> {
        let tensor = HostTensor::from_f32(&[values.len() / width, width], values)?;
        let tensor = self.inner.gather(&[self.inner.from_host(&tensor)?])?;
        Ok(self.track(tensor, run))
    }

    /// Goes wrong in one of these ways, or not. Returns a fault that the caller has to act out by itself.
    fn may_fail(&self, run: RunId, faults: &[Fault]) -> Result<Option<Fault>, DeviceError> {
        self.must_live(run)?;
        self.may_go_wrong(run, faults)
    }

    /// Does so where the device is not needed, dead or alive.
    fn may_go_wrong(&self, run: RunId, faults: &[Fault]) -> Result<Option<Fault>, DeviceError> {
        let fault = self.faults.draw(faults);
        match fault {
            Some(Fault::Error) => {
                self.ledger.fail(run);
                Err(DeviceError::operation("on purpose: device"))
            }
            Some(Fault::OutOfMemory) => {
                self.ledger.fail(run);
                Err(self.no_room())
            }
            Some(Fault::Panic) => {
                self.ledger.fail(run);
                panic!("on purpose: device")
            }
            Some(late @ (Fault::Slow | Fault::Hang)) => {
                late.dawdle();
                Ok(None)
            }
            other => Ok(other),
        }
    }

    fn must_live(&self, run: RunId) -> Result<(), DeviceError> {
        if self.dead.load(Ordering::Relaxed) {
            self.ledger.fail(run);
            return Err(DeviceError::Fatal { device: self.name(), message: "on purpose: dead".to_owned() });
        }
        Ok(())
    }

    fn no_room(&self) -> DeviceError {
        DeviceError::OutOfMemory { device: self.name(), message: "on purpose".to_owned() }
    }
}

impl<D: Device> TensorOps for Faulty<D> {
    type Tensor = Tracked<D::Tensor>;

    fn describe(&self, tensor: &Self::Tensor) -> Result<TensorInfo, DeviceError> {
        // A panic would be the submitting caller's own; see what is said of `describe` in the contract.
        if !tensor.is_readable.load(Ordering::Relaxed) {
            self.may_go_wrong(tensor.run, &[Fault::Error])?;
            tensor.is_readable.store(true, Ordering::Relaxed);
        }
        self.inner.describe(&tensor.tensor)
    }

    fn join(&self, parts: Vec<Self::Tensor>) -> Result<Self::Tensor, DeviceError> {
        self.may_go_wrong(0, &[Fault::Error, Fault::Panic])?;
        let tensor = self.inner.join(parts.into_iter().map(|part| part.tensor).collect())?;
        Ok(self.track(tensor, 0))
    }

    fn split(&self, tensor: &Self::Tensor, rows: &[usize]) -> Result<Vec<Self::Tensor>, DeviceError> {
        self.may_go_wrong(0, &[Fault::Error])?;
        Ok(self.track_all(self.inner.split(&tensor.tensor, rows)?, 0))
    }

    fn slice(&self, tensor: &Self::Tensor, rows: Range<usize>) -> Result<Self::Tensor, DeviceError> {
        // All rows are a second hold on the tensor.
        let is_whole = self.inner.describe(&tensor.tensor)?.rows() == Some(rows.len());
        if !is_whole {
            self.may_go_wrong(0, &[Fault::Error])?;
        }
        let cut = self.track(self.inner.slice(&tensor.tensor, rows)?, 0);
        cut.is_readable.store(is_whole, Ordering::Relaxed);
        Ok(cut)
    }

    fn all_finite(&self, tensor: &Self::Tensor) -> Result<bool, DeviceError> {
        let finite = self.inner.all_finite(&tensor.tensor)?;
        if !finite {
            self.ledger.doom(tensor.run);
        }
        Ok(finite)
    }

    fn index_outside(&self, tensor: &Self::Tensor, below: u64) -> Result<Option<i64>, DeviceError> {
        self.inner.index_outside(&tensor.tensor, below)
    }

    fn from_host(&self, tensor: &HostTensor) -> Result<Self::Tensor, DeviceError> {
        Ok(self.track(self.inner.from_host(tensor)?, 0))
    }

    fn to_host(&self, tensor: &Self::Tensor) -> Result<HostTensor, DeviceError> {
        self.inner.to_host(&tensor.tensor)
    }
}

impl<D: Device> Device for Faulty<D> {
    fn name(&self) -> String {
        format!("faulty {}", self.inner.name())
    }

    fn gather(&self, parts: &[Self::Tensor]) -> Result<Self::Tensor, DeviceError> {
        self.may_fail(0, &[Fault::Error, Fault::Panic, Fault::Slow, Fault::OutOfMemory])?;
        // Tensors need not be cloneable, and the inner device takes its own: copies by way of the host.
        let copies = parts.iter().map(|part| self.inner.from_host(&self.inner.to_host(&part.tensor)?));
        let tensor = self.inner.gather(&copies.collect::<Result<Vec<_>, _>>()?)?;
        if self.inner.describe(&tensor)?.rows() > Some(self.room) {
            return Err(self.no_room());
        }
        Ok(self.track(tensor, 0))
    }

    fn scatter(&self, tensor: Self::Tensor, rows: &[usize]) -> Result<Vec<Self::Tensor>, DeviceError> {
        let run = tensor.run;
        let fault = self.may_fail(run, &[Fault::Error, Fault::Panic, Fault::Slow, Fault::WrongRows])?;
        let mut parts = self.track_all(self.inner.scatter(tensor.tensor, rows)?, run);
        if fault == Some(Fault::WrongRows) {
            self.ledger.fail(run);
            parts.pop();
        }
        Ok(parts)
    }

    fn is_host(&self) -> bool {
        self.inner.is_host() && !self.remote
    }

    fn bind_thread(&self) -> Result<(), DeviceError> {
        self.may_fail(0, &[Fault::Error, Fault::Panic])?;
        self.inner.bind_thread()
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        self.may_fail(self.last_run.load(Ordering::Relaxed), &[Fault::Error, Fault::Panic, Fault::Slow])?;
        self.inner.synchronize()
    }

    fn trim_memory(&self) {
        self.inner.trim_memory();
    }

    fn memory(&self) -> Option<MemoryInfo> {
        self.inner.memory()
    }
}

/// Makes the schema of a block's two outputs: `y` says where each row came from, `z` repeats its serial.
fn outputs() -> Schema {
    let specs = [("y", WIDTH), ("z", 1)].map(|(name, width)| TensorSpec::rows(name, DType::F32, &[width]));
    Schema::new(specs.into()).unwrap()
}

/// Makes a block with pool number `pool` for its forward pass, and `pool + 1` for its backward pass if it has one.
pub(super) fn faulty_block<D: Device>(
    device: &Arc<Faulty<D>>,
    name: &str,
    pool: usize,
    backward: bool,
) -> FnBlock<Faulty<D>> {
    let pool = u32::try_from(pool).unwrap();
    let inputs = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[WIDTH])]).unwrap();
    let on = Arc::clone(device);
    let forward = move |inputs: &[Tracked<D::Tensor>]| run(&on, pool, &inputs[0], 2);
    let block = FnBlock::new(name, inputs, Some(outputs()), forward);
    if !backward {
        return block;
    }
    let on = Arc::clone(device);
    // The gradients of the outputs do not matter: only which row is which does.
    block.with_backward(move |inputs: &[_], _: &[_]| run(&on, pool + 1, &inputs[0], 1))
}

/// Does one call of a block, and returns the first `give` of its outputs.
fn run<D: Device>(
    device: &Faulty<D>,
    pool: u32,
    input: &Tracked<D::Tensor>,
    give: usize,
) -> Result<Vec<Tracked<D::Tensor>>, BoxError> {
    let values = device.read(input);
    let rows: Vec<Row> = values.chunks_exact(WIDTH).map(|row| Row::read(pool, row)).collect();
    let run = device.ledger.begin(device.number, rows);
    device.last_run.store(run, Ordering::Relaxed);
    if device.stuck.pass() {
        // It was given up meanwhile.
        device.ledger.fail(run);
    }
    device.must_live(run)?;

    let dooms = || values.chunks_exact(WIDTH).map(|row| Fault::from_value(row[3]));
    let usual = [Fault::Error, Fault::Panic, Fault::Slow, Fault::Hang, Fault::WrongRows, Fault::WrongOutputs];
    let doom = dooms().flatten().find(|doom| *doom != Fault::NonFinite);
    let fault = doom.or_else(|| device.faults.draw(&usual));
    if doom.is_some() {
        device.ledger.doom(run);
    } else if !matches!(fault, None | Some(Fault::Slow | Fault::Hang)) {
        device.ledger.fail(run);
    }
    match fault {
        Some(Fault::Error) => return Err(HostileError::any(run)),
        Some(Fault::Panic) if run.is_multiple_of(2) => std::panic::panic_any(Bomb),
        Some(Fault::Panic) => panic!("on purpose: block"),
        Some(Fault::OutOfMemory) => return Err(device.no_room().into()),
        Some(Fault::WrongOutputs) => return Ok(Vec::new()),
        Some(late @ (Fault::Slow | Fault::Hang)) => late.dawdle(),
        Some(Fault::WrongRows | Fault::NonFinite) | None => {}
    }
    let keep = if fault == Some(Fault::WrongRows) { values.len() - WIDTH } else { values.len() };
    let (mut y, mut z) = (Vec::with_capacity(keep), Vec::with_capacity(keep / WIDTH));
    for row in values[..keep].chunks_exact(WIDTH) {
        let poisoned = Fault::from_value(row[3]) == Some(Fault::NonFinite);
        let pool = if poisoned { f32::NAN } else { exact(pool) };
        y.extend([pool, row[0], row[1], row[2], exact(run)]);
        z.push(row[1]);
    }
    let outputs = [device.output(run, WIDTH, &y)?, device.output(run, 1, &z)?];
    Ok(outputs.into_iter().take(give).collect())
}

impl Row {
    /// Reads the row of an input.
    fn read(pool: u32, values: &[f32]) -> Self {
        Self { pool, caller: whole(values[0]), serial: whole(values[1]), at: whole(values[2]) }
    }
}

/// Converts a number that f32 holds exactly.
#[expect(clippy::cast_precision_loss, reason = "checked")]
pub(super) fn exact(number: u32) -> f32 {
    assert!(number < 1 << 24, "number is {number}, expected less than 2^24");
    number as f32
}

/// Reverses [`exact`]; a value that it never gives becomes a number that nothing has.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
pub(super) fn whole(value: f32) -> u32 {
    if value >= 0.0 && value.fract() == 0.0 { value as u32 } else { u32::MAX }
}
