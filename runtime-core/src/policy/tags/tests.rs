use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

/// Pools with a queue for each flow, all of which always wait, on a device of one.
struct World {
    fair: Tags,
    pools: u32,
    flows: u32,
    most: usize,
    now: Instant,
    /// Device time of a row and of a batch, in µs, that change as they like.
    cost: VecDeque<(u64, u64)>,
    /// Per flow: device time by weight.
    served: Vec<f64>,
    /// Per flow: the largest batch that it was in, by weight.
    largest: Vec<f64>,
    /// Batches are cut before it is known what the one before took, so what was expected counts as well.
    is_ahead: bool,
    /// The expected time of a row.
    expected: Duration,
}

impl World {
    fn task(&self, flow: u32) -> TaskHeader {
        TaskHeader::new(1, self.now).flow(Flow(flow + 1))
    }

    /// Flows wait in the pools of their number, one in each pool where there are more pools.
    fn in_pool(&self, flow: u32, pool: u32) -> bool {
        if self.pools >= self.flows { pool % self.flows == flow } else { flow % self.pools == pool }
    }

    /// The lowest rank in a pool.
    fn best(&mut self, pool: u32) -> Option<(Rank, u32)> {
        let flows: Vec<_> = (0..self.flows).filter(|&flow| self.in_pool(flow, pool)).collect();
        flows.into_iter().map(|flow| (self.fair.rank(PoolId::new(pool), &self.task(flow)), flow)).min()
    }

    fn cut(&mut self) -> (u32, Vec<TaskHeader>, Duration) {
        let (_, pool) = (0..self.pools)
            .filter_map(|pool| self.best(pool).map(|(rank, _)| (rank, pool)))
            .min()
            .expect("everybody waits");
        let expected = self.expected;
        let tasks = (0..self.most)
            .map(|at| {
                let (_, flow) = self.best(pool).expect("everybody waits");
                let task = self.task(flow);
                self.fair.took(PoolId::new(pool), &task, expected, at == 0);
                task
            })
            .collect();
        (pool, tasks, expected)
    }

    fn run(&mut self, (pool, tasks, expected): (u32, Vec<TaskHeader>, Duration)) {
        let (row, batch) = self.cost.pop_front().unwrap_or((10, 10));
        self.cost.push_back((row, batch));
        let device = Duration::from_micros(batch + row * tasks.len() as u64);
        self.now += device;
        let ran = Ran::new(PoolId::new(pool), &tasks, expected, device, self.now);
        self.fair.ran(&ran);
        let mut of_flow = vec![0.0; self.flows as usize];
        for (task, _, share) in ran.shares() {
            of_flow[task.flow.0 as usize - 1] += share.as_secs_f64();
        }
        for (flow, time) in (0..self.flows).zip(of_flow) {
            let weight = self.fair.weights[&Flow(flow + 1)];
            self.served[flow as usize] += time / weight;
            let largest = &mut self.largest[flow as usize];
            let was_expected = expected * u32::try_from(tasks.len()).expect("few");
            let device = if self.is_ahead { device.max(was_expected) } else { device };
            *largest = if time > 0.0 { largest.max(device.as_secs_f64() / weight) } else { *largest };
        }
        let per_row = device / u32::try_from(tasks.len()).expect("few");
        self.expected = (self.expected * 3 + per_row) / 4;
    }
}

fn world(flows: u32, pools: u32, most: usize, weights: &[f64], cost: Vec<(u64, u64)>) -> World {
    let mut fair = Tags::new();
    for flow in 0..flows {
        fair.set_weight(Some(Flow(flow + 1)), weights[flow as usize % weights.len()]);
    }
    World {
        fair,
        pools,
        flows,
        most,
        now: Instant::now(),
        cost: cost.into(),
        served: vec![0.0; flows as usize],
        largest: vec![0.0; flows as usize],
        is_ahead: false,
        expected: Duration::from_micros(20),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Over any interval; one more where a batch is cut before it is known what the one before it took.
    #[test]
    fn flows_that_wait_differ_by_two_of_their_largest_batches(
        (flows, pools) in prop::sample::select(vec![(2, 1), (2, 2), (10, 1), (10, 10), (100, 1), (100, 10), (100, 100)]),
        most in 1usize..9,
        weights in prop::collection::vec(1u8..8, 1..5),
        cost in prop::collection::vec((5u64..20, 5u64..50), 1..20),
        is_ahead in any::<bool>(),
    ) {
        let weights: Vec<_> = weights.into_iter().map(f64::from).collect();
        let mut world = world(flows, pools, most, &weights, cost);
        world.is_ahead = is_ahead;
        let mut ahead = if is_ahead { Some(world.cut()) } else { None };
        let mut range = vec![vec![(0.0f64, 0.0f64); flows as usize]; flows as usize];
        for _ in 0..200 {
            let next = world.cut();
            let next = if is_ahead { ahead.replace(next) } else { Some(next) };
            if let Some(next) = next {
                world.run(next);
            }
            for (served, range) in world.served.iter().zip(&mut range) {
                for (other, (low, high)) in world.served.iter().zip(range) {
                    let difference = served - other;
                    (*low, *high) = (low.min(difference), high.max(difference));
                }
            }
        }
        let batches = if is_ahead { 3.0 } else { 2.0 };
        for (largest, range) in world.largest.iter().zip(range) {
            for (other, (low, high)) in world.largest.iter().zip(range) {
                let bound = batches * largest.max(*other);
                prop_assert!(high - low <= bound * 1.001, "{} beyond {bound}", high - low);
            }
        }
    }

    /// A flow that idled for as long as it likes is served no more, from then on, than one that did not.
    #[test]
    fn a_flow_that_comes_back_gets_no_more_than_its_share(pause in 1u32..200, batches in 20u32..200) {
        let mut world = world(2, 1, 1, &[1.0], vec![(10, 0)]);
        world.expected = Duration::from_micros(10);
        let pool = PoolId::new(0);
        let alone = world.task(0);
        for _ in 0..pause {
            world.fair.rank(pool, &alone);
            world.fair.took(pool, &alone, world.expected, true);
            world.run((0, vec![alone], Duration::from_micros(10)));
        }
        world.served = vec![0.0; 2];
        for _ in 0..batches {
            let cut = world.cut();
            world.run(cut);
        }
        prop_assert!((world.served[0] - world.served[1]).abs() <= 21e-6, "{:?}", world.served);
    }

    /// The promise by which choosing is cheap.
    #[test]
    fn ranks_fall_only_where_that_was_said(steps in prop::collection::vec((0u32..4, 0u64..50, 0u64..50), 0..200)) {
        let (pool, now, mut fair) = (PoolId::new(0), Instant::now(), Tags::new());
        let task = |flow| TaskHeader::new(1, now).flow(Flow(flow + 1));
        let mut before: Vec<_> = (0..4).map(|flow| fair.rank(pool, &task(flow))).collect();
        for (flow, expected, device) in steps {
            let expected = Duration::from_micros(expected);
            fair.took(pool, &task(flow), expected, true);
            for other in 0..4 {
                prop_assert_eq!(fair.may_fall(pool, &task(other)), other == flow);
            }
            let tasks = [task(flow)];
            fair.ran(&Ran::new(pool, &tasks, expected, Duration::from_micros(device), now));
            for flow in 0..4 {
                let rank = fair.rank(pool, &task(flow));
                prop_assert!(rank >= before[flow as usize]);
                before[flow as usize] = rank;
            }
        }
    }
}

#[test]
fn weights_share_the_time() {
    let mut world = world(3, 1, 4, &[1.0, 2.0, 5.0], vec![(10, 10), (20, 5)]);
    for _ in 0..2000 {
        let cut = world.cut();
        world.run(cut);
    }
    let most = world.served.iter().copied().fold(0.0, f64::max);
    assert!(world.served.iter().all(|&served| served > most * 0.99), "{:?}", world.served);
}

#[test]
fn flows_of_the_past_are_forgotten() {
    let (now, pool, mut fair) = (Instant::now(), PoolId::new(0), Tags::new());
    for flow in 1..100_000 {
        let task = TaskHeader::new(1, now).flow(Flow(flow));
        fair.rank(pool, &task);
        fair.took(pool, &task, Duration::from_micros(10), true);
        let tasks = [task];
        fair.ran(&Ran::new(pool, &tasks, Duration::from_micros(10), Duration::from_micros(10), now));
        fair.hold(Rank::new(Priority::NORMAL, i64::MAX), Duration::from_secs(1), now);
        fair.idle();
    }
    assert!(fair.flows.len() < 200 && fair.recent.len() < 200, "{}", fair.flows.len());
}

#[test]
fn somebody_who_comes_back_at_once_is_waited_for() {
    let (mut now, pool, mut fair) = (Instant::now(), PoolId::new(0), Tags::new());
    let millis = Duration::from_millis;
    // Comes back a millisecond after each answer.
    for _ in 0..5 {
        let tasks = [TaskHeader::new(1, now).flow(Flow(1))];
        fair.took(pool, &tasks[0], millis(10), true);
        fair.ran(&Ran::new(pool, &tasks, millis(10), millis(10), now + millis(10)));
        now += millis(11);
    }
    let greedy = TaskHeader::new(1, now).flow(Flow(2));
    fair.took(pool, &greedy, millis(500), true);
    let rank = fair.rank(pool, &greedy);
    let answered = now.checked_sub(millis(1)).unwrap();
    let until = fair.hold(rank, millis(500), answered).expect("it is on its way");
    assert!(until >= now && until < now + millis(10));
    assert_eq!(fair.hold(rank, millis(5), answered), None, "not for a batch that is over as soon");
    assert_eq!(fair.hold(rank, millis(500), now + millis(20)), None, "it did not come");
}
