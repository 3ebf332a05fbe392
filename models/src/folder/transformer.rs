//! The settings of sentence-transformers' first module.

use crate::error::Result;
use crate::folder::files::Folder;
use serde_json::json;

/// The names that the settings of the first module have had.
const TRANSFORMER: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// What the settings of the first module say about tokens.
#[derive(Debug, Default)]
pub(crate) struct Transformer {
    pub(crate) max_tokens: Option<usize>,
    pub(crate) lower_case: bool,
    /// Texts go in as they are, and through no template of a conversation.
    pub(crate) plain_text: bool,
}

/// Reads the settings of the first module, if there are any.
pub(crate) fn read(folder: &Folder, cross_encoder: bool) -> Result<Transformer> {
    let Some(name) = TRANSFORMER.iter().find(|name| folder.has(name)) else {
        return Ok(Transformer::default());
    };
    let mut settings = folder.settings(name, "the settings of the first module")?;
    let (task, output, method_output) = if cross_encoder {
        ("sequence-classification", "scores", "logits")
    } else {
        ("feature-extraction", "token_embeddings", "last_hidden_state")
    };
    settings.only("transformer_task", &[json!(task)])?;
    settings.only("module_output_name", &[json!(output)])?;
    let mut plain_text = false;
    if let Some(mut modalities) = settings.optional_inner("modality_config")? {
        modalities.only("text", &[json!({"method": "forward", "method_output_name": method_output})])?;
        modalities.finish()?;
        plain_text = true;
    }
    settings.only("processing_kwargs", &[json!({})])?;
    for key in
        ["model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs"]
    {
        settings.only(key, &[json!({})])?;
    }
    for key in ["query_length", "document_length", "query_expansion", "tokenizer_name_or_path"] {
        settings.only(key, &[])?;
    }
    settings.skip(&["unpad_inputs"]);
    let max_tokens = settings.optional_size("max_seq_length")?;
    let lower_case = settings.flag_or("do_lower_case", false)?;
    settings.finish()?;
    Ok(Transformer { max_tokens, lower_case, plain_text })
}
