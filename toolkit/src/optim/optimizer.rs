//! Optimizers: the settings, and the numbers of each step.

use super::schedule::Schedule;
use crate::config::ConfigError;

/// The way in which a block's parameters follow their gradients. The block keeps what the steps need to remember.
///
/// ```
/// use skep_toolkit::{AdamW, Optimizer, Schedule};
///
/// let optimizer = Optimizer::adamw(AdamW::default().learning_rate(3e-4))
///     .with_schedule(Schedule::WarmupLinear { warmup: 100, total: 10_000 })
///     .with_max_norm(1.0);
/// assert_ne!(optimizer, Optimizer::adamw(AdamW::default()));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    pub(super) rule: Rule,
    pub(super) schedule: Schedule,
    pub(super) max_norm: Option<f64>,
}

impl Optimizer {
    /// Creates an optimizer by `AdamW`: moments of the gradients, decoupled weight decay.
    pub fn adamw(rule: AdamW) -> Self {
        Self::new(Rule::AdamW(rule))
    }

    /// Creates an optimizer by gradient descent with momentum.
    pub fn sgd(rule: Sgd) -> Self {
        Self::new(Rule::Sgd(rule))
    }

    /// Returns the name by which saved states know it: `adamw`, `sgd`.
    pub fn name(&self) -> &'static str {
        self.rule.name()
    }

    /// Checks all settings.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let held = |fits: bool, key, got: f64, expected| {
            if fits { Ok(()) } else { Err(ConfigError::invalid(key, got, expected)) }
        };
        let not_negative =
            |key, got: f64| held(got.is_finite() && got >= 0.0, key, got, "a finite number, at least 0");
        let below_one =
            |key, got: f64| held((0.0..1.0).contains(&got), key, got, "a number from 0 to below 1");
        let positive =
            |key, got: f64| held(got.is_finite() && got > 0.0, key, got, "a finite number above 0");
        match self.rule {
            Rule::AdamW(AdamW { learning_rate, beta1, beta2, eps, weight_decay }) => {
                not_negative("learning_rate", learning_rate)?;
                below_one("beta1", beta1)?;
                below_one("beta2", beta2)?;
                positive("eps", eps)?;
                not_negative("weight_decay", weight_decay)?;
            }
            Rule::Sgd(Sgd { learning_rate, momentum, weight_decay }) => {
                not_negative("learning_rate", learning_rate)?;
                below_one("momentum", momentum)?;
                not_negative("weight_decay", weight_decay)?;
            }
        }
        self.max_norm.map_or(Ok(()), |max_norm| positive("max_norm", max_norm))?;
        self.schedule.check()
    }

    fn new(rule: Rule) -> Self {
        Self { rule, schedule: Schedule::Constant, max_norm: None }
    }

    /// Sets the way in which the learning rate changes with the steps. [`Schedule::Constant`] unless set.
    pub fn with_schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Scales all gradients of a step down together when the norm over all of them is larger than this.
    /// No limit unless set; 1 is a usual choice.
    pub fn with_max_norm(mut self, max_norm: f64) -> Self {
        self.max_norm = Some(max_norm);
        self
    }
}

/// `AdamW`: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2, with the
/// schedule applied to learning rate and decay together, as `PyTorch` does it.
///
/// With the gradient `g` of step `t`: `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g²`, and
/// `p = p (1 - lr decay) - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
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

impl AdamW {
    /// Sets [`learning_rate`](Self#structfield.learning_rate).
    pub fn learning_rate(mut self, learning_rate: f64) -> Self {
        self.learning_rate = learning_rate;
        self
    }

    /// Sets [`beta1`](Self#structfield.beta1).
    pub fn beta1(mut self, beta1: f64) -> Self {
        self.beta1 = beta1;
        self
    }

    /// Sets [`beta2`](Self#structfield.beta2).
    pub fn beta2(mut self, beta2: f64) -> Self {
        self.beta2 = beta2;
        self
    }

    /// Sets [`eps`](Self#structfield.eps).
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// Sets [`weight_decay`](Self#structfield.weight_decay).
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }
}

impl Default for AdamW {
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 }
    }
}

/// Stochastic gradient descent: `m = momentum m + g + decay p`, `p = p - lr m`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sgd {
    /// `lr`; 1e-2 unless set.
    pub learning_rate: f64,
    /// 0 for none, which is what it is unless set.
    pub momentum: f64,
    /// `decay`; 0 unless set.
    pub weight_decay: f64,
}

impl Sgd {
    /// Sets [`learning_rate`](Self#structfield.learning_rate).
    pub fn learning_rate(mut self, learning_rate: f64) -> Self {
        self.learning_rate = learning_rate;
        self
    }

    /// Sets [`momentum`](Self#structfield.momentum).
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// Sets [`weight_decay`](Self#structfield.weight_decay).
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }
}

impl Default for Sgd {
    fn default() -> Self {
        Self { learning_rate: 1e-2, momentum: 0.0, weight_decay: 0.0 }
    }
}

/// The change of one parameter by an optimizer, for backends that make it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Remembers `m` and `v`, in this order.
    AdamW(AdamW),
    /// Remembers `m` where there is momentum.
    Sgd(Sgd),
}

impl Rule {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::AdamW(_) => "adamw",
            Self::Sgd(_) => "sgd",
        }
    }

    pub(super) fn learning_rate(&self) -> f64 {
        match self {
            Self::AdamW(rule) => rule.learning_rate,
            Self::Sgd(rule) => rule.learning_rate,
        }
    }

    /// Returns the names of what is remembered of each parameter: `PyTorch`'s, where it has one.
    pub fn memory_names(&self) -> &'static [&'static str] {
        match self {
            Self::AdamW(_) => &["exp_avg", "exp_avg_sq"],
            Self::Sgd(Sgd { momentum, .. }) if *momentum == 0.0 => &[],
            Self::Sgd(_) => &["momentum"],
        }
    }
}

/// The numbers of one parameter's step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// The change of the parameter.
    pub rule: Rule,
    /// The number of this step among those of the parameter, counted from 1.
    pub t: u64,
    /// The factor of the learning rate.
    pub factor: f64,
    /// The factor of the gradients; 1 if they are not clipped.
    pub scale: f64,
}

impl AdamW {
    /// Returns `1 / (1 - b1^t)` and `1 / (1 - b2^t)` for step `t`, counted from 1.
    pub fn corrections(&self, t: u64) -> [f64; 2] {
        let t = i32::try_from(t).unwrap_or(i32::MAX);
        [self.beta1, self.beta2].map(|beta| 1.0 / (1.0 - beta.powi(t)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_is_corrected_to_the_gradient_itself() {
        let rule = AdamW { beta1: 0.5, beta2: 0.75, ..AdamW::default() };
        assert_eq!(rule.corrections(1).map(|c| c.to_string()), ["2", "4"]);
        assert_eq!(rule.corrections(u64::MAX).map(|c| c.to_string()), ["1", "1"]);
    }

    #[test]
    fn each_setting_is_checked_by_name() {
        let adamw = |change: fn(&mut AdamW)| {
            let mut rule = AdamW::default();
            change(&mut rule);
            Optimizer::adamw(rule)
        };
        let sgd = |change: fn(&mut Sgd)| {
            let mut rule = Sgd::default();
            change(&mut rule);
            Optimizer::sgd(rule)
        };
        let fine = Optimizer::sgd(Sgd::default());
        assert!(fine.check().is_ok() && Optimizer::adamw(AdamW::default()).check().is_ok());
        assert!(adamw(|rule| rule.learning_rate = 0.0).check().is_ok(), "frozen on purpose");
        for (optimizer, expected) in [
            (adamw(|rule| rule.learning_rate = f64::NAN), "`learning_rate` is `NaN`"),
            (adamw(|rule| rule.learning_rate = -1e-3), "`learning_rate` is `-0.001`"),
            (adamw(|rule| rule.beta1 = 1.0), "`beta1` is `1`"),
            (adamw(|rule| rule.beta2 = f64::INFINITY), "`beta2` is `inf`"),
            (adamw(|rule| rule.eps = 0.0), "`eps` is `0`"),
            (adamw(|rule| rule.weight_decay = -1.0), "`weight_decay` is `-1`"),
            (sgd(|rule| rule.learning_rate = f64::INFINITY), "`learning_rate` is `inf`"),
            (sgd(|rule| rule.momentum = -0.5), "`momentum` is `-0.5`"),
            (sgd(|rule| rule.weight_decay = f64::NAN), "`weight_decay` is `NaN`"),
            (fine.clone().with_max_norm(-1.0), "`max_norm` is `-1`"),
            (fine.clone().with_max_norm(f64::NAN), "`max_norm` is `NaN`"),
            (fine.clone().with_max_norm(0.0), "`max_norm` is `0`"),
            (fine.clone().with_schedule(Schedule::Step { every: 0, factor: 0.5 }), "`every` is `0`"),
            (fine.clone().with_schedule(Schedule::WarmupLinear { warmup: 9, total: 9 }), "`total` is `9`"),
            (fine.with_schedule(Schedule::WarmupCosine { warmup: 0, total: 0 }), "`total` is `0`"),
        ] {
            let message = optimizer.check().unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn plain_descent_remembers_nothing() {
        assert!(Rule::Sgd(Sgd::default()).memory_names().is_empty());
        assert_eq!(Rule::Sgd(Sgd::default().momentum(0.9)).memory_names(), ["momentum"]);
    }
}
