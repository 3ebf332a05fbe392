//! Skep on libtorch. **Not built yet**: this crate holds the place and the contract.
//!
//! It will give what `skep-backend-candle` gives, through the same contracts and the same conformance suite:
//! a `TchDevice` that implements [`Device`](skep_runtime_core::Device), blocks of the same names with the same
//! parameter names, so that one checkpoint loads in both, and `TorchScript` modules on top. Until then
//! `cargo xtask` skips its combinations and says so.
#![forbid(unsafe_code)]
