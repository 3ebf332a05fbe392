//! Blocks that come with Skep, by name: their settings, and what goes in and comes out. A backend computes them
//! ([`Computes`](crate::Computes)).
//!
//! ```
//! use skep_toolkit::blocks::{Activation, Ffn, Spec};
//!
//! let ffn = Ffn { input: 4, hidden: 16, output: 2, activation: Activation::Gelu };
//! assert_eq!(Ffn::from_config(&"input=4, hidden=16, output=2".parse()?)?, ffn);
//! let inputs = ffn.signature()?.inputs;
//! assert_eq!(inputs.tensors()[0].name(), "x");
//!
//! let error = Ffn { hidden: 0, ..ffn }.signature().unwrap_err();
//! assert_eq!(error.to_string(), "`hidden` is `0`, expected at least 1");
//! # Ok::<(), skep_toolkit::ConfigError>(())
//! ```

mod activation;
mod det_dropout;
mod ffn;
mod nop;
pub(crate) mod spec;
mod transformer;

pub use activation::{Activation, UnknownActivation};
pub use det_dropout::DetDropout;
pub use ffn::Ffn;
pub use nop::{Nop, NopDelay};
pub use spec::{Signature, Spec, schema};
pub use transformer::Transformer;
