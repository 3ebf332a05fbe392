//! What the `config.json`s of all families share.

use crate::description::Activation;
use crate::error::Result;
use crate::folder::settings::{MAX_SIZE, Settings};
use serde_json::{Value, json};

/// Keys of `transformers` that are about training, generating, saving or returning, and about nothing that a forward
/// pass of an encoder computes.
const WITHOUT_INFLUENCE: &[&str] = &[
    "_attn_implementation_autoset",
    "_attn_implementation_internal",
    "_commit_hash",
    "_name_or_path",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "cls_token_id",
    "decoder_start_token_id",
    "directionality",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "hidden_dropout_prob",
    "initializer_range",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "prefix",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "summary_activation",
    "summary_first_dropout",
    "summary_last_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "transformers.js_config",
    "typical_p",
    "use_bfloat16",
    "use_cache",
];

/// Takes what has no influence, and refuses what changes a forward pass in a way that no family here has.
pub(crate) fn read(config: &mut Settings) -> Result<()> {
    config.skip(WITHOUT_INFLUENCE);
    let off = [json!(false)];
    // Code that comes with the folder computes something else.
    config.only("auto_map", &[])?;
    config.only("is_decoder", &off)?;
    config.only("add_cross_attention", &off)?;
    config.only("is_encoder_decoder", &off)?;
    config.only("cross_attention_hidden_size", &[])?;
    config.only("quantization_config", &[])?;
    config.only("pruned_heads", &[json!({})])?;
    config.only("position_embedding_type", &[json!("absolute")])
}

/// The activation that `transformers` calls so.
pub(crate) fn activation(config: &mut Settings, key: &str, default: &str) -> Result<Activation> {
    let name = config.optional_text(key)?.unwrap_or_else(|| default.to_owned());
    Ok(match name.as_str() {
        "gelu" | "gelu_python" => Activation::Gelu,
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_accurate" => {
            Activation::GeluTanh
        }
        "quick_gelu" => Activation::QuickGelu,
        "relu" => Activation::Relu,
        "silu" | "swish" => Activation::Silu,
        "tanh" => Activation::Tanh,
        "sigmoid" => Activation::Sigmoid,
        "linear" => Activation::Identity,
        _ => {
            let expected = "one of gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, quick_gelu, relu, silu, swish, \
                            tanh, sigmoid, linear";
            return Err(config.invalid(key, &Value::String(name), expected));
        }
    })
}

/// Numbers of a head, of a size that is divided among heads.
pub(crate) fn head_size(config: &Settings, size: usize, key: &str, heads: usize) -> Result<usize> {
    if size.is_multiple_of(heads) {
        return Ok(size / heads);
    }
    Err(config.invalid(key, &json!(heads), format!("a divisor of the hidden size, {size}")))
}

/// The base of rotary embeddings: `rope_parameters` of transformers 5, or `rope_theta` and `rope_scaling` before.
pub(crate) fn rope_theta(config: &mut Settings, default: f64) -> Result<f64> {
    let old = config.optional_number("rope_theta")?;
    config.only("rope_scaling", &[json!({"rope_type": "default"}), json!({"type": "default"})])?;
    let new = match config.optional_inner("rope_parameters")? {
        Some(parameters) => Some(rope_of(parameters, default)?),
        None => None,
    };
    Ok(new.or(old).unwrap_or(default))
}

/// The base in one set of `rope_parameters`.
pub(crate) fn rope_of(mut parameters: Settings, default: f64) -> Result<f64> {
    parameters.only("rope_type", &[json!("default")])?;
    parameters.only("type", &[json!("default")])?;
    parameters.only("partial_rotary_factor", &[json!(1.0), json!(1)])?;
    let theta = parameters.optional_number("rope_theta")?;
    parameters.finish()?;
    Ok(theta.unwrap_or(default))
}

/// Rotary embeddings turn one half of a head against the other.
pub(crate) fn even_head(config: &Settings, key: &str, head_size: usize) -> Result<()> {
    if head_size.is_multiple_of(2) {
        return Ok(());
    }
    Err(config.invalid(key, &json!(head_size), "heads of an even size, whose halves are turned"))
}

/// Sizes that are multiplied before they are compared with a file.
pub(crate) fn check_product(config: &Settings, key: &str, head_size: usize, heads: usize) -> Result<()> {
    if head_size.checked_mul(heads).is_some_and(|size| size <= MAX_SIZE) {
        return Ok(());
    }
    Err(config.invalid(key, &json!(head_size), format!("at most {MAX_SIZE} numbers in {heads} heads")))
}
