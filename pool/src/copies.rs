//! Copies of a block on several devices, brought up to date with the one that is trained.

use skep_runtime_core::sync::every::Every;
use skep_runtime_core::sync::log;
use skep_runtime_core::{Chain, ControlError, Device, Fit, Handle};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Copies the parameters of a block that is trained to its copies on other devices, at an interval and whenever it is asked
/// to: for blocks that [`Serve::join`](crate::Serve::join) has brought to several devices, of which one has the backward pass.
///
/// The parameters are read between two batches of the first device, and replaced between two batches of each other, so every
/// answer is wholly of older or of newer ones; where nothing has changed, nothing is done. The optimizer's state stays where
/// it is. Dropping it ends the thread, `skep-copies`.
///
/// ```
/// use skep_pool::{Copies, Serve, ServeOptions};
/// use skep_runtime_core::RuntimeBuilder;
/// use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock};
/// use std::time::Duration;
///
/// let block = |name: &str| FnBlock::rows(name, 1, |x: &[FakeTensor]| Ok(x.to_vec()));
/// let [mut first, mut second] = [(); 2].map(|()| RuntimeBuilder::new(FakeDevice::new()));
/// let served = first.serve(block("home"), ServeOptions::default())?;
/// second.join(block("copy"), &served)?;
/// let [first, second] = [first.start()?, second.start()?];
///
/// let copies = [(second.handle().clone(), "copy".to_owned())];
/// let copies = Copies::start(first.handle().clone(), "home", copies.into(), Duration::from_secs(60))?;
/// let done = copies.now(Duration::from_secs(10)).expect("should have been over by now")?;
/// assert_eq!((done.updated, done.failed.len()), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping it ends it"]
pub struct Copies(Every<Result<Copied, ControlError>>);

impl fmt::Debug for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copies").finish_non_exhaustive()
    }
}

/// What came of bringing copies up to date.
#[derive(Debug)]
#[non_exhaustive]
pub struct Copied {
    /// Copies that were brought up to date; none if they were.
    pub updated: usize,
    /// Copies that could not be, by their places in the list, and why. They are tried again the next time.
    pub failed: Vec<(usize, ControlError)>,
}

impl Copies {
    /// Starts a thread that copies the parameters of `block`, of the runtime `home`, to each of `copies`, runtimes and the
    /// names of the block there, once per `interval`, the first time one interval from now. A copy that fails is logged, and
    /// holds up no other.
    ///
    /// # Errors
    ///
    /// Returns an error of the kind [`InvalidInput`](io::ErrorKind::InvalidInput) if the interval is zero, and the
    /// system's own error if it cannot start a thread.
    pub fn start<D: Device>(
        home: Handle<D>,
        block: &str,
        copies: Vec<(Handle<D>, String)>,
        interval: Duration,
    ) -> io::Result<Self> {
        let block = block.to_owned();
        // For each the revision that it has, as far as that is known.
        let mut revisions: Vec<Option<u64>> = vec![None; copies.len()];
        let work = move || {
            let done = copy(&home, &block, &copies, &mut revisions);
            match &done {
                Ok(Copied { failed, .. }) => failed.iter().for_each(|(at, error)| {
                    let copy = copies.get(*at).map(|(_, name)| name);
                    log(|| tracing::warn!(block, copy, error = %Chain(error), "copy is not up to date"));
                }),
                Err(error) => {
                    log(|| tracing::warn!(block, error = %Chain(error), "copies are not up to date"));
                }
            }
            done
        };
        Every::start("skep-copies", interval, work).map(Self)
    }

    /// Brings all copies up to date now, and returns what came of it; `None` if it is not over within `limit`.
    ///
    /// # Errors
    ///
    /// Returns those of [`Handle::state`] if the parameters cannot be read.
    pub fn now(&self, limit: Duration) -> Option<Result<Copied, ControlError>> {
        self.0.now(limit)
    }

    /// Ends it, and waits for the work that is under way. Returns false if that is not over within `limit`: the thread is
    /// left behind, and ends with the work.
    pub fn stop(self, limit: Duration) -> bool {
        self.0.stop(limit)
    }
}

/// Brings the copies up to date that are not.
fn copy<D: Device>(
    home: &Handle<D>,
    block: &str,
    copies: &[(Handle<D>, String)],
    revisions: &mut [Option<u64>],
) -> Result<Copied, ControlError> {
    let mut done = Copied { updated: 0, failed: Vec::new() };
    // What all have; else it is read for those that have another.
    let first = revisions.first().copied().flatten();
    let known = first.filter(|_| revisions.iter().all(|known| *known == first));
    let Some((mut state, revision)) = home.state_since(block, known)? else { return Ok(done) };
    // What is left is the parameters: a copy has no optimizer, or one that never steps.
    state.optimizer.clear();
    state.scalars.clear();
    let state = Arc::new(state);
    for (at, ((handle, name), known)) in copies.iter().zip(revisions).enumerate() {
        if revision.is_some() && *known == revision {
            continue;
        }
        let state = Arc::clone(&state);
        let restored = handle.with_block(name, move |block| block.restore(&state, Fit::Partial));
        let restored = restored.and_then(|restored| {
            restored.map_err(|source| ControlError::Block { block: name.clone(), source })
        });
        match restored {
            Ok(_) => {
                *known = revision;
                done.updated += 1;
            }
            Err(error) => {
                *known = None;
                done.failed.push((at, error));
            }
        }
    }
    Ok(done)
}
