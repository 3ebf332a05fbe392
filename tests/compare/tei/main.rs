//! all-MiniLM-L6-v2 on text-embeddings-inference's candle backend, behind one queue: callers tokenize, one thread takes
//! what waits, up to a number of texts, and calls the backend. Asked for one round after the other, as `peer.rs` says.
//!
//! Built by `cargo xtask compare --tei CHECKOUT`, beside that backend's crates. Their own `main` is a server, and their
//! queue has a token budget and a permit for each request; here is what cannot be left out.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};
use text_embeddings_backend_candle::CandleBackend;
use text_embeddings_backend_core::{Backend, Batch, Embedding, ModelType, Pool};
use tokenizers::Tokenizer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads that submit, as everywhere.
const CALLERS: usize = 2;

static BATCHES: AtomicU64 = AtomicU64::new(0);

struct Task {
    ids: Vec<u32>,
    types: Vec<u32>,
    reply: Sender<Vec<f32>>,
}

/// What one caller saw: when its first and its last answer came, and the latencies in µs.
struct Seen {
    first: Instant,
    last: Instant,
    latencies: Vec<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("expected FOLDER TEXTS OUTSTANDING ROWS");
    let (folder, texts) = (next()?, next()?);
    let (outstanding, rows): (usize, usize) = (next()?.parse()?, next()?.parse()?);
    let texts: Vec<String> = std::fs::read_to_string(texts)?.lines().map(str::to_owned).collect();
    let file = Path::new(&folder).join("tokenizer.json");
    let mut tokenizer = Tokenizer::from_file(file).map_err(|error| error.to_string())?;
    tokenizer.with_truncation(None).map_err(|error| error.to_string())?.with_padding(None);

    let (send, receive) = sync_channel(4096);
    let (ready, is_ready) = channel();
    std::thread::spawn(move || {
        let pool = ModelType::Embedding(Pool::Mean);
        let backend =
            CandleBackend::new(Path::new(&folder), "float32".to_owned(), pool, None).expect("a model");
        ready.send(()).ok();
        serve(&backend, &receive, rows);
    });
    is_ready.recv()?;
    println!("ready");
    std::io::stdout().flush()?;

    for line in std::io::stdin().lock().lines() {
        let seconds: f64 = line?.trim().parse()?;
        if seconds <= 0.0 {
            break;
        }
        let time = Duration::from_secs_f64(seconds);
        let (cpu, batches, start) = (cpu_seconds()?, BATCHES.load(Ordering::Relaxed), Instant::now());
        let seen = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..CALLERS)
                .map(|i| {
                    let (send, tokenizer, texts) = (&send, &tokenizer, &texts);
                    let from = i * texts.len() / CALLERS;
                    scope.spawn(move || {
                        call(send, tokenizer, texts, from, outstanding / CALLERS, start + time)
                    })
                })
                .collect();
            callers.into_iter().map(|caller| caller.join().expect("a caller")).collect::<Vec<_>>()
        });
        let (cpu, batches) = (cpu_seconds()? - cpu, BATCHES.load(Ordering::Relaxed) - batches);
        let first = seen.iter().map(|it| it.first).min().ok_or("no caller")?;
        let last = seen.iter().map(|it| it.last).max().ok_or("no caller")?;
        let latencies: Vec<f64> = seen.into_iter().flat_map(|it| it.latencies).collect();
        // The first batch ended when the measurement begins.
        let tasks = latencies.len().saturating_sub(rows);
        let sample = serde_json::json!({
            "tasks": tasks,
            "rows": tasks,
            "batches": batches.saturating_sub(1),
            "seconds": (last - first).as_secs_f64(),
            "cpu_seconds": cpu,
            "latencies_us": latencies,
            "device_busy": null,
        });
        println!("{sample}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Takes what waits, and answers it.
fn serve(backend: &CandleBackend, tasks: &Receiver<Task>, rows: usize) {
    while let Ok(first) = tasks.recv() {
        let mut batch_tasks = vec![first];
        batch_tasks.extend(tasks.try_iter().take(rows - 1));
        let count = batch_tasks.len() as u32;
        let mut batch = Batch {
            input_ids: Vec::new(),
            token_type_ids: Vec::new(),
            position_ids: Vec::new(),
            cumulative_seq_lengths: vec![0],
            max_length: 0,
            pooled_indices: (0..count).collect(),
            raw_indices: Vec::new(),
        };
        for task in &batch_tasks {
            let length = task.ids.len() as u32;
            batch.input_ids.extend(&task.ids);
            batch.token_type_ids.extend(&task.types);
            batch.position_ids.extend(0..length);
            batch.cumulative_seq_lengths.push(batch.input_ids.len() as u32);
            batch.max_length = batch.max_length.max(length);
        }
        let mut embeddings = backend.embed(batch).expect("a batch that fits");
        BATCHES.fetch_add(1, Ordering::Relaxed);
        for (i, task) in batch_tasks.into_iter().enumerate() {
            if let Some(Embedding::Pooled(mut vector)) = embeddings.remove(&i) {
                // As its router does where the request asks for it.
                let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
                vector.iter_mut().for_each(|v| *v /= length);
                task.reply.send(vector).ok();
            }
        }
    }
}

/// Keeps so many texts in flight until then.
fn call(
    send: &SyncSender<Task>,
    tokenizer: &Tokenizer,
    texts: &[String],
    from: usize,
    outstanding: usize,
    until: Instant,
) -> Seen {
    let mut flying: VecDeque<(Receiver<Vec<f32>>, Instant)> = VecDeque::new();
    let (mut first, mut latencies) = (None, Vec::new());
    let mut land = |(pending, begun): (Receiver<Vec<f32>>, Instant)| {
        std::hint::black_box(pending.recv().expect("an answer"));
        latencies.push(begun.elapsed().as_nanos() as f64 / 1e3);
        first.get_or_insert_with(Instant::now);
    };
    for text in texts.iter().cycle().skip(from) {
        let begun = Instant::now();
        if begun >= until {
            break;
        }
        let encoded = tokenizer.encode_fast(text.as_str(), true).expect("a text");
        let (reply, pending) = channel();
        let (ids, types) = (encoded.get_ids().to_vec(), encoded.get_type_ids().to_vec());
        send.send(Task { ids, types, reply }).expect("a running backend");
        flying.push_back((pending, begun));
        if flying.len() == outstanding
            && let Some(oldest) = flying.pop_front()
        {
            land(oldest);
        }
    }
    flying.into_iter().for_each(&mut land);
    Seen { first: first.unwrap_or(until), last: Instant::now(), latencies }
}

/// What this process has used of all processors together, on Linux.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no fields")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks =
        |i: usize| fields.get(i).ok_or("too few fields")?.parse::<f64>().map_err(Box::<dyn Error>::from);
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
