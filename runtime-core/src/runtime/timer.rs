//! The timer: answers tasks whose deadline has passed, and gives up a device that is stuck, also while everybody
//! else is busy.

use super::bells::TimerEvent;
use super::shared::Shared;
use crate::contract::device::Device;
use crate::sync::flume;
use std::collections::BTreeSet;

/// Runs until it is told to stop.
pub(crate) fn timer_loop<D: Device>(shared: &Shared<D>, events: &flume::Receiver<TimerEvent>) {
    let mut armed = BTreeSet::new();
    let mut watch = None;
    loop {
        let first = armed.first().map(|&(time, _)| time).into_iter().chain(watch).min();
        let next = first.and_then(|time| shared.outside.clock.sleep_until(time));
        #[cfg(any(test, feature = "testing"))]
        let mut passing = None;
        let event = match next {
            Some(time) => events.recv_timeout(time),
            None => events.recv().map_err(|_| flume::RecvTimeoutError::Disconnected),
        };
        match event {
            Ok(TimerEvent::Arm(pool, time)) => drop(armed.insert((time, pool))),
            Ok(TimerEvent::Watch(time)) => watch = watch.into_iter().chain([time]).min(),
            #[cfg(any(test, feature = "testing"))]
            Ok(TimerEvent::Pass(tell)) => passing = Some(tell),
            Ok(TimerEvent::Tick) | Err(flume::RecvTimeoutError::Timeout) => {}
            Ok(TimerEvent::Stop) | Err(flume::RecvTimeoutError::Disconnected) => return,
        }
        let now = shared.now();
        if watch.is_some_and(|time| time <= now) {
            watch = shared.look_at_device(now);
        }
        if shared.status.loss().is_some() {
            // The pools may be another runtime's by now.
            armed.clear();
        }
        while let Some(&(time, pool)) = armed.first().filter(|(time, _)| *time <= now) {
            armed.remove(&(time, pool));
            // A time that is not in the future would be asked about without end.
            if let Some(next) = shared.expire(pool, now).filter(|next| *next > now) {
                armed.insert((next, pool));
            }
        }
        #[cfg(any(test, feature = "testing"))]
        if let Some(tell) = passing {
            tell.send(()).ok();
        }
    }
}
