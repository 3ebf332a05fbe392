//! The arithmetic of a step, whose settings and memory are those of the [`toolkit`](skep_toolkit). Nothing is changed in
//! place: the step may not be taken.

use candle_core::{DType, Result, Tensor};
use skep_runtime_core::BoxError;
use skep_toolkit::{AdamW, Pace, Rule, Sgd, Stepped};

/// The tensor in another element type.
pub(crate) fn cast(
    tensor: &Tensor,
    dtype: skep_runtime_core::DType,
) -> std::result::Result<Tensor, BoxError> {
    let dtype = match dtype {
        skep_runtime_core::DType::F16 => DType::F16,
        skep_runtime_core::DType::BF16 => DType::BF16,
        skep_runtime_core::DType::F32 => DType::F32,
        skep_runtime_core::DType::F64 => DType::F64,
        other => return Err(format!("dtype is {other}, expected one of floating-point numbers").into()),
    };
    Ok(tensor.detach().to_dtype(dtype)?)
}

/// The Euclidean norm over all tensors together.
pub(crate) fn norm(tensors: &[&Tensor]) -> Result<f64> {
    let square = |tensor: &&Tensor| tensor.detach().to_dtype(DType::F64)?.sqr()?.sum_all();
    Ok(sum(tensors.iter().map(square))?.sqrt())
}

/// Whether all elements of all tensors are finite: times 0, those that are not are no numbers.
pub(crate) fn all_finite(tensors: &[&Tensor]) -> Result<bool> {
    let zero = |tensor: &&Tensor| tensor.detach().affine(0.0, 0.0)?.sum_all()?.to_dtype(DType::F64);
    Ok(!sum(tensors.iter().map(zero))?.is_nan())
}

/// The sum of some numbers, which are added up on the device and read once.
fn sum(numbers: impl Iterator<Item = Result<Tensor>>) -> Result<f64> {
    let mut sum: Option<Tensor> = None;
    for number in numbers {
        let number = number?;
        sum = Some(match sum {
            Some(sum) => (sum + number)?,
            None => number,
        });
    }
    sum.map_or(Ok(0.0), |sum| sum.to_scalar::<f64>())
}

/// One parameter after a step.
pub(crate) fn stepped(
    pace: &Pace,
    value: &Tensor,
    gradient: &Tensor,
    memory: &[Tensor],
) -> Result<Stepped<Tensor>> {
    let scaled = if pace.scale < 1.0 { &(gradient * pace.scale)? } else { gradient };
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
) -> Result<Stepped<Tensor>> {
    let [mean, square] = memory else { return Ok((value.clone(), Vec::new())) };
    let rate = rule.learning_rate * pace.factor;
    let mean = ((mean * rule.beta1)? + (gradient * (1.0 - rule.beta1))?)?;
    let square = ((square * rule.beta2)? + (gradient.sqr()? * (1.0 - rule.beta2))?)?;

    let [mean_scale, square_scale] = rule.corrections(pace.t);
    let divisor = ((&square * square_scale)?.sqrt()? + rule.eps)?;
    let change = ((&mean * (rate * mean_scale))? / divisor)?;
    let value = ((value * (1.0 - rate * rule.weight_decay))? - change)?;
    Ok((value, vec![mean, square]))
}

fn sgd(
    rule: &Sgd,
    pace: &Pace,
    value: &Tensor,
    gradient: &Tensor,
    memory: &[Tensor],
) -> Result<Stepped<Tensor>> {
    let mut change = gradient.clone();
    if rule.weight_decay != 0.0 {
        change = (change + (value * rule.weight_decay)?)?;
    }
    let mut remembered = Vec::new();
    if let [momentum] = memory {
        change = ((momentum * rule.momentum)? + change)?;
        remembered.push(change.clone());
    }
    Ok(((value - (change * (rule.learning_rate * pace.factor))?)?, remembered))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device as Place, Var};

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::new(values, &Place::Cpu).unwrap()
    }

    #[test]
    fn what_is_remembered_holds_no_graph() {
        let var = Var::new(&[[1f32, 2.0], [3.0, 4.0]], &Place::Cpu).unwrap();
        let gradients = var.matmul(&var).unwrap().sum_all().unwrap().backward().unwrap();
        let gradient = gradients.get(&var).unwrap();
        assert!(gradient.track_op());
        let narrow = cast(gradient, skep_runtime_core::DType::F32).unwrap();
        assert!(!narrow.track_op());
        let rule = Rule::AdamW(AdamW::default());
        let pace = Pace { rule, t: 1, factor: 1.0, scale: 0.5 };
        let zeros = vec![narrow.zeros_like().unwrap(); 2];
        let (value, memory) = stepped(&pace, &var.as_detached_tensor(), &narrow, &zeros).unwrap();
        assert!(!value.track_op() && memory.iter().all(|tensor| !tensor.track_op()));
    }

    #[test]
    fn norms_are_computed_in_f64() {
        let large = tensor(&[3e30, 4e30]);
        assert!((norm(&[&large]).unwrap() / 5e30 - 1.0).abs() < 1e-6);
        assert!((norm(&[&tensor(&[1.0, 2.0]), &tensor(&[2.0])]).unwrap() - 3.0).abs() < 1e-12);
        assert!(norm(&[]).unwrap().abs() < f64::EPSILON);
        assert!(norm(&[&tensor(&[f32::NAN])]).unwrap().is_nan());
    }

    #[test]
    fn one_number_that_is_none_is_found_in_any_type() {
        for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
            let of = |value: f32| tensor(&[1.0, value, -2.0]).to_dtype(dtype).unwrap();
            assert!(all_finite(&[&of(3.0), &of(0.0)]).unwrap());
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                assert!(!all_finite(&[&of(3.0), &of(bad)]).unwrap(), "{dtype:?} {bad}");
            }
        }
        assert!(!all_finite(&[&tensor(&[70_000.0]).to_dtype(DType::F16).unwrap()]).unwrap());
    }
}
