//! How one parameter follows its gradient.

use candle_core::{Result, Tensor, Var};
use skep_toolkit::{AdamW, Pace, Rule, Sgd};

pub(super) fn step(pace: &Pace, var: &Var, gradient: &Tensor, memory: &mut [Tensor]) -> Result<()> {
    let scaled = if pace.scale < 1.0 { &(gradient * pace.scale)? } else { gradient };
    match &pace.rule {
        Rule::AdamW(rule) => adamw(rule, pace, var, scaled, memory),
        Rule::Sgd(rule) => sgd(rule, pace, var, scaled, memory),
    }
}

fn adamw(rule: &AdamW, pace: &Pace, var: &Var, gradient: &Tensor, memory: &mut [Tensor]) -> Result<()> {
    let [mean, square] = memory else { return Ok(()) };
    let rate = rule.learning_rate * pace.factor;
    *mean = ((&*mean * rule.beta1)? + (gradient * (1.0 - rule.beta1))?)?;
    *square = ((&*square * rule.beta2)? + (gradient.sqr()? * (1.0 - rule.beta2))?)?;

    let [mean_scale, square_scale] = rule.corrections(pace.t);
    let divisor = ((&*square * square_scale)?.sqrt()? + rule.eps)?;
    let change = ((&*mean * (rate * mean_scale))? / divisor)?;
    var.set(&((var.as_detached_tensor() * (1.0 - rate * rule.weight_decay))? - change)?)
}

fn sgd(rule: &Sgd, pace: &Pace, var: &Var, gradient: &Tensor, memory: &mut [Tensor]) -> Result<()> {
    let value = var.as_detached_tensor();
    let mut change = gradient.clone();
    if rule.weight_decay != 0.0 {
        change = (change + (&value * rule.weight_decay)?)?;
    }
    if let [momentum] = memory {
        change = ((&*momentum * rule.momentum)? + change)?;
        *momentum = change.clone();
    }
    var.set(&(value - (change * (rule.learning_rate * pace.factor))?)?)
}
