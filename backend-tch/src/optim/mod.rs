//! One step of an optimizer, whose settings and memory are those of the [`toolkit`](skep_toolkit).

mod rule;

use skep_runtime_core::BoxError;
use skep_toolkit::Stepper;
use tch::{TchError, Tensor};

/// One parameter and where it is to go.
pub(crate) struct Step<'a> {
    pub(crate) name: &'a str,
    pub(crate) variable: &'a mut Tensor,
    pub(crate) gradient: Tensor,
}

/// Steps the parameters that have a gradient. No graph may be recorded while it runs.
pub(crate) fn step(stepper: &mut Stepper<Tensor>, steps: Vec<Step<'_>>) -> Result<(), BoxError> {
    let norm = global_norm(&steps)?;
    let trained = steps.into_iter().map(|Step { name, variable, gradient }| (name, (variable, gradient)));
    stepper.step(norm, trained, |pace, (variable, gradient), memory| {
        rule::step(pace, variable, gradient, memory)
    })
}

/// The Euclidean norm over all gradients together.
fn global_norm(steps: &[Step<'_>]) -> Result<f64, TchError> {
    let mut squares: Option<Tensor> = None;
    for Step { gradient, .. } in steps {
        let square = gradient.f_norm()?.f_square()?;
        squares = Some(match squares {
            Some(squares) => squares.f_add(&square)?,
            None => square,
        });
    }
    let square = squares.map(|squares| squares.f_double_value(&[])).transpose()?;
    Ok(square.unwrap_or(0.0).sqrt())
}
