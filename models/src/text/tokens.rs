//! How texts become tokens: what the folder says of it, checked, and how long a text may be.

use crate::description::{Counting, Description};
use crate::error::{ModelError, Result};
use crate::families::Family;
use crate::folder::files::Folder;
use crate::folder::modules::Transformer;
use crate::folder::tokenizer::TokenizerFile;
use crate::folder::tokenizer_config::{Claim, TokenizerConfig};
use crate::text::error::TextError;
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokenizers::tokenizer::PostProcessor;
use tokenizers::{Encoding, PostProcessorWrapper, Tokenizer, TruncationDirection, TruncationParams};

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

/// How texts become tokens.
#[derive(Debug)]
pub struct Tokens {
    /// Without what is put around texts: that happens after they are cut.
    tokenizer: Tokenizer,
    processor: Option<PostProcessorWrapper>,
    /// The most tokens of a text, with those that are put around it.
    pub(crate) limit: usize,
    pub(crate) cut_left: bool,
    pub(crate) pad: u32,
    pub(crate) pairs: bool,
    /// How many tokens are put around one text, and around two.
    pub(crate) around: [usize; 2],
}

/// What else of the folder says something about tokens.
pub(crate) struct Asked<'a> {
    pub(crate) family: &'static Family,
    pub(crate) transformer: &'a Transformer,
    /// `pad_token_id` of `config.json`.
    pub(crate) pad: Option<u64>,
}

impl Tokens {
    /// The most tokens of a text, with those that are put around it: what is longer is cut, or refused.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The id that stands where there is no token.
    pub fn padding(&self) -> u32 {
        self.pad
    }

    /// Whether texts that are too long lose their beginnings, and not their ends.
    pub fn cuts_left(&self) -> bool {
        self.cut_left
    }

    /// Reads the tokenizer, if the folder has one, and settles whether the model is told the types of tokens.
    pub(crate) fn read(
        folder: &Folder,
        asked: &Asked<'_>,
        description: &mut Description,
        notes: &mut Vec<String>,
    ) -> Result<Option<Self>> {
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
            check_claim(&file, claim, &config)?;
        }
        if config.class.as_deref().is_some_and(|class| WITH_TEMPLATE.contains(&class))
            && file.template.is_empty()
        {
            let expected = format!(
                "the tokens that a {} puts around a text",
                config.class.as_deref().unwrap_or_default()
            );
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
        Ok(Some(Self { tokenizer, processor, limit, cut_left, pad, pairs: file.pairs, around }))
    }
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

/// Where both files say how texts are taken apart, they say the same: one version of the library goes by one, and one
/// by the other.
fn check_claim(file: &TokenizerFile, claim: &Claim, config: &TokenizerConfig) -> Result<()> {
    let (path, key, part) = match claim.key {
        "do_lower_case" => ("normalizer", "lowercase", "BertNormalizer"),
        "strip_accents" => ("normalizer", "strip_accents", "BertNormalizer"),
        "tokenize_chinese_chars" => ("normalizer", "handle_chinese_chars", "BertNormalizer"),
        "add_prefix_space" => ("pre_tokenizer", "add_prefix_space", "ByteLevel"),
        "trim_offsets" => ("post_processor", "trim_offsets", "RobertaProcessing"),
        "add_bos_token" | "add_eos_token" => return check_ends(file, claim, config),
        _ => return Ok(()),
    };
    let root = file.part(path);
    let Some(found) = find(&root, part) else {
        if claim.key == "add_prefix_space"
            && let Some(space) = find(&root, "Metaspace")
        {
            let scheme = if claim.value == json!(true) { "never" } else { "always" };
            if space["prepend_scheme"] == scheme {
                return Err(file.invalid(
                    &format!("{path}.prepend_scheme"),
                    &space["prepend_scheme"],
                    says(claim),
                ));
            }
        }
        return Ok(());
    };
    if found[key] == claim.value {
        return Ok(());
    }
    Err(file.invalid(&format!("{path}.{key}"), &found[key], says(claim)))
}

fn says(claim: &Claim) -> String {
    format!("what tokenizer_config.json says: `{}` is {}", claim.key, claim.value)
}

/// Asked to put a token at an end, the library makes a template of its own.
fn check_ends(file: &TokenizerFile, claim: &Claim, config: &TokenizerConfig) -> Result<()> {
    let name = if claim.key == "add_bos_token" { "bos_token" } else { "eos_token" };
    let token = config.named.iter().find(|(named, _)| *named == name).map(|(_, token)| token);
    match token {
        Some(token) if claim.value == json!(true) && !file.template.contains_key(token) => {
            let expected = format!("{token:?} at an end of the text, as {}", says(claim));
            Err(file.invalid("post_processor", &file.part("post_processor"), expected))
        }
        _ => Ok(()),
    }
}

/// The first part of this type, in a part and in those in it.
fn find<'a>(value: &'a Value, kind: &str) -> Option<&'a Value> {
    if value["type"] == kind {
        return Some(value);
    }
    let lists = ["normalizers", "pretokenizers", "processors"];
    let mut parts = lists.iter().filter_map(|list| value[*list].as_array()).flatten();
    parts.find_map(|part| find(part, kind))
}

/// One text, or one pair, as tokens.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    pub(crate) ids: Vec<u32>,
    pub(crate) types: Vec<u32>,
    /// Where each token's characters begin and end in its text.
    pub(crate) places: Vec<(usize, usize)>,
    /// Whether a token was put around the text.
    pub(crate) around: Vec<bool>,
    /// How many tokens of the text were left out.
    pub(crate) left_out: usize,
}

/// What is done with texts of more tokens than the model takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TooLong {
    /// They are cut where the folder says, mostly at their ends. How many tokens that costs stands in the answer.
    #[default]
    Cut,
    /// They lose their ends.
    CutEnd,
    /// They lose their beginnings.
    CutStart,
    /// They are refused.
    Refuse,
}

impl Tokens {
    /// How many tokens a text has, those around it included, before it is cut.
    ///
    /// # Errors
    ///
    /// The tokenizer cannot take it apart.
    pub fn count(&self, text: &str) -> std::result::Result<usize, TextError> {
        Ok(self.take_apart(text)?.len() + self.around[0])
    }

    /// A text, or a pair of texts, cut as asked.
    pub(crate) fn encode(
        &self,
        text: &str,
        pair: Option<&str>,
        too_long: TooLong,
    ) -> std::result::Result<Encoded, TextError> {
        if pair.is_some() && !self.pairs {
            return Err(TextError::NoPairs);
        }
        let first = self.take_apart(text)?;
        let second = pair.map(|pair| self.take_apart(pair)).transpose()?;
        let around = self.around[usize::from(second.is_some())];
        let whole = first.len() + second.as_ref().map_or(0, Encoding::len);
        let room = self.limit.saturating_sub(around);
        if whole > room && too_long == TooLong::Refuse {
            return Err(TextError::TooLong { tokens: whole + around, limit: self.limit });
        }
        let direction = match too_long {
            TooLong::CutStart => TruncationDirection::Left,
            TooLong::Cut if self.cut_left => TruncationDirection::Left,
            _ => TruncationDirection::Right,
        };
        let params = TruncationParams { max_length: room, direction, ..TruncationParams::default() };
        let cut = guarded(|| tokenizers::truncate_encodings(first, second, &params))?;
        let encoded = self.put_around(cut.0, cut.1, whole.saturating_sub(room))?;
        if encoded.ids.is_empty() {
            return Err(TextError::NoTokens);
        }
        Ok(encoded)
    }

    /// A text in parts that fit, each beginning `overlap` tokens before the end of the one before.
    pub(crate) fn windows(&self, text: &str, overlap: usize) -> std::result::Result<Vec<Encoded>, TextError> {
        let room = self.limit.saturating_sub(self.around[0]);
        if overlap >= room {
            return Err(TextError::Overlap { overlap, room });
        }
        let mut first = self.take_apart(text)?;
        let parts = guarded(|| {
            first.truncate(room, overlap, TruncationDirection::Right);
            Ok(first.take_overflowing())
        })?;
        let parts = std::iter::once(first).chain(parts).map(|part| self.put_around(part, None, 0));
        let parts = parts.collect::<std::result::Result<Vec<_>, _>>()?;
        if parts.iter().any(|part| part.ids.is_empty()) { Err(TextError::NoTokens) } else { Ok(parts) }
    }

    /// How many tokens a prompt has before the text: those put before it are its own, one put after it is not.
    pub(crate) fn prompt_length(&self, prompt: &str) -> std::result::Result<usize, TextError> {
        let encoded = self.encode(prompt, None, TooLong::CutEnd)?;
        let added = self.tokenizer.get_added_vocabulary();
        let last = encoded.ids.last().and_then(|id| added.simple_id_to_token(*id));
        let ends_in_special = last.is_some_and(|token| added.is_special_token(&token));
        Ok(encoded.ids.len() - usize::from(ends_in_special))
    }

    fn take_apart(&self, text: &str) -> std::result::Result<Encoding, TextError> {
        guarded(|| self.tokenizer.encode_char_offsets(text, false))
    }

    fn put_around(
        &self,
        mut first: Encoding,
        mut second: Option<Encoding>,
        left_out: usize,
    ) -> std::result::Result<Encoded, TextError> {
        // What was cut off would be put between tokens as well, each with each.
        first.take_overflowing();
        if let Some(second) = &mut second {
            second.take_overflowing();
        }
        let whole = guarded(|| match &self.processor {
            Some(processor) => processor.process(first, second, true),
            None => {
                <dyn PostProcessor>::default_process(std::iter::once(first).chain(second).collect(), true)
                    .map(|parts| Encoding::merge(parts, false))
            }
        })?;
        Ok(Encoded {
            ids: whole.get_ids().to_vec(),
            types: whole.get_type_ids().to_vec(),
            places: whole.get_offsets().to_vec(),
            around: whole.get_special_tokens_mask().iter().map(|special| *special == 1).collect(),
            left_out,
        })
    }
}

/// The library is not written for files from anybody: what it does in the face of one is caught.
fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> std::result::Result<T, TextError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(source)) => Err(TextError::Tokenizer { reason: source.to_string() }),
        Err(_) => Err(TextError::Tokenizer { reason: "the library panicked".to_owned() }),
    }
}
