//! A mixture of experts, on both sides: the blocks that the runtime serves, and what a caller does with them.
//!
//! The gate scores the experts for each image. The two best are asked, so every expert sees only its share of
//! the images, and their logits are added, weighted by the softmax of the two scores: Shazeer et al.,
//! "Outrageously large neural networks: the sparsely-gated mixture-of-experts layer", ICLR 2017, without its
//! noise.

use crate::common::{DemoBlock, DemoDevice, Result, skep};
use crate::data::{CLASSES, PIXELS};
use crate::remote::{Manner, Pending, Remote};
use crate::rows::Rows;
use skep::blocks::{Activation, Ffn};
use skep::pool::{PoolOptions, Serve, ServeOptions};
use skep::runtime::RuntimeBuilder;
use skep::{AdamW, Optimizer};
use std::sync::Arc;

/// How many experts are asked about each image.
const CHOSEN: usize = 2;
/// Enough for several trainers' rows to share a step.
const MAX_ROWS: usize = 256;
/// How much an even use of the experts counts beside being right.
const BALANCE: f32 = 0.1;
const GATE_HIDDEN: usize = 32;
const LEARNING_RATE: f64 = 3e-3;

/// The gate and the experts, as any caller can reach them.
#[derive(Clone)]
pub(crate) struct Mixture {
    pub(crate) gate: Remote,
    experts: Vec<Remote>,
}

/// What the mixture says to some images, with all that is needed to learn from it.
pub(crate) struct Answer {
    /// One row of class logits per image.
    pub(crate) logits: Rows,
    /// The gate's, one per expert, in rows per image.
    scores: Rows,
    shares: Vec<Share>,
}

/// The images that one expert is asked about.
struct Share {
    expert: usize,
    /// Their places among all images of the call.
    places: Vec<usize>,
    /// How much the expert's word counts for each of them; the weights for one image add up to 1.
    weights: Vec<f32>,
    inputs: Rows,
    /// Empty until the expert has answered.
    outputs: Rows,
}

impl Mixture {
    /// Registers the blocks: each gets a pool for forward and one for backward, and learns by itself.
    pub(crate) fn serve(
        builder: &mut RuntimeBuilder<DemoDevice>,
        experts: usize,
        hidden: usize,
        seed: u64,
    ) -> Result<Self> {
        let mut serve = |name: String, hidden, output, seed| -> Result<Remote> {
            let ffn = Ffn { input: PIXELS, hidden, output, activation: Activation::Relu };
            let rule = AdamW::default().learning_rate(LEARNING_RATE);
            let optimizer = Optimizer::adamw(rule).with_max_norm(1.0);
            let block = DemoBlock::of(name, ffn)?.with_seed(seed).with_optimizer(optimizer)?;
            let options = ServeOptions::both(PoolOptions::default().max_rows(MAX_ROWS));
            let block = builder.serve(block, options)?;
            Ok(Remote::new(Arc::clone(builder.device()), block))
        };
        // A seed of its own for each block: equal blocks would stay equal.
        let gate = serve("gate".to_owned(), GATE_HIDDEN, experts, seed)?;
        let experts = (0..experts)
            .map(|i| serve(format!("expert.{i}"), hidden, CLASSES, seed.wrapping_add(1 + i as u64)))
            .collect::<Result<_>>()?;
        Ok(Self { gate, experts })
    }

    /// Asks the gate, then all chosen experts at once.
    pub(crate) fn forward(&self, images: &Rows, manner: Manner) -> Result<Answer> {
        let scores = self.gate.forward(images, manner)?.wait()?;
        let mut shares = share_out(images, &scores);
        let ask = |share: &Share| self.experts[share.expert].forward(&share.inputs, manner);
        let pending = shares.iter().map(ask).collect::<Result<Vec<Pending>>>()?;

        let mut logits = Rows::zeros(images.count(), CLASSES);
        for (share, pending) in shares.iter_mut().zip(pending) {
            share.outputs = pending.wait()?;
            for ((&place, &weight), output) in
                share.places.iter().zip(&share.weights).zip(share.outputs.iter())
            {
                logits.row_mut(place).iter_mut().zip(output).for_each(|(sum, y)| *sum += weight * y);
            }
        }
        Ok(Answer { logits, scores, shares })
    }

    /// Trains the gate and the experts that were asked, all at once. `gradients` are those of the loss by the
    /// logits.
    ///
    /// For an image with the gradient `g`, an expert that said `y` with weight `w` where the mixture said `m`
    /// gets `w g`, and its score gets `w (g . (y - m))`: the chain rule through the weighted sum and the
    /// softmax.
    pub(crate) fn backward(
        &self,
        images: &Rows,
        answer: &Answer,
        gradients: &Rows,
        manner: Manner,
    ) -> Result<()> {
        let mut of_scores = answer.balance();
        let mut pending = Vec::with_capacity(answer.shares.len() + 1);
        for share in &answer.shares {
            let mut of_outputs = gradients.pick(&share.places);
            for (i, (&place, &weight)) in share.places.iter().zip(&share.weights).enumerate() {
                let (said, mixed) = (share.outputs.row(i), answer.logits.row(place));
                let surprise = gradients.row(place).iter().zip(said.iter().zip(mixed));
                of_scores.row_mut(place)[share.expert] +=
                    weight * surprise.map(|(g, (y, m))| g * (y - m)).sum::<f32>();
                of_outputs.row_mut(i).iter_mut().for_each(|g| *g *= weight);
            }
            pending.push(self.experts[share.expert].backward(&share.inputs, &of_outputs, manner)?);
        }
        pending.push(self.gate.backward(images, &of_scores, manner)?);
        pending.into_iter().try_for_each(|step| step.wait().map(drop))
    }
}

impl Answer {
    /// Gradients by the scores that even out how often each expert is asked; without them, the gate soon asks
    /// only the experts that learnt first.
    ///
    /// They are those of `BALANCE * experts * sum(share * likelihood)`, where an expert's share is the part
    /// of the images that it was asked about, and its likelihood the mean softmax of its score: Fedus, Zoph
    /// and Shazeer, "Switch transformers", JMLR 2022, equation 4.
    fn balance(&self) -> Rows {
        let (images, experts) = (self.scores.count(), self.scores.width);
        let mut asked = vec![0.0; experts];
        for share in &self.shares {
            asked[share.expert] = share.places.len() as f32 / images as f32;
        }
        let scale = BALANCE * experts as f32 / images as f32;
        let mut gradients = Rows::zeros(0, experts);
        for scores in self.scores.iter() {
            let likely = softmax(scores.iter().copied());
            let mean: f32 = likely.iter().zip(&asked).map(|(p, part)| p * part).sum();
            gradients.values.extend(likely.iter().zip(&asked).map(|(p, part)| scale * p * (part - mean)));
        }
        gradients
    }
}

/// Chooses the experts with the best scores for each image, and sorts the images by expert.
fn share_out(images: &Rows, scores: &Rows) -> Vec<Share> {
    let mut chosen: Vec<(Vec<usize>, Vec<f32>)> = vec![Default::default(); scores.width];
    for (place, scores) in scores.iter().enumerate() {
        let mut best: Vec<usize> = (0..scores.len()).collect();
        best.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        best.truncate(CHOSEN);
        let weights = softmax(best.iter().map(|&expert| scores[expert]));
        for (&expert, weight) in best.iter().zip(weights) {
            chosen[expert].0.push(place);
            chosen[expert].1.push(weight);
        }
    }
    let asked = chosen.into_iter().enumerate().filter(|(_, (places, _))| !places.is_empty());
    asked
        .map(|(expert, (places, weights))| {
            let (inputs, outputs) = (images.pick(&places), Rows::zeros(0, CLASSES));
            Share { expert, places, weights, inputs, outputs }
        })
        .collect()
}

/// `exp(x) / sum(exp(x))`.
pub(crate) fn softmax(scores: impl Iterator<Item = f32> + Clone) -> Vec<f32> {
    // Subtracting the largest changes nothing but keeps exp finite.
    let largest = scores.clone().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = scores.map(|score| (score - largest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}
