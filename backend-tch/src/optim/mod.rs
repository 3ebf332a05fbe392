//! The arithmetic of a step, whose settings and memory are those of the [`toolkit`](skep_toolkit). Nothing that it is given is
//! changed in place: the step may not be taken. No graph may be recorded while it runs.

use crate::layers::number;
use skep_runtime_core::{BoxError, DType};
use skep_toolkit::{AdamW, Pace, Rule, Sgd, Stepped};
use tch::{Kind, TchError, Tensor};

/// The tensor in another element type.
pub(crate) fn cast(tensor: &Tensor, dtype: DType) -> Result<Tensor, BoxError> {
    let kind = match dtype {
        DType::F16 => Kind::Half,
        DType::BF16 => Kind::BFloat16,
        DType::F32 => Kind::Float,
        DType::F64 => Kind::Double,
        other => return Err(format!("dtype is {other}, expected one of floating-point numbers").into()),
    };
    Ok(tensor.f_detach()?.f_to_kind(kind)?)
}

/// The Euclidean norm over all tensors together.
pub(crate) fn norm(tensors: &[&Tensor]) -> Result<f64, TchError> {
    let mut sum = number(0.0)?;
    for tensor in tensors {
        let square = tensor.f_to_kind(Kind::Double)?.f_square()?.f_sum(Kind::Double)?;
        sum = square.f_add(&sum)?;
    }
    Ok(sum.f_double_value(&[])?.sqrt())
}

/// Whether all elements of all tensors are finite.
pub(crate) fn all_finite(tensors: &[&Tensor]) -> Result<bool, TchError> {
    let mut all: Option<Tensor> = None;
    for tensor in tensors {
        let finite = tensor.f_isfinite()?.f_all()?;
        all = Some(match all {
            Some(all) => all.f_logical_and(&finite)?,
            None => finite,
        });
    }
    all.map_or(Ok(true), |all| Ok(all.f_int64_value(&[])? != 0))
}

/// One parameter after a step.
pub(crate) fn stepped(
    pace: &Pace,
    value: &Tensor,
    gradient: &Tensor,
    memory: &[Tensor],
) -> Result<Stepped<Tensor>, TchError> {
    let scaled = if pace.scale < 1.0 { &gradient.f_mul(&number(pace.scale)?)? } else { gradient };
    match &pace.rule {
        Rule::AdamW(rule) => adamw(rule, pace, value, scaled, memory),
        Rule::Sgd(rule) => sgd(rule, pace, value, scaled, memory),
    }
}

fn adamw(
    rule: &AdamW,
    pace: &Pace,
    value: &Tensor,
    gradient: &Tensor,
    memory: &[Tensor],
) -> Result<Stepped<Tensor>, TchError> {
    let [mean, square] = memory else { return Ok((value.shallow_clone(), Vec::new())) };
    let rate = rule.learning_rate * pace.factor;
    let mut mean = mean.f_mul(&number(rule.beta1)?)?;
    let _ = mean.f_add_(&gradient.f_mul(&number(1.0 - rule.beta1)?)?)?;
    let scaled = gradient.f_mul(&number(1.0 - rule.beta2)?)?;
    let mut square = square.f_mul(&number(rule.beta2)?)?;
    let _ = square.f_addcmul_(&scaled, gradient)?;

    let [mean_scale, square_scale] = rule.corrections(pace.t);
    let mut divisor = square.f_mul(&number(square_scale)?)?;
    let divisor = divisor.f_sqrt_()?.f_add_(&number(rule.eps)?)?;
    let change = mean.f_mul(&number(-rate * mean_scale)?)?;
    let mut value = value.f_mul(&number(1.0 - rate * rule.weight_decay)?)?;
    let _ = value.f_addcdiv_(&change, &divisor)?;
    Ok((value, vec![mean, square]))
}

fn sgd(
    rule: &Sgd,
    pace: &Pace,
    value: &Tensor,
    gradient: &Tensor,
    memory: &[Tensor],
) -> Result<Stepped<Tensor>, TchError> {
    let mut change = gradient.shallow_clone();
    if rule.weight_decay != 0.0 {
        change = change.f_add(&value.f_mul(&number(rule.weight_decay)?)?)?;
    }
    let mut remembered = Vec::new();
    if let [momentum] = memory {
        change = momentum.f_mul(&number(rule.momentum)?)?.f_add(&change)?;
        remembered.push(change.shallow_clone());
    }
    let value = value.f_sub(&change.f_mul(&number(rule.learning_rate * pace.factor)?)?)?;
    Ok((value, remembered))
}
