//! The loader: while a batch runs, chooses and gathers the next.

use super::batch::DoneBatch;
use super::choose::Cut;
use super::gather::Outcome;
use super::park::Nap;
use super::sender::hand_off;
use super::shared::{Now, Shared};
use crate::contract::device::Device;
use crate::contract::pool::Shutdown;
use crate::sync::{discard_all, flume, thread};

/// Runs until the device thread has ended.
pub(crate) fn loader_loop<D: Device>(shared: &Shared<D>, outputs: &flume::Sender<DoneBatch<D::Tensor>>) {
    let mut nap = Nap::default();
    // What had been heard when a wake-up may have been eaten.
    let mut doubted = None;
    loop {
        let mut stage = shared.stage.lock();
        if stage.ended {
            return;
        }
        let choosing = shared.bells.loader_chooses() && stage.stop != Some(Shutdown::Abort);
        let room = stage.gathered.len() < shared.settings.prefetch;
        let cut =
            if choosing && room { shared.cut(&mut stage, &Now::new(|| shared.now())) } else { Cut::Nothing };
        let Cut::Batch(cut) = cut else {
            let later = if let Cut::Later(time) = cut { Some(time) } else { None };
            let look = if choosing { stage.selector.next_look().map(|(time, _)| time) } else { None };
            let until = later.into_iter().chain(look).min();
            let heard = stage.heard;
            drop(stage);
            match until {
                // A pool or a clock may have eaten the wake-up of a ring that has come since; one that is counted and
                // not sent yet brings its own.
                _ if choosing
                    && room
                    && shared.bells.rung() != heard
                    && doubted.replace(heard) != Some(heard) => {}
                Some(until) => nap.sleep(&*shared.outside.clock, until),
                None => thread::park(),
            }
            continue;
        };
        stage.gathering += 1;
        drop(stage);

        let outcome = shared.gather(cut);

        let mut stage = shared.stage.lock();
        stage.gathering -= 1;
        match outcome {
            // Nobody takes it any more once the device thread has ended. An abort has given up what was gathered before; this
            // need not wait for the block that is running either.
            Outcome::Gathered(gathered) if stage.ended || stage.stop == Some(Shutdown::Abort) => {
                drop(stage);
                shared.give_up(&gathered.batch.flight);
                discard_all(gathered.inputs);
                gathered.batch.free();
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
