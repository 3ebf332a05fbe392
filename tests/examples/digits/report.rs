//! What the run came to: for people, and for machines.

use crate::common::{BACKEND, skep};
use crate::work::Outcome;
use serde_json::{Value, json};
use skep::stats::{PoolSnapshot, Snapshot};

pub(crate) struct Report<'a> {
    pub(crate) outcome: &'a Outcome,
    /// Taken after the runtime has stopped.
    pub(crate) stats: &'a Snapshot,
    pub(crate) held_out: usize,
}

impl Report<'_> {
    fn accuracy(&self) -> Option<f64> {
        self.outcome.right.map(|right| right as f64 / self.held_out as f64)
    }

    /// Whether every task that was submitted got exactly one end.
    pub(crate) fn adds_up(&self) -> bool {
        let pools = self.stats.pools.iter().chain([&self.stats.total]);
        pools.into_iter().all(|pool| pool.answered() == pool.submitted)
    }

    pub(crate) fn to_text(&self) -> String {
        let Outcome { trainers, callers, steps, loss, right, .. } = self.outcome;
        let accuracy = match (right, self.accuracy()) {
            (Some(right), Some(accuracy)) => {
                format!("{:.1} % ({right} of {} images)", 100.0 * accuracy, self.held_out)
            }
            _ => "not measured".to_owned(),
        };
        let total = &self.stats.total;
        let verdict = if self.adds_up() { "every task has one end" } else { "TASKS ARE MISSING" };
        format!(
            "\nheld-out accuracy  {accuracy} after {steps} steps, loss {loss:.3}\n\n\
             {stats}\n\n\
             from the images to the mixture's answer (gate, then experts):\n  \
               urgent callers  {asked}\n  \
               trainers        {trainers}\n  \
               callers hung up {hung_up} times, and were answered too late {too_late} times\n\n\
             {verdict}: {submitted} submitted = {succeeded} succeeded + {failed} failed + {cancelled} cancelled \
             + {expired} expired + {evicted} evicted + {refused} refused",
            stats = self.stats,
            asked = callers.latencies,
            hung_up = callers.hung_up,
            too_late = callers.too_late,
            submitted = total.submitted,
            succeeded = total.succeeded,
            failed = total.failed,
            cancelled = total.cancelled,
            expired = total.expired,
            evicted = total.evicted,
            refused = total.refused,
        )
    }

    pub(crate) fn to_json(&self) -> Value {
        let total = &self.stats.total;
        json!({
            "backend": BACKEND,
            "accuracy": self.accuracy(),
            "steps": self.outcome.steps,
            "submitted": total.submitted,
            "succeeded": total.succeeded,
            "failed": total.failed,
            "cancelled": total.cancelled,
            "expired": total.expired,
            "evicted": total.evicted,
            "refused": total.refused,
            "elapsed_s": self.stats.elapsed.as_secs_f64(),
            "device": self.stats.device,
            "device_busy": self.stats.device_busy,
            "urgent_callers": self.outcome.callers.latencies.to_json(),
            "trainers": self.outcome.trainers.to_json(),
            "pools": self.stats.pools.iter().map(pool).collect::<Vec<_>>(),
        })
    }
}

/// The times are from submit to answer.
fn pool(pool: &PoolSnapshot) -> Value {
    let micros = |time: std::time::Duration| time.as_secs_f64() * 1e6;
    json!({
        "name": pool.name,
        "tasks": pool.submitted,
        "rows": pool.rows,
        "batches": pool.batches,
        "p50_us": micros(pool.end_to_end.p50),
        "p99_us": micros(pool.end_to_end.p99),
    })
}
