//! Sentences to vectors, whatever is between.

#[cfg(all(feature = "candle", not(feature = "tch")))]
mod before_candle;
#[cfg(feature = "tch")]
mod before_tch;

#[cfg(all(feature = "candle", not(feature = "tch")))]
use before_candle as before;
#[cfg(feature = "tch")]
use before_tch as before;

use crate::Result;
use crate::backend::BackendDevice;
use crate::drive::{Latencies, Load, Measure, Round};
use crate::peer::Peer;
use crate::row::micros;
use crate::systems::CAPACITY;
use crate::work::{Work, block_of};
use skep_models::{Ask, Model, Precision, TextModel};
use skep_pool::{PoolOptions, Serve, ServeOptions, TaskPool};
use skep_runtime_core::{HostTensor, PadTo, RunningRuntime, RuntimeBuilder, TensorOps};
use std::future::Future;
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;
use tokenizers::Tokenizer;

/// Words of real sentences.
const SENTENCES: &str = include_str!("../../../examples/embed/sentences.txt");

/// As the demo has it.
const STEP: usize = 2;
/// As it had it.
const BUCKET: usize = 8;

/// Different texts of one length.
const TEXTS: usize = 64;

/// Texts of so many tokens, those around them included.
pub(crate) fn of_length(folder: &Path, tokens: usize) -> Result<Arc<[String]>> {
    let model = Model::read(folder)?;
    let counter = model.tokens().ok_or("the model has no tokenizer")?;
    let mut words = SENTENCES.split_whitespace().cycle();
    let texts = (0..TEXTS).map(|_| {
        let mut text = String::new();
        while counter.count(&text)? < tokens {
            let longer = format!("{text} {}", words.next().unwrap_or_default());
            // A word of several tokens may be too long for what is left.
            if counter.count(&longer)? <= tokens {
                text = longer;
            }
        }
        Ok(text.trim().to_owned())
    });
    texts.collect()
}

/// Texts of all lengths, short ones beside long ones.
pub(crate) fn of_lengths(folder: &Path) -> Result<Arc<[String]>> {
    const LENGTHS: [usize; 8] = [8, 48, 16, 128, 12, 32, 24, 64];
    let of_each = LENGTHS.map(|tokens| of_length(folder, tokens));
    let of_each = of_each.into_iter().collect::<Result<Vec<_>>>()?;
    Ok((0..TEXTS).flat_map(|at| of_each.iter().map(move |texts| texts[at].clone())).collect())
}

/// How texts of different lengths share batches.
pub(crate) enum Rows {
    Padded(PadTo),
    #[cfg(all(feature = "candle", not(feature = "tch")))]
    Ragged,
}

/// What makes vectors of texts.
pub(crate) trait Embeds: Clone + Send + Sync + 'static {
    fn embed(&self, text: &str) -> impl Future<Output = Vec<f32>> + Send;
}

/// A runtime with one pool before this block, as the demo has it.
type Running = (RunningRuntime<BackendDevice>, Arc<BackendDevice>, TaskPool<BackendDevice>);

fn serve(work: &Work<BackendDevice>, options: PoolOptions) -> Result<Running> {
    let mut builder = RuntimeBuilder::new(work.device()).prefetch(0);
    let options = options.capacity(CAPACITY);
    let pool = builder.serve(work.block("minilm")?, ServeOptions::forward(options))?.forward;
    let device = Arc::clone(builder.device());
    Ok((builder.start()?, device, pool))
}

/// `models` over a pool.
#[derive(Clone)]
pub(crate) struct Models {
    text: TextModel<BackendDevice>,
    _runtime: Arc<RunningRuntime<BackendDevice>>,
}

impl Models {
    pub(crate) fn start(folder: &Path, max_rows: usize) -> Result<Self> {
        Self::start_with(folder, max_rows, None, Rows::Padded(PadTo::Multiple(STEP)))
    }

    pub(crate) fn start_with(
        folder: &Path,
        max_rows: usize,
        max_elements: Option<usize>,
        rows: Rows,
    ) -> Result<Self> {
        let model = Arc::new(Model::read(folder)?);
        let served = Arc::clone(&model);
        let padding = match rows {
            Rows::Padded(to) => Some(model.padding(to)),
            #[cfg(all(feature = "candle", not(feature = "tch")))]
            Rows::Ragged => None,
        };
        #[cfg(all(feature = "candle", not(feature = "tch")))]
        let is_padded = padding.is_some();
        let block = move |name: &str| {
            let block = crate::backend::TextBlock { model: Arc::clone(&served), precision: Precision::F32 };
            #[cfg(all(feature = "candle", not(feature = "tch")))]
            if !is_padded {
                return Ok(block_of(block.ragged_block(name)?));
            }
            Ok(block_of(block.block(name)?))
        };
        let work = Work::new(BackendDevice::cpu(), block, || Box::new(Vec::new));
        let options = PoolOptions::default().max_rows(max_rows).max_elements(max_elements).padding(padding);
        let (runtime, device, pool) = serve(&work, options)?;
        let text = TextModel::new(model, device, Arc::new(pool))?;
        Ok(Self { text, _runtime: Arc::new(runtime) })
    }
}

impl Embeds for Models {
    async fn embed(&self, text: &str) -> Vec<f32> {
        self.text.embed_async(text, &Ask::new()).await.expect("a text that fits").vector
    }
}

/// As the demo did it before there was `models`: ids, a mask of ones and zeros, a BERT block of its own.
#[derive(Clone)]
pub(crate) struct Before {
    tokenizer: Arc<Tokenizer>,
    device: Arc<BackendDevice>,
    pool: TaskPool<BackendDevice>,
    _runtime: Arc<RunningRuntime<BackendDevice>>,
}

impl Before {
    pub(crate) fn start(folder: &Path, max_rows: usize) -> Result<Self> {
        let mut tokenizer =
            Tokenizer::from_file(folder.join("tokenizer.json")).map_err(|error| error.to_string())?;
        // The file asks for all texts to be cut and padded to 128 tokens.
        tokenizer.with_truncation(None).map_err(|error| error.to_string())?.with_padding(None);
        let read = folder.to_owned();
        let work = Work::new(
            BackendDevice::cpu(),
            move |name: &str| Ok(block_of(before::bert(&read, name)?)),
            || Box::new(Vec::new),
        );
        let (runtime, device, pool) = serve(&work, PoolOptions::default().max_rows(max_rows))?;
        Ok(Self { tokenizer: Arc::new(tokenizer), device, pool, _runtime: Arc::new(runtime) })
    }

    fn row(&self, values: impl Iterator<Item = u32>) -> <BackendDevice as TensorOps>::Tensor {
        let values: Vec<u32> = values.collect();
        let host = HostTensor::from_u32(&[1, values.len()], &values).expect("as many as there are");
        self.device.from_host(&host).expect("a small tensor")
    }
}

impl Embeds for Before {
    async fn embed(&self, text: &str) -> Vec<f32> {
        let ids = self.tokenizer.encode_fast(text, true).expect("a text");
        let ids = ids.get_ids();
        let padding = ids.len().next_multiple_of(BUCKET) - ids.len();
        let padding = || std::iter::repeat_n(0, padding);
        let task = vec![
            self.row(ids.iter().copied().chain(padding())),
            self.row(ids.iter().map(|_| 1).chain(padding())),
        ];
        let ticket = self.pool.submit_async(task).await.expect("a task that fits");
        let outputs = ticket.await.expect("a block that does not fail");
        self.device.to_host(&outputs[0]).expect("an embedding").to_f32().expect("f32")
    }
}

/// Rounds of asynchronous callers, each with one text at a time, as many as are outstanding.
pub(crate) fn rounds<'a, S: Embeds + 'a>(
    runtime: &'a tokio::runtime::Runtime,
    system: S,
    texts: &Arc<[String]>,
    load: Load,
) -> Round<'a> {
    let texts = Arc::clone(texts);
    Box::new(move |time| {
        let (measure, start) = (Arc::new(Measure::default()), Instant::now());
        let callers: Vec<_> = (0..load.outstanding)
            .map(|caller| {
                let (system, measure, texts) = (system.clone(), Arc::clone(&measure), Arc::clone(&texts));
                runtime.spawn(async move {
                    let mut latencies = Latencies::new();
                    for text in texts.iter().cycle().skip(caller % texts.len()) {
                        let begun = Instant::now();
                        if begun - start >= time {
                            break;
                        }
                        black_box(system.embed(text).await);
                        latencies.push(micros(begun.elapsed()));
                        measure.begin(|| None);
                    }
                    latencies
                })
            })
            .collect();
        let mut all = Latencies::new();
        for caller in callers {
            all.extend(runtime.block_on(caller)?);
        }
        measure.end(all, || None)
    })
}

/// text-embeddings-inference's candle backend in its own process: `tei.rs` beside this.
pub(crate) fn inference(
    program: &Path,
    folder: &Path,
    texts: &[String],
    outstanding: usize,
    rows: usize,
) -> Result<Peer> {
    let file = std::env::temp_dir().join(format!("skep-compare-{}.txt", std::process::id()));
    let mut lines = std::fs::File::create(&file)?;
    for text in texts {
        writeln!(lines, "{text}")?;
    }
    let mut command = Command::new(program);
    command.arg(folder).arg(&file).args([outstanding, rows].map(|number| number.to_string()));
    Peer::start("text-embeddings-inference", command)
}
