//! The loader: while a batch runs, chooses and gathers the next.

use super::batch::DoneBatch;
use super::choose::Now;
use super::gather::Outcome;
use super::park::sleep;
use super::sender::hand_off;
use super::shared::Shared;
use crate::contract::device::Device;
use crate::contract::pool::Shutdown;
use crate::sync::flume;

/// Runs until the device thread has ended.
pub(crate) fn loader_loop<D: Device>(shared: &Shared<D>, outputs: &flume::Sender<DoneBatch<D::Tensor>>) {
    loop {
        let mut stage = shared.stage.lock();
        if stage.ended {
            return;
        }
        let choosing = shared.bells.loader_chooses() && stage.stop != Some(Shutdown::Abort);
        let cut = if choosing && stage.gathered.len() < shared.settings.prefetch {
            shared.cut(&mut stage, &Now::new(|| shared.now()))
        } else {
            None
        };
        let Some(cut) = cut else {
            let until = if choosing { stage.index.next_look().map(|(time, _)| time) } else { None };
            drop(stage);
            sleep(&*shared.outside.clock, until);
            continue;
        };
        stage.gathering += 1;
        drop(stage);

        let outcome = shared.gather(cut);

        let mut stage = shared.stage.lock();
        stage.gathering -= 1;
        match outcome {
            // Nobody takes it any more once the device thread has ended.
            Outcome::Gathered(gathered) if stage.ended => {
                drop(stage);
                shared.give_up(&gathered.batch.flight);
            }
            Outcome::Gathered(gathered) => stage.gathered.push_back(gathered),
            Outcome::Failed(failed) => {
                drop(stage);
                hand_off(shared, outputs, failed);
            }
            Outcome::TakenApart => {}
        }
        shared.bells.wake_device();
    }
}
