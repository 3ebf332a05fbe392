//! When other threads are worth waking.

use std::time::Duration;

/// Returns true if other threads can save more than it costs to wake them: overlap hides at most the time that the
/// batch is on the device. A pool that has not run yet gets the benefit of the doubt.
pub(crate) fn overlap_pays(cost: Option<Duration>, hand_over: Duration) -> bool {
    cost.is_none_or(|cost| cost >= hand_over)
}

/// Returns true if the device thread itself answers a batch: outputs are readable as they are, and there is nothing
/// that would be worth a hand-over. Failures are logged, so they always go to a sender.
pub(crate) fn answer_here(readable: bool, better_to_do: impl FnOnce() -> bool) -> bool {
    readable && !better_to_do()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_pays_from_the_cost_of_a_hand_over() {
        let cost = Duration::from_micros(50);
        assert!(overlap_pays(None, cost));
        assert!(overlap_pays(Some(cost), cost));
        assert!(!overlap_pays(Some(Duration::from_micros(49)), cost));
        assert!(overlap_pays(Some(Duration::ZERO), Duration::ZERO));
    }

    #[test]
    fn the_device_thread_answers_only_what_costs_it_nothing() {
        assert!(answer_here(true, || false), "nothing else to do, or quicker than handing over");
        assert!(!answer_here(true, || true), "another batch is waiting");
        assert!(!answer_here(false, || false), "a copy back, or a failure to log");
    }
}
