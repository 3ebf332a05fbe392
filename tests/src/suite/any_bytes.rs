//! Settings of any text and weights of any bytes: refused with an error, or a block. Never a panic.

use crate::kit::{damage, for_all, noise, write_weights};
use crate::subject::Learner;
use proptest::prelude::*;
use skep_runtime_core::Backend;
use skep_toolkit::blocks::{Activation, Ffn};
use skep_toolkit::{Block, Config, Registry};

fn value() -> impl Strategy<Value = String> {
    let numbers = [
        "0",
        "1",
        "6",
        "-1",
        "4294967296",
        "18446744073709551615",
        "18446744073709551616",
        "1e300",
        "NaN",
        "inf",
    ];
    prop_oneof![
        3 => prop::sample::select(numbers.to_vec()).prop_map(str::to_owned),
        1 => prop::sample::select(vec!["gelu", "relu", "nowhere", "x:f32[3]", "x:i64[..128] y:u8[]"]).prop_map(str::to_owned),
        1 => "[ -~]{0,8}",
    ]
}

fn setting() -> impl Strategy<Value = (String, String)> {
    let keys = [
        "input",
        "hidden",
        "output",
        "activation",
        "size",
        "heads",
        "max_positions",
        "delay",
        "probability",
        "directory",
        "file",
        "inputs",
        "seed",
        "weights",
    ];
    (
        prop_oneof![9 => prop::sample::select(keys.to_vec()).prop_map(str::to_owned), 1 => "[ -~]{0,8}"],
        value(),
    )
}

/// Kinds with settings that are not theirs, and values of any kind.
pub fn a_block_of_any_settings_is_refused_or_loads<L: Learner>() {
    let registry = Registry::<L::Library>::with_defaults();
    let kinds: Vec<_> = registry.kinds().map(str::to_owned).collect();
    let settings = prop::collection::vec(setting(), 0..7);
    for_all((prop::sample::select(kinds), settings), |(kind, settings)| {
        let config = settings.into_iter().fold(Config::new(), |config, (key, value)| config.with(key, value));
        if let Ok(mut block) = registry.build(&kind, "b", &config) {
            // Sizes that no memory holds are refused here at the latest.
            block.load(&L::device()).ok();
        }
    });
}

/// A command line, say.
pub fn any_text_is_refused_or_settings<L: Learner>() {
    for_all("[ -~\\n]{0,40}", |text| {
        if let Ok(config) = text.parse::<Config>() {
            Registry::<L::Library>::with_defaults().build("ffn", "b", &config).ok();
        }
    });
}

/// A weights file, and the length of its header.
pub fn weights_that_were_written_over_are_refused_or_load<L: Learner>() {
    let tensors = [
        ("fc1.weight", vec![3, 2]),
        ("fc1.bias", vec![3]),
        ("fc2.weight", vec![2, 3]),
        ("fc2.bias", vec![2]),
    ];
    let tensors = tensors.map(|(name, dims)| (name.to_owned(), noise(&dims, 1))).into();
    for_all((damage(), prop::option::of(any::<u64>())), |(damage, length)| {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("weights.safetensors");
        write_weights(&file, &tensors);
        damage.to(&file, length);
        let ffn = Ffn { input: 2, hidden: 3, output: 2, activation: Activation::Relu };
        Block::<L::Library>::of("b", ffn).unwrap().with_weights(file).load(&L::device()).ok();
    });
}
