//! The loader: while a batch runs, chooses and gathers the next.

use super::core::{Core, Now};
use super::device_loop::sleep;
use super::flight::{Done, Gathered};
use super::sender::hand_off;
use crate::device::Device;
use crate::pool::Shutdown;
use crate::sync::flume;

/// Runs until the device thread has ended.
pub(crate) fn loader_loop<D: Device>(core: &Core<D>, outputs: &flume::Sender<Done<D::Tensor>>) {
    loop {
        let mut stage = core.stage.lock();
        if stage.ended {
            return;
        }
        let choosing = core.bells.loader_chooses() && stage.stop != Some(Shutdown::Abort);
        let cut = if choosing && stage.loaded.len() < core.settings.prefetch {
            core.cut(&mut stage, &Now::new(|| core.now()))
        } else {
            None
        };
        let Some(cut) = cut else {
            let until = if choosing { stage.selector.next_look().map(|(time, _)| time) } else { None };
            drop(stage);
            sleep(core, until);
            continue;
        };
        stage.loading += 1;
        drop(stage);

        let gathered = core.gather(cut);

        let mut stage = core.stage.lock();
        stage.loading -= 1;
        match gathered {
            // Nobody takes it any more once the device thread has ended.
            Gathered::Loaded(loaded) if stage.ended => {
                drop(stage);
                core.give_up(&loaded.batch.flight);
            }
            Gathered::Loaded(loaded) => stage.loaded.push_back(loaded),
            Gathered::Failed(failed) => {
                drop(stage);
                hand_off(core, outputs, failed);
            }
            Gathered::TakenApart => {}
        }
        core.bells.wake_device();
    }
}
