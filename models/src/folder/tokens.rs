//! How texts become tokens, by what the files of a folder say together.

use crate::description::{Counting, Description};
use crate::error::{ModelError, Result};
use crate::families::Family;
use crate::folder::claims;
use crate::folder::files::Folder;
use crate::folder::tokenizer::TokenizerFile;
use crate::folder::tokenizer_config::TokenizerConfig;
use crate::folder::transformer::Transformer;
use crate::text::tokens::Tokens;
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokenizers::tokenizer::PostProcessor;
use tokenizers::{PostProcessorWrapper, Tokenizer};

const FILE: &str = "tokenizer.json";

/// Classes of tokenizers that put their own tokens around a text.
const WITH_TEMPLATE: [&str; 7] = [
    "BertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "RobertaTokenizer",
    "XLMRobertaTokenizer",
    "CamembertTokenizer",
    "MPNetTokenizer",
];

/// What else of the folder says something about tokens.
pub(crate) struct Asked<'a> {
    pub(crate) family: &'static Family,
    pub(crate) transformer: &'a Transformer,
    /// `pad_token_id` of `config.json`.
    pub(crate) pad: Option<u64>,
}

/// Reads the tokenizer, if the folder has one, and settles whether the model is told the types of tokens.
pub(crate) fn read(
    folder: &Folder,
    asked: &Asked<'_>,
    description: &mut Description,
    notes: &mut Vec<String>,
) -> Result<Option<Tokens>> {
    let config = TokenizerConfig::read(folder)?;
    let Some(mut file) = TokenizerFile::read(&folder.file(FILE))? else { return Ok(None) };
    if config.has_template && !asked.transformer.plain_text && !folder.ignores("chat_template") {
        return Err(ModelError::value(
            folder.file("tokenizer_config.json"),
            "chat_template",
            "there",
            "none: versions of sentence-transformers differ in whether texts go through it. If they do not, name \
             `chat_template` in `ReadOptions::ignored_keys`",
        ));
    }
    for claim in &config.claims {
        claims::check(&file, claim, &config)?;
    }
    if config.class.as_deref().is_some_and(|class| WITH_TEMPLATE.contains(&class)) && file.template.is_empty()
    {
        let expected =
            format!("the tokens that a {} puts around a text", config.class.as_deref().unwrap_or_default());
        return Err(file.invalid("post_processor", &file.part("post_processor"), expected));
    }
    if asked.transformer.lower_case {
        lower_case(&mut file);
    }
    let tokenizer = build(&mut file)?;
    check_vocabulary(folder, &file, &tokenizer, description)?;
    check_names(folder, &file, &config, &tokenizer)?;

    let named = config.named.iter().find(|(name, _)| *name == "pad_token");
    let pad = named.and_then(|(_, token)| tokenizer.token_to_id(token)).or(file.pad);
    let asked_for = asked.pad.and_then(|pad| u32::try_from(pad).ok());
    if let (Some(pad), Some(asked_for)) = (pad, asked_for)
        && pad != asked_for
    {
        let expected = format!("{asked_for}, the `pad_token_id` of config.json: is it another model's?");
        return Err(ModelError::value(&file.file, "padding", format!("token {pad}"), expected));
    }
    let counted = description.encoder.positions.as_ref().map(|positions| positions.counting);
    let pad = match counted {
        Some(Counting::AfterPadding { padding }) => padding,
        _ => pad.or(asked_for).unwrap_or(0),
    };
    let pad = if (pad as usize) < description.encoder.words.rows { pad } else { 0 };

    settle_types(&file, &config, asked, description)?;
    let mut tokenizer = tokenizer;
    let processor = tokenizer.get_post_processor().cloned();
    tokenizer.with_post_processor(None::<PostProcessorWrapper>);
    let around =
        [false, true].map(|pair| processor.as_ref().map_or(0, |processor| processor.added_tokens(pair)));
    let limit = limit(&config, asked, description, notes);
    if limit <= around[0] {
        let expected = format!("more than the {} that are put around a text", around[0]);
        return Err(ModelError::value(&file.file, "the most tokens of a text", limit, expected));
    }
    let cut_left = config.cut_left.or(file.cut_left).unwrap_or(false);
    Ok(Some(Tokens { tokenizer, processor, limit, cut_left, pad, pairs: file.pairs, around }))
}

/// The most tokens of a text: `max_seq_length` of the first module before `model_max_length` of the tokenizer, and no
/// more than there are positions.
fn limit(
    config: &TokenizerConfig,
    asked: &Asked<'_>,
    description: &Description,
    notes: &mut Vec<String>,
) -> usize {
    let positions = description.encoder.max_tokens;
    let said = asked.transformer.max_tokens.or(config.max_tokens);
    if let Some(said) = said.filter(|said| *said > positions) {
        notes.push(format!(
            "texts may have {said} tokens by the settings, and the model has {positions} positions"
        ));
    }
    said.map_or(positions, |said| said.min(positions))
}

/// Whether the block is given the types of tokens: as the class of the tokenizer does.
fn settle_types(
    file: &TokenizerFile,
    config: &TokenizerConfig,
    asked: &Asked<'_>,
    description: &mut Description,
) -> Result<()> {
    let rows = description.encoder.types.as_ref().map_or(0, |types| types.rows);
    let by_class = match config.class.as_deref() {
        Some("BertTokenizer" | "ElectraTokenizer") => true,
        // A generic one gives none unless its settings say so.
        Some("TokenizersBackend" | "PreTrainedTokenizer") => false,
        Some(class) if WITH_TEMPLATE.contains(&class) => false,
        _ => asked.family.token_types,
    };
    description.token_types = rows > 1 && config.token_types.unwrap_or(by_class);
    if description.token_types && file.largest_type as usize >= rows {
        let got = format!("tokens of type {}", file.largest_type);
        let expected = format!("types below {rows}, the model's `type_vocab_size`");
        return Err(ModelError::value(&file.file, "post_processor", got, expected));
    }
    Ok(())
}

/// Puts the library's own lowercasing before the normalizer, as an old `do_lower_case` asks.
fn lower_case(file: &mut TokenizerFile) {
    let old = file.part("normalizer");
    let lower = json!({"type": "Lowercase"});
    let is_lower = |value: &Value| value["type"] == "Lowercase";
    let parts = match (&old, old["normalizers"].as_array()) {
        (Value::Null, _) => vec![lower],
        (_, Some(parts)) if parts.iter().any(is_lower) => return,
        (_, Some(parts)) => std::iter::once(lower).chain(parts.iter().cloned()).collect(),
        (old, None) if is_lower(old) => return,
        (old, None) => vec![lower, old.clone()],
    };
    file.json.insert("normalizer".to_owned(), json!({"type": "Sequence", "normalizers": parts}));
}

/// Has the library build the tokenizer. It is not written for files from anybody: what it does in the face of one is
/// caught.
fn build(file: &mut TokenizerFile) -> Result<Tokenizer> {
    let json = Value::Object(std::mem::take(&mut file.json));
    let refused = |reason: String| ModelError::Tokenizer { file: file.file.clone(), reason };
    let bytes = serde_json::to_vec(&json).map_err(|error| refused(error.to_string()))?;
    // Parts of it are looked at again, all but the vocabulary.
    if let Value::Object(mut map) = json {
        map.remove("model");
        file.json = map;
    }
    let built = catch_unwind(AssertUnwindSafe(|| Tokenizer::from_bytes(&bytes)));
    let built = built.map_err(|_| refused("it makes the library panic".to_owned()))?;
    built.map_err(|error| refused(error.to_string()))
}

/// The tokenizer's ids are those of the model's vectors.
fn check_vocabulary(
    folder: &Folder,
    file: &TokenizerFile,
    tokenizer: &Tokenizer,
    description: &Description,
) -> Result<()> {
    let rows = description.encoder.words.rows;
    let vocabulary = tokenizer.get_vocab(true);
    if let Some((token, id)) =
        vocabulary.iter().filter(|(_, id)| **id as usize >= rows).min_by_key(|(_, id)| **id)
    {
        let expected = format!("an id below {rows}, the model's `vocab_size`: is it another model's?");
        return Err(ModelError::value(
            &file.file,
            format!("the token {token:?}"),
            format!("id {id}"),
            expected,
        ));
    }
    if vocabulary.len() < rows / 2 && !folder.ignores("vocab_size") {
        let expected = format!(
            "tokens for at least half of the {rows} ids of `vocab_size`: is it another model's? If not, name \
             `vocab_size` in `ReadOptions::ignored_keys`"
        );
        return Err(ModelError::value(
            &file.file,
            "model.vocab",
            format!("of {} tokens", vocabulary.len()),
            expected,
        ));
    }
    Ok(())
}

/// Tokens that are named beside the vocabulary are in it, with the ids that are named.
fn check_names(
    folder: &Folder,
    file: &TokenizerFile,
    config: &TokenizerConfig,
    tokenizer: &Tokenizer,
) -> Result<()> {
    for (token, id) in &file.template {
        if tokenizer.token_to_id(token) != Some(*id) {
            let got = format!("{token:?} with id {id}");
            let expected = match tokenizer.token_to_id(token) {
                Some(id) => format!("id {id}, which the vocabulary gives it"),
                None => "a token of the vocabulary".to_owned(),
            };
            return Err(ModelError::value(&file.file, "post_processor", got, expected));
        }
    }
    let added = file.part("added_tokens");
    for entry in added.as_array().into_iter().flatten() {
        let token = entry["content"].as_str().unwrap_or_default();
        if tokenizer.token_to_id(token).map(u64::from) != entry["id"].as_u64() {
            let got = format!("{token:?} with id {}", entry["id"]);
            return Err(ModelError::value(
                &file.file,
                "added_tokens",
                got,
                "the id that the library gives it",
            ));
        }
    }
    let beside = folder.file("tokenizer_config.json");
    let expected = "a token of tokenizer.json, with its id there";
    for (id, token) in &config.added {
        if tokenizer.token_to_id(token) != Some(*id) {
            let key = format!("added_tokens_decoder.{id}");
            return Err(ModelError::value(beside, key, format!("{token:?}"), expected));
        }
    }
    match config.named.iter().find(|(_, token)| tokenizer.token_to_id(token).is_none()) {
        Some((name, token)) => Err(ModelError::value(beside, *name, format!("{token:?}"), expected)),
        None => Ok(()),
    }
}
