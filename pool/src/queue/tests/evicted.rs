//! Tasks that leave a full queue for others.

use super::*;

#[test]
fn the_newest_of_the_least_urgent_are_evicted_together_or_not_at_all() {
    let mut bench = Bench::new(rows(8, 1, 0).eviction(true));
    for (second, priority, rows, free) in [(0, 5, 1, 0), (1, 9, 2, 1), (2, 5, 1, 0), (3, 0, 1, 1)] {
        bench.push(second, priority, rows, free, None);
    }
    let mut evict = |tasks, rows| {
        let evicted = bench.evict(Priority(4), tasks, rows);
        evicted.iter().map(|item| item.number).collect::<Vec<_>>()
    };
    assert_eq!(evict(1, 5), [0; 0], "they have four rows");
    assert_eq!(evict(1, 3), [1, 2]);
    assert_eq!(evict(1, 1), [0]);
    assert_eq!(evict(1, 1), [0; 0], "the last one is more urgent");
}

#[test]
fn no_more_than_some_are_evicted_for_one() {
    let mut bench = Bench::new(rows(64, 1, 0).eviction(true));
    for second in 0..100 {
        bench.push(second, 5, 1, 0, None);
    }
    assert!(bench.evict(Priority(0), 1, MOST_EVICTED + 1).is_empty());
    assert_eq!(bench.evict(Priority(0), 1, MOST_EVICTED).len(), MOST_EVICTED);
}
