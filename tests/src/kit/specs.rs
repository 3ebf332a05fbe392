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
