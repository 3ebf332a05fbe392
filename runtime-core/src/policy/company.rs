//! Company: is it worth waiting for callers who were just answered?
//!
//! Callers who wait for their answers before they ask again come back together, a moment after their batch. A batch that
//! is cut before they are back leaves without them, and so splits them into groups for good. Where a batch costs much
//! whatever its rows, that moment is well spent; where each row costs as much as the next one, it never is.

use crate::contract::price::Price;
use std::time::{Duration, Instant};

/// How fast the rows of a pool that were answered come back: the part that is back after so long.
#[derive(Clone, Debug)]
pub(crate) struct Returns {
    /// By the power of two of the microseconds since the answer.
    after: [f64; BUCKETS],
    answered: f64,
    /// Rows that were answered since the last cut, of whom nobody may have been seen yet.
    unseen: f64,
    /// The most rows that were lately there at once, waiting or on the device.
    population: f64,
    /// The last answers, the newest first: when, and of how many rows.
    answers: [Option<(Instant, f64)>; ANSWERS],
}

const BUCKETS: usize = 24;
const ANSWERS: usize = 4;
/// What is kept of the past with each batch.
const KEPT: f64 = 0.9;

impl Default for Returns {
    fn default() -> Self {
        Self { after: [0.0; BUCKETS], answered: 0.0, unseen: 0.0, population: 0.0, answers: [None; ANSWERS] }
    }
}

fn bucket(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    (micros.checked_ilog2().map_or(0, |log| log + 1) as usize).min(BUCKETS - 1)
}

/// The time by which all of a bucket are back.
fn end(bucket: usize) -> Duration {
    Duration::from_micros(1 << bucket)
}

impl Returns {
    /// Notes that a batch of so many rows was answered.
    pub(crate) fn answered(&mut self, rows: usize, now: Instant) {
        self.answers.rotate_right(1);
        self.answers[0] = Some((now, rows as f64));
        self.after.iter_mut().for_each(|part| *part *= KEPT);
        self.answered *= KEPT;
        self.unseen += rows as f64;
    }

    /// Notes that so many rows were cut of which a sample was submitted at these times, while so many were `there`,
    /// waiting or on the device.
    pub(crate) fn cut(&mut self, rows: usize, sample: impl ExactSizeIterator<Item = Instant>, there: usize) {
        self.answered += std::mem::take(&mut self.unseen);
        self.population = self.population * KEPT + there as f64 * (1.0 - KEPT);
        self.are_there(there);
        let each = rows as f64 / sample.len().max(1) as f64;
        for submitted in sample {
            let before =
                self.answers.iter().flatten().find_map(|(at, _)| submitted.checked_duration_since(*at));
            if let Some(time) = before {
                self.after[bucket(time)] += each;
            }
        }
    }

    /// Notes that so many rows are there at once, waiting or on the device.
    pub(crate) fn are_there(&mut self, rows: usize) {
        self.population = self.population.max(rows as f64);
    }

    /// The part of the rows that were answered that is back after this time.
    fn back_after(&self, time: Duration) -> f64 {
        let mut part = 0.0;
        let mut begin = Duration::ZERO;
        for (at, of_bucket) in self.after.iter().enumerate() {
            let end = end(at);
            if time < end {
                let within =
                    time.saturating_sub(begin).as_secs_f64() / end.saturating_sub(begin).as_secs_f64();
                part += of_bucket * within;
                break;
            }
            part += of_bucket;
            begin = end;
        }
        (part / self.answered.max(1.0)).min(1.0)
    }

    /// The rows of the `away` ones that come back after `now` and until `then`. Whoever would usually be back and is not
    /// comes all the same: the threads of callers share processors, and all of them are late at once.
    fn back(&self, now: Instant, then: Instant, away: f64) -> f64 {
        let (mut answered, mut still, mut coming) = (0.0, 0.0, 0.0);
        for (at, rows) in self.answers.iter().flatten() {
            let since = |time: Instant| self.back_after(time.saturating_duration_since(*at));
            answered += rows;
            still += rows * (1.0 - since(now));
            coming += rows * (since(then) - since(now));
        }
        // Nobody comes back who was not answered.
        if still > 0.0 { away.min(answered) * coming / still } else { 0.0 }
    }

    /// The rows that come back until `then` of those that are answered at `answer`.
    fn back_of_running(&self, then: Instant, answer: Option<(Instant, usize)>) -> f64 {
        answer.map_or(0.0, |(at, rows)| rows as f64 * self.back_after(then.saturating_duration_since(at)))
    }
}

/// What is known when a batch could be cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// The time now.
    pub(crate) now: Instant,
    /// Rows that wait.
    pub(crate) waiting: usize,
    /// Rows of the same pool that have been cut and not answered.
    pub(crate) in_flight: usize,
    /// Those of them that are answered as soon as the device is free.
    pub(crate) answering: usize,
    /// The most rows of a batch.
    pub(crate) most: usize,
    /// What a batch costs.
    pub(crate) price: Price,
    /// When the device comes free, if it is not free now.
    pub(crate) free: Option<Instant>,
    /// The time to gather the batch, which is hidden if it is cut while the device works.
    pub(crate) gather: Duration,
}

/// The part of those who are away that is worth waiting for.
const NEARLY_ALL: f64 = 0.95;

/// How long to wait for company, and for how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// When to cut whoever is there.
    pub(crate) until: Instant,
    /// The rows with which to cut at once.
    pub(crate) rows: usize,
}

/// Returns how long to wait for callers to come back; `None` if it does not pay.
///
/// Waiting for `w` brings `m` rows beside the `n` that are there. It costs `n + m` rows the time `w`, and the `n` ones
/// also the time of the `m`; it spares the `m` ones a batch of their own, which has the fixed time `a`. With `b` per row,
/// the callers wait less in all if `m·a > (n + m)·w + n·m·b`. It must spare three times what it costs: those who come
/// back may be the first of several for whom to wait, and may not come. And the `m` must be nearly all who are away, or fill
/// the batch: those who are left behind need a batch of their own all the same, so nothing is spared by fewer.
pub(crate) fn wait_for_company(returns: &Returns, moment: &Moment) -> Option<Wait> {
    let Moment { now, waiting, in_flight, answering, most, price, free, gather } = *moment;
    if !price.is_sure() || waiting >= most || price.fixed() <= 0.0 {
        return None;
    }
    let n = waiting as f64;
    // Whoever is there cannot come back.
    let away = (returns.population - n - in_flight as f64).max(0.0);
    let begin = free.map_or(now, |free| free.max(now));
    // It waits at least until the device is free; the gather is not hidden then.
    let unhidden = if free.is_some() { gather } else { Duration::ZERO };
    let running = (answering > 0).then_some((begin, answering));
    let room = (most - waiting) as f64;
    let mut best: Option<(f64, Wait)> = None;
    let mut consider = |until: Instant| {
        if until <= begin {
            return;
        }
        let all = (away + answering as f64).min(room);
        let m = (returns.back(now, until, away) + returns.back_of_running(until, running)).min(all);
        let w = (until - begin + unhidden).as_secs_f64();
        let gain = m * price.fixed() / 3.0 - (n + m) * w - n * m * price.per_row();
        // Half a caller is nobody.
        if m >= 0.5 && m >= NEARLY_ALL * all && gain > 0.0 && best.is_none_or(|(most, _)| gain > most) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the room")]
            let rows = waiting + all.round() as usize;
            best = Some((gain, Wait { until, rows }));
        }
    };
    let bases = returns.answers.iter().flatten().map(|(at, _)| *at).chain(running.map(|(at, _)| at));
    for base in bases {
        for at in 0..BUCKETS {
            if end(at).as_secs_f64() > price.fixed() + (begin.saturating_duration_since(base)).as_secs_f64() {
                break;
            }
            consider(base + end(at));
        }
    }
    best.map(|(_, wait)| wait)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);
    const US: Duration = Duration::from_micros(1);

    fn price(fixed: Duration, per_row: Duration) -> Price {
        Price::new(fixed.as_secs_f64(), per_row.as_secs_f64(), true)
    }

    /// So many callers, each of whom comes back after its own number of microseconds, on a device that takes what
    /// `price` says. Returns the rows of the last batches.
    fn closed_loop(back: &[u64], price: Price, wait: bool) -> (f64, f64) {
        closed_loop_with(back, &[1.0], price, wait)
    }

    /// The same with callers of whom all are slower or faster by one of these factors after each batch.
    fn closed_loop_with(back: &[u64], paces: &[f64], price: Price, wait: bool) -> (f64, f64) {
        let (mut returns, start) = (Returns::default(), Instant::now());
        let mut comes: Vec<Instant> =
            back.iter().map(|&micros| start + US * u32::try_from(micros).unwrap()).collect();
        let (mut now, mut batches, mut rows_in_all) = (start, 0, 0);
        let (mut from, mut total) = (start, 0);
        for batch in 0..400 {
            let first = *comes.iter().min().unwrap();
            now = now.max(first);
            let mut until = now;
            if wait {
                loop {
                    let waiting = comes.iter().filter(|&&at| at <= now).count();
                    let moment = Moment {
                        now,
                        waiting,
                        in_flight: 0,
                        answering: 0,
                        most: 64,
                        price,
                        free: None,
                        gather: Duration::ZERO,
                    };
                    let Some(wait) = wait_for_company(&returns, &moment) else { break };
                    // Until enough are there, or it is time.
                    let mut later: Vec<_> = comes.iter().copied().filter(|&at| at > now).collect();
                    later.sort();
                    let enough = later.get(wait.rows.saturating_sub(waiting + 1)).copied();
                    let next = enough.map_or(wait.until, |enough| enough.min(wait.until));
                    if next <= now {
                        break;
                    }
                    now = next;
                    until = now;
                }
            }
            let now_cut = until.max(now);
            let cut: Vec<usize> = (0..comes.len()).filter(|&at| comes[at] <= now_cut).take(64).collect();
            let times: Vec<_> = cut.iter().map(|&at| comes[at]).collect();
            returns.cut(cut.len(), times.into_iter(), cut.len());
            now = now_cut + price.of(cut.len());
            // Whoever came too late waits while the others are on the device.
            let late = (0..comes.len()).filter(|at| !cut.contains(at) && comes[*at] <= now).count();
            returns.are_there(cut.len() + late);
            returns.answered(cut.len(), now);
            for at in &cut {
                comes[*at] =
                    now + (US * u32::try_from(back[*at]).unwrap()).mul_f64(paces[batch % paces.len()]);
            }
            if batch == 100 {
                from = now;
            }
            if batch > 100 {
                batches += 1;
                rows_in_all += cut.len();
                total += cut.len();
            }
        }
        (rows_in_all as f64 / f64::from(batches), total as f64 / (now - from).as_secs_f64())
    }

    #[test]
    fn callers_of_a_block_of_constant_time_are_waited_for() {
        let back: Vec<u64> = (0..64).map(|at| 20 + 5 * at).collect();
        // A first batch of one row and one of the others tell the price's slope.
        let (rows, per_second) = closed_loop(&back, price(10 * MS, Duration::ZERO), true);
        assert!(rows >= 60.0 && per_second > 6000.0, "{rows} rows, {per_second} a second");
    }

    /// As threads are that share a processor with others: it is the same ones who are late, and they come all the same.
    #[test]
    fn callers_who_are_slower_than_usual_are_waited_for() {
        let back: Vec<u64> = (0..64).map(|at| 60 + 6 * at).collect();
        let paces = [1.0, 0.7, 1.6, 0.9, 2.2, 0.8, 1.3];
        let (rows, per_second) = closed_loop_with(&back, &paces, price(10 * MS, Duration::ZERO), true);
        assert!(rows >= 58.0 && per_second > 5000.0, "{rows} rows, {per_second} a second");
    }

    /// The thread that answers looks for the next batch only when all have been told, and finds some of them back.
    #[test]
    fn fewer_than_usual_are_no_reason_to_leave() {
        let (mut returns, mut now) = (Returns::default(), Instant::now());
        for _ in 0..50 {
            returns.answered(64, now);
            returns.cut(64, (0..8).map(|at| now + 64 * US * (at + 1)), 64);
            now += 11 * MS;
        }
        returns.answered(64, now);
        let constant = Price::new(0.01, 0.0, true);
        for (waiting, micros) in [(1, 100), (10, 256), (5, 400), (50, 450)] {
            let moment = Moment {
                now: now + micros * US,
                waiting,
                in_flight: 0,
                answering: 0,
                most: 64,
                price: constant,
                free: None,
                gather: Duration::ZERO,
            };
            let wait = wait_for_company(&returns, &moment);
            assert!(wait.is_some_and(|wait| wait.rows == 64), "{waiting} after {micros}: {wait:?}");
        }
    }

    #[test]
    fn a_lone_caller_is_not_kept_waiting() {
        let constant = price(10 * MS, Duration::ZERO);
        let (_, alone) = closed_loop(&[30], constant, true);
        let (_, best) = closed_loop(&[30], constant, false);
        assert!(alone > best * 0.999, "{alone} of {best}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// At any number of callers and any cost, waiting loses next to nothing to not waiting.
        #[test]
        fn waiting_never_costs_throughput(
            callers in 1usize..65, fixed in 100u64..20_000, per_row in 0u64..2000, back in 5u64..5000,
            seed in any::<u64>(),
        ) {
            let price = price(US * u32::try_from(fixed).unwrap(), US * u32::try_from(per_row).unwrap());
            let mut state = seed | 1;
            let back: Vec<u64> = (0..callers).map(|_| {
                state ^= state << 13; state ^= state >> 7; state ^= state << 17;
                1 + state % (2 * back)
            }).collect();
            let (_, with) = closed_loop(&back, price, true);
            let (_, without) = closed_loop(&back, price, false);
            prop_assert!(with >= without * 0.97, "{with} with, {without} without");
        }
    }

    #[test]
    fn nobody_is_waited_for_where_each_row_costs_the_same() {
        let (mut returns, now) = (Returns { population: 64.0, ..Returns::default() }, Instant::now());
        returns.answered(32, now);
        returns.cut(32, vec![now + 100 * US].into_iter(), 64);
        let moment = Moment {
            now,
            waiting: 32,
            in_flight: 0,
            answering: 0,
            most: 64,
            price: price(Duration::ZERO, MS),
            free: None,
            gather: MS,
        };
        assert_eq!(wait_for_company(&returns, &moment), None);
        let constant = Moment { price: price(10 * MS, Duration::ZERO), ..moment };
        let wait = wait_for_company(&returns, &constant).unwrap();
        assert!(wait.rows == 64 && wait.until <= now + 2 * MS, "{wait:?}");
        let unsure = Moment { price: Price::new(0.01, 0.0, false), ..moment };
        assert_eq!(wait_for_company(&returns, &unsure), None);
    }
}
