//! One step of an optimizer, whose settings and memory are those of the [`toolkit`](skep_toolkit).

mod rule;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use skep_runtime_core::BoxError;
use skep_toolkit::Stepper;
use std::collections::BTreeMap;

/// Steps the parameters that have a gradient. The others stay as they are.
pub(crate) fn step(
    stepper: &mut Stepper<Tensor>,
    variables: &BTreeMap<String, Var>,
    gradients: &GradStore,
) -> Result<(), BoxError> {
    let trained = variables.iter().filter_map(|(name, variable)| {
        // With its graph, the memory would keep the activations of every step there ever was.
        Some((name.as_str(), (variable, gradients.get(variable)?.detach())))
    });
    stepper.step(global_norm(variables, gradients)?, trained, |pace, (variable, gradient), memory| {
        rule::step(pace, variable, &gradient, memory)
    })
}

/// The Euclidean norm over all gradients together.
fn global_norm(variables: &BTreeMap<String, Var>, gradients: &GradStore) -> candle_core::Result<f64> {
    let mut squares: Option<Tensor> = None;
    for gradient in variables.values().filter_map(|var| gradients.get(var)) {
        let square = gradient.detach().sqr()?.sum_all()?;
        squares = Some(match squares {
            Some(squares) => (squares + square)?,
            None => square,
        });
    }
    let square = squares.map(|squares| squares.to_scalar::<f32>()).transpose()?.unwrap_or(0.0);
    Ok(f64::from(square).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device as Place;
    use skep_toolkit::{AdamW, Optimizer, Sgd};

    #[test]
    fn what_is_remembered_holds_no_graph() {
        for optimizer in
            [Optimizer::adamw(AdamW::default()), Optimizer::sgd(Sgd { momentum: 0.9, ..Sgd::default() })]
        {
            let var = Var::new(&[[1f32, 2.0], [3.0, 4.0]], &Place::Cpu).unwrap();
            let (name, zeros) = ("w".to_owned(), |w: &Tensor| w.detach().zeros_like());
            let mut stepper = Stepper::new(optimizer, [(&name, var.as_tensor())], zeros).unwrap();
            let variables = BTreeMap::from([(name, var.clone())]);
            let gradients = var.matmul(&var).unwrap().sum_all().unwrap().backward().unwrap();
            assert!(gradients.get(&var).unwrap().track_op());
            step(&mut stepper, &variables, &gradients).unwrap();
            assert!(stepper.memory().all(|(_, tensor)| !tensor.track_op()));
        }
    }
}
