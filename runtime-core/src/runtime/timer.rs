//! The timer: tells tasks that their deadline has passed, also while the device and everybody else is busy.

use super::bell::TimerEvent;
use super::core::Core;
use crate::device::Device;
use crate::sync::flume;
use std::collections::BTreeSet;

/// Runs until it is told to stop.
pub(crate) fn timer_loop<D: Device>(core: &Core<D>, events: &flume::Receiver<TimerEvent>) {
    let mut armed = BTreeSet::new();
    loop {
        let next = armed.first().and_then(|&(time, _)| core.clock.sleep_until(time));
        let event = match next {
            Some(time) => events.recv_timeout(time),
            None => events.recv().map_err(|_| flume::RecvTimeoutError::Disconnected),
        };
        match event {
            Ok(TimerEvent::Arm(pool, time)) => drop(armed.insert((time, pool))),
            Ok(TimerEvent::Tick) | Err(flume::RecvTimeoutError::Timeout) => {}
            Ok(TimerEvent::Stop) | Err(flume::RecvTimeoutError::Disconnected) => return,
        }
        let now = core.now();
        while let Some(&(time, pool)) = armed.first().filter(|(time, _)| *time <= now) {
            armed.remove(&(time, pool));
            // A time that is not in the future would be asked about without end.
            if let Some(next) = core.expire(pool, now).filter(|next| *next > now) {
                armed.insert((next, pool));
            }
        }
    }
}
