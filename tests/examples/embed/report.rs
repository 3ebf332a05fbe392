//! What the run came to: for people, and for machines.

use crate::check::TOLERANCE;
use crate::common::{BACKEND, skep};
use crate::work::Outcome;
use serde_json::{Value, json};
use skep::models::{Model, Similarity, Tokens};
use skep::stats::Snapshot;
use std::fmt::Write;

pub(crate) struct Report<'a> {
    pub(crate) outcome: &'a Outcome,
    /// Taken after the runtime has stopped.
    pub(crate) stats: &'a Snapshot,
    pub(crate) query: &'a str,
    pub(crate) model: &'a Model,
    /// The sentences nearest to the query, nearest first, each with how near it is.
    pub(crate) nearest: Vec<(f32, &'a str)>,
    /// How many sentences were longer than the model takes.
    pub(crate) cut: usize,
    /// From the vectors that others computed, where that was asked for.
    pub(crate) difference: Option<f32>,
}

/// The `top` sentences whose vectors are most like the query's, as the model measures it; the highest scores where it
/// gives no vectors.
pub(crate) fn nearest<'a>(
    outcome: &Outcome,
    similarity: Option<Similarity>,
    sentences: &'a [String],
    top: usize,
) -> Vec<(f32, &'a str)> {
    let score = |vector: &[f32]| match similarity {
        Some(similarity) => similarity.of(vector, &outcome.query),
        None => vector.first().copied().unwrap_or(f32::NAN),
    };
    let mut all: Vec<_> = outcome.sentences.iter().map(|it| score(&it.vector)).zip(sentences).collect();
    all.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    all.into_iter().take(top).map(|(cosine, sentence)| (cosine, sentence.as_str())).collect()
}

impl Report<'_> {
    fn per_second(&self) -> f64 {
        self.outcome.sentences.len() as f64 / self.outcome.elapsed.as_secs_f64()
    }

    /// The part of all positions that were padding.
    fn padding_share(&self) -> f64 {
        self.stats.total.padding
    }

    fn tokens(&self) -> usize {
        self.outcome.sentences.iter().map(|it| it.tokens.given).sum()
    }

    /// Whether the vectors are those that others computed, as far as was asked.
    pub(crate) fn agrees(&self) -> bool {
        self.difference.is_none_or(|difference| difference <= TOLERANCE)
    }

    pub(crate) fn to_text(&self) -> String {
        let Outcome { sentences, elapsed, latencies, query_took, .. } = self.outcome;
        let mut text = format!(
            "\n{stats}\n\n\
             {count} sentences in {elapsed:.2} s: {rate:.0} per second, {padding:.1} % of all positions were padding, \
             {rows:.1} sentences per batch\n\
             sentences     {latencies}\n\
             urgent query  {query:>10.2} ms\n\n\
             nearest to \"{wanted}\"\n",
            stats = self.stats,
            count = sentences.len(),
            elapsed = elapsed.as_secs_f64(),
            rate = self.per_second(),
            padding = 100.0 * self.padding_share(),
            rows = self.stats.total.mean_batch_rows,
            query = query_took.as_secs_f64() * 1e3,
            wanted = self.query,
        );
        // Writing to a string cannot fail. A long sentence is cut.
        for (cosine, sentence) in &self.nearest {
            writeln!(text, "  {cosine:.3}  {sentence:.100}").ok();
        }
        if let Some(difference) = self.difference {
            let verdict = if self.agrees() { "at most" } else { "MORE THAN" };
            writeln!(
                text,
                "\nlargest difference from sentence-transformers: {difference:.1e}, {verdict} {TOLERANCE:.0e}"
            )
            .ok();
        }
        write!(text, "\n{}", self.stats.total.accounts()).ok();
        text
    }

    pub(crate) fn to_json(&self) -> Value {
        let Outcome { sentences, elapsed, latencies, query_took, .. } = self.outcome;
        let nearest = self.nearest.iter().map(|(cosine, it)| json!({ "cosine": cosine, "sentence": it }));
        json!({
            "backend": BACKEND,
            "family": self.model.description().family,
            "kind": format!("{:?}", self.model.description().kind).to_lowercase(),
            "first_vector": sentences.first().map(|it| &it.vector),
            "sentences_cut": self.cut,
            "token_limit": self.model.tokens().map(Tokens::limit),
            "notes": self.model.notes(),
            "sentences": sentences.len(),
            "elapsed_s": elapsed.as_secs_f64(),
            "sentences_per_s": self.per_second(),
            "tokens": self.tokens(),
            "padding_share": self.padding_share(),
            "mean_batch_rows": self.stats.total.mean_batch_rows,
            "latency": latencies.to_json(),
            "query": self.query,
            "query_us": query_took.as_secs_f64() * 1e6,
            "nearest": nearest.collect::<Vec<_>>(),
            "largest_difference": self.difference,
            "stats": self.stats,
        })
    }
}
