//! Blocks that only the suite has. Each backend computes them in its own words, as an application does its layers.

use skep_runtime_core::{DType, TensorSpec};
use skep_toolkit::blocks::{Signature, Spec};
use skep_toolkit::{Config, ConfigError};

/// `x` `[batch, 4]` to `x + w`: the gradient of the parameter `w` `[4]`, drawn uniformly from -1 to 1, is that of
/// the output.
#[derive(Clone, Copy, Debug)]
pub struct Adder;

/// `x` `[batch, 1]` to `x + 3 a + 4 b`, with parameters that are 0 at first.
#[derive(Clone, Copy, Debug)]
pub struct Two;

/// `x` `[batch, 2]` and `ids` `[batch, 1]`, which is u32, to `2 x` and `ids`. There is an input `unused` `[batch, 3]`.
#[derive(Clone, Copy, Debug)]
pub struct Odd;

/// `x` `[batch, 4]` to `x * w + b`, all of one element type.
#[derive(Clone, Copy, Debug)]
pub struct Pupil {
    /// Of `x`, `w`, `b` and the output.
    pub dtype: DType,
    /// What `b` is.
    pub bias: Bias,
}

/// The bias of a [`Pupil`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// A parameter of its own.
    Own,
    /// `w`, asked for once more.
    Tied,
    /// A parameter of its own, which is used in batches of several rows only.
    Late,
}

/// `x` `[batch, 4]` to `x * w2`, where `w2` is `2 w`, made when the layers are.
#[derive(Clone, Copy, Debug)]
pub struct Derived;

/// `x` `[batch, 4]` to `x * w`; a parameter `idle` `[2]` is asked for, and not used.
#[derive(Clone, Copy, Debug)]
pub struct Idle;

/// `x` `[batch, 4]` to `h + h²` of `h = x * w`, where no gradient comes back from the square: a part of that of `w` and of
/// `x` is missing. `b` `[4]` is added in the end. Parameters are drawn uniformly from 1 to 2.
#[derive(Clone, Copy, Debug)]
pub struct CutOff;

/// `x` `[batch, 3, 2]` through a batch norm over 3 channels, named `norm`; the output is `y`, and `mode` `[batch, 1]` is 1
/// in a training step and else 0.
#[derive(Clone, Copy, Debug)]
pub struct Normed;

/// `x` `[batch, 4]` to `y` `[batch, 4]`, which is the parameter `w` `[1, 4]` itself, for one row, as often as there are
/// rows.
#[derive(Clone, Copy, Debug)]
pub struct Bare;

/// `x` `[batch, 4]` to `x * w`, of which half is dropped in a training step; `w` `[4]` is drawn uniformly from 1 to 2.
#[derive(Clone, Copy, Debug)]
pub struct Noisy;

fn rows(name: &str, features: usize) -> TensorSpec {
    TensorSpec::rows(name, DType::F32, &[features])
}

impl Spec for Adder {
    const KIND: &'static str = "adder";

    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&[]).map(|()| Self)
    }

    fn signature(&self) -> Result<Signature, ConfigError> {
        Signature::new(vec![rows("x", 4)], vec![rows("y", 4)])
    }
}

impl Spec for Two {
    const KIND: &'static str = "two";

    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&[]).map(|()| Self)
    }

    fn signature(&self) -> Result<Signature, ConfigError> {
        Signature::new(vec![rows("x", 1)], vec![rows("y", 1)])
    }
}

impl Spec for Pupil {
    const KIND: &'static str = "pupil";

    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&[]).map(|()| Self { dtype: DType::F32, bias: Bias::Own })
    }

    fn signature(&self) -> Result<Signature, ConfigError> {
        let of = |name| vec![TensorSpec::rows(name, self.dtype, &[4])];
        Signature::new(of("x"), of("y"))
    }
}

impl Spec for Derived {
    const KIND: &'static str = "derived";

    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&[]).map(|()| Self)
    }

    fn signature(&self) -> Result<Signature, ConfigError> {
        Signature::new(vec![rows("x", 4)], vec![rows("y", 4)])
    }
}

impl Spec for Idle {
    const KIND: &'static str = "idle";

    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&[]).map(|()| Self)
    }

    fn signature(&self) -> Result<Signature, ConfigError> {
        Signature::new(vec![rows("x", 4)], vec![rows("y", 4)])
    }
}

impl Spec for CutOff {
    const KIND: &'static str = "cut_off";

    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&[]).map(|()| Self)
    }

    fn signature(&self) -> Result<Signature, ConfigError> {
        Signature::new(vec![rows("x", 4)], vec![rows("y", 4)])
    }
}

impl Spec for Normed {
    const KIND: &'static str = "normed";

    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&[]).map(|()| Self)
    }

    fn signature(&self) -> Result<Signature, ConfigError> {
        let of = |name| TensorSpec::rows(name, DType::F32, &[3, 2]);
        Signature::new(vec![of("x")], vec![of("y"), rows("mode", 1)])
    }
}

impl Spec for Bare {
    const KIND: &'static str = "bare";

    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&[]).map(|()| Self)
    }

    fn signature(&self) -> Result<Signature, ConfigError> {
        Signature::new(vec![rows("x", 4)], vec![rows("y", 4)])
    }
}

impl Spec for Noisy {
    const KIND: &'static str = "noisy";

    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&[]).map(|()| Self)
    }

    fn signature(&self) -> Result<Signature, ConfigError> {
        Signature::new(vec![rows("x", 4)], vec![rows("y", 4)])
    }
}

impl Spec for Odd {
    const KIND: &'static str = "odd";

    fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&[]).map(|()| Self)
    }

    fn signature(&self) -> Result<Signature, ConfigError> {
        let ids = || TensorSpec::rows("ids", DType::U32, &[1]);
        Signature::new(
            vec![rows("x", 2), rows("unused", 3), ids()],
            vec![rows("y", 2), ids().renamed("same")],
        )
    }
}
