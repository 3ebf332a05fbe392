//! Settings of any text and weights of any bytes: refused with an error, or a block. Never a panic.

use proptest::prelude::*;
use skep_backend_candle::blocks::{Activation, Ffn};
use skep_backend_candle::prelude::*;
use std::fs;

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
        1 => prop::sample::select(vec!["gelu", "relu", "nowhere"]).prop_map(str::to_owned),
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
        "seed",
        "weights",
    ];
    (
        prop_oneof![9 => prop::sample::select(keys.to_vec()).prop_map(str::to_owned), 1 => "[ -~]{0,8}"],
        value(),
    )
}

proptest! {
    #[test]
    fn a_block_of_any_settings_is_refused_or_loads(
        kind in prop::sample::select(vec!["ffn", "transformer", "nop", "nop_delay", "det_dropout", "bert"]),
        settings in prop::collection::vec(setting(), 0..7),
    ) {
        let config = settings.into_iter().fold(Config::new(), |config, (key, value)| config.with(key, value));
        if let Ok(mut block) = Registry::with_defaults().build(kind, "b", &config) {
            // Sizes that no memory holds are refused here at the latest.
            block.load(&CandleDevice::cpu()).ok();
        }
    }

    #[test]
    fn any_text_is_refused_or_settings(text in "[ -~\\n]{0,40}") {
        if let Ok(config) = text.parse::<Config>() {
            Registry::with_defaults().build("ffn", "b", &config).ok();
        }
    }

    #[test]
    fn weights_that_were_written_over_are_refused_or_load(
        at in any::<prop::sample::Index>(),
        over in prop::collection::vec(any::<u8>(), 0..24),
        length in prop::option::of(any::<u64>()),
        cut in any::<prop::sample::Index>(),
    ) {
        let tensors = [("fc1.weight", vec![3, 2]), ("fc1.bias", vec![3]), ("fc2.weight", vec![2, 3]), ("fc2.bias", vec![2])];
        let tensors = tensors.map(|(name, dims)| (name.to_owned(), crate::noise(&dims, 1)));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("weights.safetensors");
        skep_backend_candle::candle_core::safetensors::save(&tensors.into(), &file).unwrap();
        let mut bytes = fs::read(&file).unwrap();
        let at = at.index(bytes.len());
        let end = bytes.len().min(at + over.len());
        bytes[at..end].copy_from_slice(&over[..end - at]);
        if let Some(length) = length {
            bytes[..8].copy_from_slice(&length.to_le_bytes());
        }
        bytes.truncate(1 + cut.index(2 * bytes.len()));
        fs::write(&file, &bytes).unwrap();
        let ffn = Ffn { input: 2, hidden: 3, output: 2, activation: Activation::Relu };
        ffn.block("b").unwrap().with_weights(file).load(&CandleDevice::cpu()).ok();
    }
}
