//! How one parameter follows its gradient.

use crate::layers::number;
use tch::{TchError, Tensor};

/// `AdamW`: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2, with the
/// schedule applied to learning rate and decay together, as `PyTorch` does it.
///
/// With the gradient `g` of step `t`: `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g²`, and
/// `p = p (1 - lr decay) - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// `lr`; 1e-3 unless set.
    pub learning_rate: f64,
    /// `b1`, how long the mean of the gradients lasts; 0.9 unless set.
    pub beta1: f64,
    /// `b2`, how long the mean of their squares lasts; 0.999 unless set.
    pub beta2: f64,
    /// `eps`, which keeps the division finite; 1e-8 unless set.
    pub eps: f64,
    /// `decay`; 0.01 unless set.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 }
    }
}

/// Stochastic gradient descent: `m = momentum m + g + decay p`, `p = p - lr m`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// `lr`; 1e-2 unless set.
    pub learning_rate: f64,
    /// 0 for none, which is what it is unless set.
    pub momentum: f64,
    /// `decay`; 0 unless set.
    pub weight_decay: f64,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { learning_rate: 1e-2, momentum: 0.0, weight_decay: 0.0 }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    AdamW(AdamW),
    Sgd(Sgd),
}

impl Rule {
    /// What is remembered of each parameter, in the names that `PyTorch` has for it where it has one.
    pub(super) fn memory_names(&self) -> &'static [&'static str] {
        match self {
            Self::AdamW(_) => &["exp_avg", "exp_avg_sq"],
            Self::Sgd(Sgd { momentum, .. }) if *momentum == 0.0 => &[],
            Self::Sgd(_) => &["momentum"],
        }
    }

    /// Steps one parameter, in place. `t` counts from 1; `factor` is the schedule's.
    pub(super) fn step(
        &self,
        variable: &mut Tensor,
        gradient: &Tensor,
        memory: &mut [Tensor],
        t: u64,
        factor: f64,
    ) -> Result<(), TchError> {
        match self {
            Self::AdamW(rule) => rule.step(variable, gradient, memory, t, factor),
            Self::Sgd(rule) => rule.step(variable, gradient, memory, factor),
        }
    }
}

impl AdamW {
    fn step(
        &self,
        variable: &mut Tensor,
        gradient: &Tensor,
        memory: &mut [Tensor],
        t: u64,
        factor: f64,
    ) -> Result<(), TchError> {
        let [mean, square] = memory else { return Ok(()) };
        let rate = self.learning_rate * factor;
        let _ = mean.f_mul_(&number(self.beta1)?)?.f_add_(&gradient.f_mul(&number(1.0 - self.beta1)?)?)?;
        let scaled = gradient.f_mul(&number(1.0 - self.beta2)?)?;
        let _ = square.f_mul_(&number(self.beta2)?)?.f_addcmul_(&scaled, gradient)?;

        let t = i32::try_from(t).unwrap_or(i32::MAX);
        let mean_scale = 1.0 / (1.0 - self.beta1.powi(t));
        let square_scale = 1.0 / (1.0 - self.beta2.powi(t));
        let mut divisor = square.f_mul(&number(square_scale)?)?;
        let divisor = divisor.f_sqrt_()?.f_add_(&number(self.eps)?)?;
        let change = mean.f_mul(&number(-rate * mean_scale)?)?;
        let _ = variable.f_mul_(&number(1.0 - rate * self.weight_decay)?)?.f_addcdiv_(&change, &divisor)?;
        Ok(())
    }
}

impl Sgd {
    fn step(
        &self,
        variable: &mut Tensor,
        gradient: &Tensor,
        memory: &mut [Tensor],
        factor: f64,
    ) -> Result<(), TchError> {
        let mut change = gradient.shallow_clone();
        if self.weight_decay != 0.0 {
            change = change.f_add(&variable.f_mul(&number(self.weight_decay)?)?)?;
        }
        if let [momentum] = memory {
            change = momentum.f_mul_(&number(self.momentum)?)?.f_add_(&change)?;
        }
        let _ = variable.f_sub_(&change.f_mul(&number(self.learning_rate * factor)?)?)?;
        Ok(())
    }
}
