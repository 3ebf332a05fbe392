//! Published text models for Skep: embedders, cross-encoders, classifiers of texts and tokens, as they come from the
//! Hub in folders of `transformers` and sentence-transformers.
//!
//! A folder is read once into a plain [`Description`] of what is computed, and everything in it is used or refused: *a
//! model that Skep does not know is an error, never a guess*. Each error names the file, the key, what stands there and
//! what would be right. Backends build the description (`blocks::TextModel` of `skep-backend-candle` and
//! `skep-backend-tch`); this crate knows no tensor library. [`TextModel`] turns texts into tensors and outputs into
//! embeddings, scores and labels, over the pool of any backend.
//!
//! ```
//! use skep_models::{Kind, Model};
//!
//! # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/models/fixtures/bert_mean");
//! let model = Model::read(folder)?;
//! assert_eq!(model.description().family, "bert");
//! assert_eq!((model.description().kind, model.description().output), (Kind::Embedding, 12));
//! let tokens = model.tokens().ok_or("a folder with a tokenizer")?;
//! assert_eq!((tokens.count("the cat sat")?, tokens.limit()), (5, 32));
//!
//! let error = Model::read("/nowhere").unwrap_err();
//! assert_eq!(error.to_string(), "/nowhere/config.json: there is no such file, expected the settings of a model");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Served by a runtime
//!
//! ```text
//! let model = Arc::new(Model::read(folder)?);
//! let block = blocks::TextModel { model: model.clone(), precision: Precision::F32 }.block("embed")?;
//! let options = PoolOptions::default().padding(model.padding(PadTo::Multiple(2)));
//! let served = builder.serve(block, ServeOptions::forward(options))?;
//! let text = TextModel::new(model, builder.device().clone(), Arc::new(served.forward))?;
//! let runtime = builder.start()?;
//! let embedding = text.embed("How did ships find their way?", &Ask::new().prompt(Prompt::named("query")))?;
//! ```
//!
//! The documentation of `blocks::TextModel` in the backends has this as a program that runs.
//!
//! # What is known
//!
//! | family (`model_type`) | embedding | classifier, cross-encoder | token classifier |
//! |---|---|---|---|
//! | `bert`, `electra` | ✓ | ✓ | ✓ |
//! | `roberta`, `xlm-roberta`, `camembert` | ✓ | ✓ | ✓ |
//! | `distilbert`, `mpnet` | ✓ | ✓ | ✓ |
//! | `modernbert`, `nomic_bert` | ✓ | ✓ | ✓ |
//! | `qwen3` (the last token of a decoder) | ✓ | ✓ | ✓ |
//!
//! After the encoder: the six poolings of sentence-transformers, joined in any order, prompts that are left out of
//! them; `Dense` with `Identity`, `Tanh`, `Sigmoid`, `ReLU`, `GELU` or `SiLU`, `LayerNorm`, `Normalize`, truncation. Weights in one
//! safetensors file or in shards, f32, f16, bf16 or f64.
//!
//! # What a text becomes
//!
//! - **Lengths.** `max_seq_length` of sentence-transformers wins over the tokenizer's `model_max_length`, and there are
//!   never more tokens than the model has positions. Longer texts are cut, and [`TokenCount::left_out`] says by how
//!   much; [`TooLong`] chooses otherwise. The methods in `…_windows` take long texts in overlapping parts, each behind
//!   the prompt (or, of a pair, behind the query); how vectors or classes of parts become one is the application's to
//!   decide, and documents are ranked by their best part.
//! - **Padding** is the pool's ([`Model::padding`]), always on the right and never seen, whatever side the folder names: a
//!   text's answer is the one that it has alone. (`transformers` pads on the left if it is told to, and BERT then gives other numbers in a batch.)
//! - **Without `modules.json`** texts are embedded as sentence-transformers would: by the mean, or by the last token of
//!   a decoder, and *not* brought to a unit length. [`Model::notes`] says so.
//! - **Prompts** that are empty are none.
//!
//! # Precision
//!
//! [`Precision::F32`] agrees with `PyTorch` in f64 to 1e-5 (the suite holds both backends to that on 63 folders).
//! [`Precision::BF16`] and [`Precision::F16`] compute in these, [`Precision::Stored`] in the type of the file; sums and norms in
//! f32. The largest difference from f32 of an
//! element, on the suite's folders, is in the crate's README.
//!
//! # Files from anybody
//!
//! No bytes in these files cause a panic or an abort, and reading takes at most 64 times the files' bytes at once (and
//! what regular expressions in a tokenizer are compiled to, some megabytes). Sizes are compared with each other and
//! with the files before anything is made of them; weights are read when a block is loaded, each straight into its
//! tensor; files that can run code (pickles) are never opened.
#![forbid(unsafe_code)]

pub mod description;
mod error;
mod families;
mod folder;
mod model;
pub mod positions;
mod text;
mod weights;

pub use description::{Description, Kind};
pub use error::ModelError;
pub use model::{Labels, Model, Precision, Prompts, ReadOptions, Scores, Similarity, UnknownPrecision};
pub use text::TextModel;
pub use text::answer::{
    Classes, Embedding, LabelledText, Ranked, TokenCount, TokenLabel, TokenVectors, Window,
};
pub use text::ask::{Ask, Prompt};
pub use text::error::TextError;
pub use text::pieces::Piece;
pub use text::tokens::{Tokens, TooLong};
pub use weights::{KeptWeights, Weights};
