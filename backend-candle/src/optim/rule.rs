//! How one parameter follows its gradient.

use candle_core::{Result, Tensor, Var};

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

    /// Steps one parameter. `t` counts from 1; `factor` is the schedule's.
    pub(super) fn step(
        &self,
        var: &Var,
        gradient: &Tensor,
        memory: &mut [Tensor],
        t: u64,
        factor: f64,
    ) -> Result<()> {
        let value = var.as_detached_tensor();
        match self {
            Self::AdamW(rule) => rule.step(var, &value, gradient, memory, t, factor),
            Self::Sgd(rule) => rule.step(var, &value, gradient, memory, factor),
        }
    }
}

impl AdamW {
    fn step(
        &self,
        var: &Var,
        value: &Tensor,
        gradient: &Tensor,
        memory: &mut [Tensor],
        t: u64,
        factor: f64,
    ) -> Result<()> {
        let [mean, square] = memory else { return Ok(()) };
        let rate = self.learning_rate * factor;
        *mean = ((&*mean * self.beta1)? + (gradient * (1.0 - self.beta1))?)?;
        *square = ((&*square * self.beta2)? + (gradient.sqr()? * (1.0 - self.beta2))?)?;

        let t = i32::try_from(t).unwrap_or(i32::MAX);
        let mean_scale = 1.0 / (1.0 - self.beta1.powi(t));
        let square_scale = 1.0 / (1.0 - self.beta2.powi(t));
        let divisor = ((&*square * square_scale)?.sqrt()? + self.eps)?;
        let change = ((&*mean * (rate * mean_scale))? / divisor)?;
        var.set(&((value * (1.0 - rate * self.weight_decay))? - change)?)
    }
}

impl Sgd {
    fn step(
        &self,
        var: &Var,
        value: &Tensor,
        gradient: &Tensor,
        memory: &mut [Tensor],
        factor: f64,
    ) -> Result<()> {
        let mut change = gradient.clone();
        if self.weight_decay != 0.0 {
            change = (change + (value * self.weight_decay)?)?;
        }
        if let [momentum] = memory {
            change = ((&*momentum * self.momentum)? + change)?;
            *momentum = change.clone();
        }
        var.set(&(value - (change * (self.learning_rate * factor))?)?)
    }
}
