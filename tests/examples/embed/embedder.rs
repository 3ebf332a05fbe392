//! A model folder behind a runtime, as its callers see it: a text in, numbers out.

use crate::common::{DemoBlock, DemoDevice, Result, skep};
use skep::blocks::TextModel as Block;
use skep::models::{Ask, Kind, Model, Precision, Prompt, ReadOptions, Similarity, TextModel, TokenCount};
use skep::pool::{PoolOptions, Serve, ServeOptions};
use skep::runtime::{PadTo, Priority, RuntimeBuilder};
use std::path::Path;
use std::sync::Arc;

/// How a folder is served.
pub(crate) struct Settings<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) precision: Precision,
    pub(crate) ignored_keys: &'a [String],
    pub(crate) bucket: usize,
    pub(crate) max_rows: usize,
    pub(crate) query: &'a str,
    /// By its name in the folder.
    pub(crate) prompt: Option<&'a str>,
}

pub(crate) struct Embedder {
    text: TextModel<DemoDevice>,
    /// What a cross-encoder judges texts by.
    query: String,
    prompt: Prompt,
}

/// What a model says of a text: its vector, or its scores.
pub(crate) struct Embedded {
    pub(crate) vector: Vec<f32>,
    pub(crate) tokens: TokenCount,
}

impl Embedder {
    /// Reads the folder and registers its block.
    pub(crate) fn serve(builder: &mut RuntimeBuilder<DemoDevice>, settings: &Settings<'_>) -> Result<Self> {
        let options = ReadOptions { ignored_keys: settings.ignored_keys.to_vec() };
        let model = Arc::new(Model::read_with(settings.directory, &options)?);
        for note in model.notes() {
            eprintln!("note: {note}");
        }
        let block: DemoBlock =
            Block { model: Arc::clone(&model), precision: settings.precision }.block("model")?;
        let options = PoolOptions::default()
            .max_rows(settings.max_rows)
            .padding(model.padding(PadTo::Multiple(settings.bucket)));
        let served = builder.serve(block, ServeOptions::forward(options))?;
        let text = TextModel::new(model, Arc::clone(builder.device()), Arc::new(served.forward))?;
        let prompt = settings.prompt.map_or(Prompt::Default, Prompt::named);
        // A prompt that is not there is told before the first sentence.
        text.count_tokens("", &prompt)?;
        Ok(Self { text, query: settings.query.to_owned(), prompt })
    }

    /// Asks the model about one text, in whatever batch it meets others of like length.
    pub(crate) fn embed(&self, text: &str, priority: Priority) -> Result<Embedded> {
        let ask = Ask::new().priority(priority).prompt(self.prompt.clone());
        let (vector, tokens) = match self.model().description().kind {
            Kind::Embedding => {
                let embedded = self.text.embed(text, &ask)?;
                (embedded.vector, embedded.tokens)
            }
            Kind::Token => {
                let labelled = self.text.label(text, &ask)?;
                (labelled.labels.iter().map(|label| label.score).collect(), labelled.tokens)
            }
            _ if self.judges_pairs() => {
                let classes = self.text.compare(&self.query, text, &ask)?;
                (classes.scores, classes.tokens)
            }
            _ => {
                let classes = self.text.classify(text, &ask)?;
                (classes.scores, classes.tokens)
            }
        };
        Ok(Embedded { vector, tokens })
    }

    pub(crate) fn model(&self) -> &Model {
        self.text.model()
    }

    /// How near two vectors are, if the model gives vectors.
    pub(crate) fn similarity(&self) -> Option<Similarity> {
        let model = self.model();
        (model.description().kind == Kind::Embedding).then(|| model.similarity())
    }

    fn judges_pairs(&self) -> bool {
        self.model().labels().is_some_and(|labels| labels.pairs)
    }
}
