//! Settings of any text and weights of any bytes: refused with an error, or a block. Never a panic.

use proptest::prelude::*;
use skep_backend_tch::blocks::{Activation, Ffn, TorchScript};
use skep_backend_tch::prelude::*;
use std::fs;
use std::path::Path;

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

proptest! {
    #[test]
    fn a_block_of_any_settings_is_refused_or_loads(
        kind in prop::sample::select(vec!["ffn", "transformer", "nop", "nop_delay", "det_dropout", "bert", "torch_script"]),
        settings in prop::collection::vec(setting(), 0..7),
    ) {
        let config = settings.into_iter().fold(Config::new(), |config, (key, value)| config.with(key, value));
        if let Ok(mut block) = Registry::with_defaults().build(kind, "b", &config) {
            // Sizes that no memory holds are refused here at the latest.
            block.load(&TchDevice::cpu()).ok();
        }
    }

    #[test]
    fn any_text_is_refused_or_settings(text in "[ -~\\n]{0,40}") {
        if let Ok(config) = text.parse::<Config>() {
            Registry::with_defaults().build("ffn", "b", &config).ok();
        }
    }

    #[test]
    fn weights_that_were_written_over_are_refused_or_load(damage in damage(), length in prop::option::of(any::<u64>())) {
        let tensors = [("fc1.weight", vec![3, 2]), ("fc1.bias", vec![3]), ("fc2.weight", vec![2, 3]), ("fc2.bias", vec![2])];
        let tensors = tensors.map(|(name, dims)| (name.to_owned(), crate::host_noise(&dims, 1)));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("weights.safetensors");
        crate::write_weights(&file, &tensors.into());
        damage.to(&file, length);
        let ffn = Ffn { input: 2, hidden: 3, output: 2, activation: Activation::Relu };
        ffn.block("b").unwrap().with_weights(file).load(&TchDevice::cpu()).ok();
    }

    #[test]
    fn a_script_that_was_written_over_is_refused_or_loads(damage in damage()) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("block.pt");
        let scale = crate::tensor(&[2], &[1.0, 2.0]);
        TorchScript::save(&file, "def forward(self, x):\n    return x * self.scale\n", &[("scale", scale, true)]).unwrap();
        damage.to(&file, None);
        let inputs = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[2])]).unwrap();
        let mut block = TorchScript { file, inputs }.block("b");
        if block.load(&TchDevice::cpu()).is_ok() {
            block.forward(&[crate::tensor(&[1, 2], &[3.0, 4.0])]).ok();
        }
    }
}

/// A file that another process, or a disk, has written over and cut.
#[derive(Clone, Debug)]
struct Damage {
    at: prop::sample::Index,
    over: Vec<u8>,
    cut: prop::sample::Index,
}

fn damage() -> impl Strategy<Value = Damage> {
    let over = prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..24),
        // What a number may become in a text.
        1 => "[0-9,.:e\\[\\]{}\"-]{1,12}".prop_map(String::into_bytes),
    ];
    (any::<prop::sample::Index>(), over, any::<prop::sample::Index>()).prop_map(|(at, over, cut)| Damage {
        at,
        over,
        cut,
    })
}

impl Damage {
    /// `length` stands in the first eight bytes of a weights file.
    fn to(&self, file: &Path, length: Option<u64>) {
        let mut bytes = fs::read(file).unwrap();
        let at = self.at.index(bytes.len());
        let end = bytes.len().min(at + self.over.len());
        bytes[at..end].copy_from_slice(&self.over[..end - at]);
        if let Some(length) = length {
            bytes[..8].copy_from_slice(&length.to_le_bytes());
        }
        bytes.truncate(1 + self.cut.index(4 * bytes.len()));
        fs::write(file, &bytes).unwrap();
    }
}

#[cfg(feature = "bert")]
mod bert {
    use super::*;
    use crate::bert::{CONFIG, weights, write};
    use skep_backend_tch::blocks::Bert;

    /// Loads the model, and runs it where that is possible.
    fn try_all(directory: &Path) {
        let Ok(mut block) = (Bert { directory: directory.to_owned() }).block("b") else { return };
        if block.load(&TchDevice::cpu()).is_ok() {
            let row = || crate::ids(&[1, 1], &[1]);
            block.forward(&[row(), row()]).ok();
        }
    }

    proptest! {
        #[test]
        fn a_model_with_any_size_is_refused_or_loads(line in 0usize..9, value in value()) {
            let keys = ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
                "hidden_act", "max_position_embeddings", "type_vocab_size", "layer_norm_eps"];
            let mut config: serde_json::Value = serde_json::from_str(CONFIG).unwrap();
            config[keys[line]] = serde_json::from_str(&value).unwrap_or(value.into());
            let directory = tempfile::tempdir().unwrap();
            write(directory.path(), &config.to_string(), &weights(""));
            try_all(directory.path());
        }

        #[test]
        fn a_model_that_was_written_over_is_refused_or_loads(damage in damage(), which in any::<bool>()) {
            let directory = tempfile::tempdir().unwrap();
            write(directory.path(), CONFIG, &weights(""));
            let file = if which { "config.json" } else { "model.safetensors" };
            damage.to(&directory.path().join(file), None);
            try_all(directory.path());
        }
    }
}
