//! How one parameter follows its gradient, in place.

use crate::layers::number;
use skep_toolkit::{AdamW, Pace, Rule, Sgd};
use tch::{TchError, Tensor};

pub(super) fn step(
    pace: &Pace,
    variable: &mut Tensor,
    mut gradient: Tensor,
    memory: &mut [Tensor],
) -> Result<(), TchError> {
    if pace.scale < 1.0 {
        gradient = gradient.f_mul(&number(pace.scale)?)?;
    }
    match &pace.rule {
        Rule::AdamW(rule) => adamw(rule, pace, variable, &gradient, memory),
        Rule::Sgd(rule) => sgd(rule, pace, variable, &gradient, memory),
    }
}

fn adamw(
    rule: &AdamW,
    pace: &Pace,
    variable: &mut Tensor,
    gradient: &Tensor,
    memory: &mut [Tensor],
) -> Result<(), TchError> {
    let [mean, square] = memory else { return Ok(()) };
    let rate = rule.learning_rate * pace.factor;
    let _ = mean.f_mul_(&number(rule.beta1)?)?.f_add_(&gradient.f_mul(&number(1.0 - rule.beta1)?)?)?;
    let scaled = gradient.f_mul(&number(1.0 - rule.beta2)?)?;
    let _ = square.f_mul_(&number(rule.beta2)?)?.f_addcmul_(&scaled, gradient)?;

    let [mean_scale, square_scale] = rule.corrections(pace.t);
    let mut divisor = square.f_mul(&number(square_scale)?)?;
    let divisor = divisor.f_sqrt_()?.f_add_(&number(rule.eps)?)?;
    let change = mean.f_mul(&number(-rate * mean_scale)?)?;
    let _ = variable.f_mul_(&number(1.0 - rate * rule.weight_decay)?)?.f_addcdiv_(&change, &divisor)?;
    Ok(())
}

fn sgd(
    rule: &Sgd,
    pace: &Pace,
    variable: &mut Tensor,
    gradient: &Tensor,
    memory: &mut [Tensor],
) -> Result<(), TchError> {
    let mut change = gradient.shallow_clone();
    if rule.weight_decay != 0.0 {
        change = change.f_add(&variable.f_mul(&number(rule.weight_decay)?)?)?;
    }
    if let [momentum] = memory {
        change = momentum.f_mul_(&number(rule.momentum)?)?.f_add_(&change)?;
    }
    let _ = variable.f_sub_(&change.f_mul(&number(rule.learning_rate * pace.factor)?)?)?;
    Ok(())
}
