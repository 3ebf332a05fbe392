//! What one batch event costs the thread that reports it.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use skep_runtime_core::{BatchEvent, Counts, Meter, Pass, PoolId, TaskHeader};
use skep_stats::Stats;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Queue;

impl Meter for Queue {
    fn name(&self) -> &'static str {
        "ffn_forward"
    }

    fn counts(&self) -> Counts {
        Counts::default()
    }
}

fn record(criterion: &mut Criterion) {
    let stats = Stats::new();
    let observer = stats.observer();
    let start = Instant::now();
    observer.started("cpu", start);
    observer.pool_added(PoolId::new(0), Arc::new(Queue));

    let mut group = criterion.benchmark_group("record");
    for tasks in [1_u32, 64] {
        let header = |i| TaskHeader::new(1, start + Duration::from_micros(17) * i);
        let headers: Vec<_> = (0..tasks).map(header).collect();
        let mut event =
            BatchEvent::new(PoolId::new(0), Pass::Forward, &headers, start + Duration::from_millis(2));
        event.gather = Duration::from_micros(30);
        event.device = Duration::from_micros(900);
        event.scatter = Duration::from_micros(20);
        event.done = event.cut + Duration::from_millis(1);
        (event.rows, event.tasks_succeeded) = (headers.len(), headers.len());
        group.throughput(Throughput::Elements(u64::from(tasks)));
        group.bench_function(BenchmarkId::new("tasks", tasks), |bencher| {
            bencher.iter(|| observer.batch(black_box(&event)));
        });
    }
    group.finish();
}

criterion_group!(benches, record);
criterion_main!(benches);
