use super::*;

fn message(options: &PoolOptions) -> String {
    options.check("x").unwrap_err().to_string()
}

#[test]
fn options_that_would_never_run_are_refused() {
    let good = PoolOptions::default();
    assert!(good.check("x").is_ok());
    assert_eq!(message(&good.clone().max_rows(0)), "pool `x`: max_rows is 0, expected at least 1");
    assert_eq!(message(&good.clone().max_elements(0)), "pool `x`: max_elements is 0, expected at least 1");
    assert_eq!(message(&good.clone().min_rows(65)), "pool `x`: min_rows is 65, expected 1 to max_rows");
    assert_eq!(message(&good.clone().capacity(0)), "pool `x`: capacity is 0, expected at least 1");
    let delay = Some(Duration::from_millis(5));
    assert_eq!(
        message(&good.clone().max_delay(delay)),
        "pool `x`: max_delay is 5ms, expected none unless min_rows is above 1, or nothing waits for company"
    );
    assert_eq!(
        message(&good.clone().capacity_rows(Some(63))),
        "pool `x`: capacity_rows is 63, expected at least max_rows"
    );
    assert_eq!(
        message(&good.clone().reserve(1024)),
        "pool `x`: reserve is 1024, expected less than capacity"
    );
    assert_eq!(
        message(&good.clone().reserve(512).capacity_rows(Some(100))),
        "pool `x`: reserve is 512, expected so few that as many as max_rows of capacity_rows are left"
    );
    assert_eq!(
        message(&good.clone().deadline(Duration::ZERO)),
        "pool `x`: deadline is 0ns, expected more than no time"
    );
    assert_eq!(
        message(&good.clone().deadline(Duration::from_millis(10)).max_deadline(delay)),
        "pool `x`: deadline is 10ms, expected at most max_deadline"
    );
    assert_eq!(
        message(&good.clone().verify(Verify::every(0))),
        "pool `x`: verify.every is 0, expected at least 1"
    );
    assert_eq!(
        message(&good.clone().verify(Verify::every(1).tolerance(f64::NAN))),
        "pool `x`: verify.tolerance is NaN, expected a finite number, at least 0"
    );
    let alone = good.min_rows(2);
    assert_eq!(
        message(&alone),
        "pool `x`: min_rows is 2, expected 1 unless max_delay bounds the wait for more"
    );
    assert!(alone.max_delay(Some(Duration::ZERO)).check("x").is_ok());
}

#[test]
fn a_deadline_is_the_callers_or_the_pools_and_no_later_than_the_latest() {
    let now = Instant::now();
    let [short, middle, long] = [1, 2, 3].map(Duration::from_secs);
    let (plain, asked) = (PoolOptions::default(), |after| Some(Deadline::In(after)));
    assert_eq!(plain.deadline_of(None, now), None);
    let options = plain.clone().deadline(middle);
    assert_eq!(options.deadline_of(None, now), Some(now + middle));
    assert_eq!(options.deadline_of(asked(long), now), Some(now + long));
    let capped = options.max_deadline(middle);
    assert_eq!(capped.deadline_of(asked(short), now), Some(now + short));
    assert_eq!(capped.deadline_of(asked(long), now), Some(now + middle));
    assert_eq!(capped.deadline_of(Some(Deadline::At(now + long)), now), Some(now + middle));
    assert_eq!(plain.max_deadline(long).deadline_of(None, now), Some(now + long));
    assert_eq!(capped.deadline_of(asked(Duration::MAX), now), Some(now + middle));
}

#[test]
fn a_reserve_is_for_those_more_urgent_than_the_pool() {
    let options = PoolOptions::default().capacity(10).max_rows(4).reserve(5);
    let room = |priority| options.room(Priority(priority));
    assert_eq!(room(0), Room { tasks: 5, rows: 20 });
    assert_eq!((room(1), room(-1)), (room(0), Room { tasks: 10, rows: 40 }));
    let most = options.capacity(usize::MAX).max_rows(usize::MAX).reserve(1);
    assert_eq!(most.room(Priority(0)), Room { tasks: usize::MAX - 1, rows: usize::MAX - 1 });
}
