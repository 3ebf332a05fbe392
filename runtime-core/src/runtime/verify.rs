//! Batches that are verified: one of their tasks is run alone, too, and must get the same.

use super::batch::{CutBatch, Joined};
use super::blocks::Blocks;
use super::directory::Station;
use super::shared::Shared;
use super::sharing::Sharing;
use super::verifying::Alone;
use crate::contract::backend::Pass;
use crate::contract::device::Device;
use crate::contract::error::batch::BatchError;
use crate::contract::error::cause::Chain;
use crate::contract::verify::Verified;
use crate::policy::likeness::difference;
use crate::sync::{discard, discard_all, guarded, log};
use std::slice::from_ref;

impl<D: Device> Shared<D> {
    /// Runs one task of a batch that has run alone, if it is the batch's turn to be verified.
    pub(crate) fn run_alone(
        &self,
        blocks: &mut Blocks<D>,
        batch: &CutBatch<D::Tensor>,
    ) -> Option<Alone<D::Tensor>> {
        let station = &*batch.station;
        let verifying = station.verifying.as_ref().filter(|_| station.pass == Pass::Forward)?;
        let place = verifying.next(batch.headers.len())?;
        let run = || {
            let inputs = self.gather_alone(batch, place)?;
            let outputs = call(blocks, station, &inputs);
            let done = self.outside.on_device("synchronize", Device::synchronize);
            discard_all(inputs);
            done.and(outputs)
        };
        let outputs = self.at_work(&batch.flight, run);
        Some(Alone { place, tolerance: verifying.tolerance(), outputs })
    }

    /// Gathers the inputs of one task. It needs no padding: what that does to the task is what is to be found out.
    fn gather_alone(
        &self,
        batch: &CutBatch<D::Tensor>,
        place: usize,
    ) -> Result<Joined<D::Tensor>, BatchError> {
        let alone = place..place + 1;
        match batch.station.sharing.as_deref() {
            Some(Sharing::Padded(plan)) => return Ok(self.gather_padded(batch, plan, alone, false)?.0),
            Some(Sharing::Ragged(ragged)) => return Ok(self.gather_ragged(batch, ragged, alone)?.0),
            None => {}
        }
        let gather = |column: &Vec<D::Tensor>| {
            let part = column.get(place).map(from_ref).unwrap_or_default();
            self.outside.on_device("gather", |device| device.gather(part))
        };
        batch.columns.iter().map(gather).collect()
    }

    /// Compares what a task got in company with what it got alone. `tasks` are the outputs of all tasks of the batch.
    pub(crate) fn compare(
        &self,
        batch: &CutBatch<D::Tensor>,
        alone: Alone<D::Tensor>,
        tasks: &[Vec<D::Tensor>],
    ) -> (Verified, Option<BatchError>) {
        let Alone { place, tolerance, outputs } = alone;
        let Some(company) = tasks.get(place) else {
            return (Verified::new(f64::MAX, tolerance), None);
        };
        let compare = || {
            let outputs = outputs?;
            let mut most = if outputs.len() == company.len() { 0.0 } else { f64::MAX };
            for (at, (output, company)) in outputs.into_iter().zip(company).enumerate() {
                let spans = batch.spans(at, place..place + 1);
                let own = self.outside.on_device("describe", |device| device.describe(&output))?;
                if own.rows() != spans.first().copied() {
                    discard(output);
                    most = f64::MAX;
                    continue;
                }
                let alone = self.scatter_to(batch, at, place..place + 1, output, &spans)?;
                let read = |tensor| self.outside.on_device("check", |device| device.to_host(tensor));
                let expected = alone.first().map(read).transpose()?;
                let got = read(company)?;
                most = f64::max(most, expected.map_or(f64::MAX, |expected| difference(&got, &expected)));
                discard_all(alone);
            }
            Ok(most)
        };
        match guarded(compare)
            .unwrap_or_else(|message| Err(BatchError::Panic { during: "verification".to_owned(), message }))
        {
            Ok(difference) => (Verified::new(difference, tolerance), None),
            Err(error) => (Verified::new(f64::MAX, tolerance), Some(error)),
        }
    }
}

/// Logs what came of a verification.
pub(crate) fn log_verified<T>(batch: &CutBatch<T>, verified: Verified, error: Option<BatchError>) {
    let (pool, rows, tasks) = (batch.station.pool.name(), batch.rows(), batch.headers.len());
    let Verified { difference, tolerance } = verified;
    log(|| match &error {
        Some(error) => {
            let error = Chain(error);
            tracing::warn!(pool, rows, tasks, %error, "verification: a task of a batch that ran cannot be run alone");
        }
        None if verified.holds() => {
            tracing::debug!(
                pool,
                rows,
                tasks,
                difference,
                tolerance,
                "verification: a task got the same alone"
            );
        }
        None => tracing::warn!(
            pool,
            rows,
            tasks,
            difference,
            tolerance,
            "verification: a task got something else in company than alone, the block mixes rows up"
        ),
    });
    discard(error);
}

fn call<D: Device>(
    blocks: &mut Blocks<D>,
    station: &Station<D::Tensor>,
    inputs: &[D::Tensor],
) -> Result<Vec<D::Tensor>, BatchError> {
    let name = || station.info.name.clone();
    let Some(block) = blocks.get_mut(station.block.slot) else {
        return Err(BatchError::Block { block: name(), source: "block is missing".into() });
    };
    match guarded(|| block.forward(inputs)) {
        Ok(outputs) => outputs.map_err(|source| BatchError::Block { block: name(), source }),
        Err(message) => Err(BatchError::Panic { during: format!("block `{}`", name()), message }),
    }
}
