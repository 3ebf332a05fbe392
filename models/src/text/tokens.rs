//! Texts as tokens: how many, cut where, with what around them.

use crate::text::error::TextError;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokenizers::tokenizer::PostProcessor;
use tokenizers::{Encoding, PostProcessorWrapper, Tokenizer, TruncationDirection, TruncationParams};

/// The tokenizer of a model, and the limits of its texts.
#[derive(Debug)]
pub struct Tokens {
    /// Without what is put around texts: that happens after they are cut.
    pub(crate) tokenizer: Tokenizer,
    pub(crate) processor: Option<PostProcessorWrapper>,
    /// The most tokens of a text, with those that are put around it.
    pub(crate) limit: usize,
    pub(crate) cut_left: bool,
    pub(crate) pad: u32,
    pub(crate) pairs: bool,
    /// How many tokens are put around one text, and around two.
    pub(crate) around: [usize; 2],
}

impl Tokens {
    /// Returns the most tokens of a text, with those that are put around it: what is longer is cut, or refused.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Returns the id that stands where there is no token.
    pub fn padding(&self) -> u32 {
        self.pad
    }

    /// Reports if texts that are too long lose their beginnings, and not their ends.
    pub fn cuts_left(&self) -> bool {
        self.cut_left
    }
}

/// One text, or one pair, as tokens.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    pub(crate) ids: Vec<u32>,
    pub(crate) types: Vec<u32>,
    /// Where each token's characters begin and end in its text; `None` for tokens of the prompt, and for those that
    /// are put around texts.
    pub(crate) places: Vec<Option<(usize, usize)>>,
    /// How many tokens of the text were left out.
    pub(crate) left_out: usize,
}

/// A part of a long text.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) encoded: Encoded,
    /// Where its characters begin and end in the text.
    pub(crate) characters: (usize, usize),
}

/// What is asked about: a text, or a pair of texts, behind a prompt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) prompt: &'a str,
    pub(crate) text: &'a str,
    pub(crate) pair: Option<&'a str>,
}

/// The treatment of texts of more tokens than the model takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TooLong {
    /// Cuts where the folder says, mostly at the end, as the model's own library does. The answer says how many tokens
    /// that cost.
    #[default]
    Cut,
    /// Cuts the ends off.
    CutEnd,
    /// Cuts the beginnings off, behind the prompt.
    CutStart,
    /// Refuses the text.
    Refuse,
}

type Result<T> = std::result::Result<T, TextError>;

impl Tokens {
    /// Counts the tokens of a text, those around it included, before it is cut.
    ///
    /// # Errors
    ///
    /// Returns [`TextError::Tokenizer`] if the tokenizer cannot take the text apart.
    pub fn count(&self, text: &str) -> Result<usize> {
        Ok(self.take_apart(text)?.len() + self.around[0])
    }

    /// Makes tokens of a text, or of a pair, cut as asked.
    pub(crate) fn encode(&self, asked: Question<'_>, too_long: TooLong) -> Result<Encoded> {
        self.encode_within(asked, too_long, self.limit)
    }

    /// Makes tokens of a text, or of a pair, cut as asked where there are more than `limit`.
    pub(crate) fn encode_within(
        &self,
        asked: Question<'_>,
        too_long: TooLong,
        limit: usize,
    ) -> Result<Encoded> {
        let (mut first, second) = self.apart(asked)?;
        let around = self.around[usize::from(second.is_some())];
        let whole = first.len() + second.as_ref().map_or(0, Encoding::len);
        let room = limit.saturating_sub(around);
        if whole > room && too_long == TooLong::Refuse {
            return Err(TextError::TooLong { tokens: whole + around, limit });
        }
        let direction = match too_long {
            TooLong::CutStart => TruncationDirection::Left,
            TooLong::Cut if self.cut_left => TruncationDirection::Left,
            _ => TruncationDirection::Right,
        };
        let mut prompt = None;
        if whole > room && too_long == TooLong::CutStart && !asked.prompt.is_empty() {
            let (before, rest) = split(first, asked.prompt)?;
            (prompt, first) = (Some(before), rest);
        }
        let kept = prompt.as_ref().map_or(0, Encoding::len);
        let room = room.checked_sub(kept).filter(|room| kept == 0 || *room > 0);
        let room = room.ok_or(TextError::NoRoom { taken: kept + around, limit })?;
        let params = TruncationParams { max_length: room, direction, ..TruncationParams::default() };
        let (first, second) = guarded(|| tokenizers::truncate_encodings(first, second, &params))?;
        let left_out = (whole - kept).saturating_sub(room);
        self.put_around(prompt, first, second, asked.prompt.chars().count(), left_out)
    }

    /// Makes tokens of a text in parts that fit, each beginning `overlap` tokens before the end of the one before. Of a
    /// pair, the second text is in parts and the first stands whole in each of them, as the prompt does.
    pub(crate) fn windows(&self, asked: Question<'_>, overlap: usize) -> Result<Vec<Part>> {
        let (first, second) = self.apart(asked)?;
        let around = self.around[usize::from(second.is_some())];
        let (kept, mut long) = match second {
            Some(second) => (Some(first), second),
            None if asked.prompt.is_empty() => (None, first),
            None => {
                let (prompt, text) = split(first, asked.prompt)?;
                (Some(prompt), text)
            }
        };
        let taken = around + kept.as_ref().map_or(0, Encoding::len);
        let room = self.limit.checked_sub(taken).filter(|room| *room > 0);
        let room = room.ok_or(TextError::NoRoom { taken, limit: self.limit })?;
        if overlap >= room {
            return Err(TextError::Overlap { overlap, room });
        }
        let parts = guarded(|| {
            long.truncate(room, overlap, TruncationDirection::Right);
            Ok(long.take_overflowing())
        })?;
        let before = if asked.pair.is_some() { 0 } else { asked.prompt.chars().count() };
        let parts = std::iter::once(long).chain(parts).map(|part| {
            let start = part.get_offsets().iter().map(|place| place.0).min().unwrap_or(before);
            let end = part.get_offsets().iter().map(|place| place.1).max().unwrap_or(before);
            let encoded = match (asked.pair, kept.clone()) {
                (Some(_), Some(first)) => self.put_around(None, first, Some(part), 0, 0),
                (_, prompt) => self.put_around(prompt, part, None, before, 0),
            };
            Ok(Part {
                encoded: encoded?,
                characters: (start.saturating_sub(before), end.saturating_sub(before)),
            })
        });
        parts.collect()
    }

    /// Counts the tokens of a prompt before the text: those put before it are its own, one put after it is not.
    pub(crate) fn prompt_length(&self, prompt: &str) -> Result<usize> {
        let encoded = self.encode(Question { prompt: "", text: prompt, pair: None }, TooLong::CutEnd)?;
        let added = self.tokenizer.get_added_vocabulary();
        let last = encoded.ids.last().and_then(|id| added.simple_id_to_token(*id));
        let ends_in_special = last.is_some_and(|token| added.is_special_token(&token));
        Ok(encoded.ids.len() - usize::from(ends_in_special))
    }

    /// Both texts without what is put around them, the first behind the prompt.
    fn apart(&self, asked: Question<'_>) -> Result<(Encoding, Option<Encoding>)> {
        if asked.pair.is_some() && !self.pairs {
            return Err(TextError::NoPairs);
        }
        let first = match asked.prompt {
            "" => self.take_apart(asked.text)?,
            prompt => self.take_apart(&format!("{prompt}{}", asked.text))?,
        };
        Ok((first, asked.pair.map(|pair| self.take_apart(pair)).transpose()?))
    }

    fn take_apart(&self, text: &str) -> Result<Encoding> {
        guarded(|| self.tokenizer.encode_char_offsets(text, false))
    }

    fn put_around(
        &self,
        prompt: Option<Encoding>,
        mut first: Encoding,
        mut second: Option<Encoding>,
        before: usize,
        left_out: usize,
    ) -> Result<Encoded> {
        // What was cut off would be put between tokens as well, each with each.
        first.take_overflowing();
        if let Some(second) = &mut second {
            second.take_overflowing();
        }
        let whole = guarded(|| {
            let first = match prompt {
                Some(prompt) => Encoding::merge([prompt, first], false),
                None => first,
            };
            match &self.processor {
                Some(processor) => processor.process(first, second, true),
                None => {
                    <dyn PostProcessor>::default_process(std::iter::once(first).chain(second).collect(), true)
                        .map(|parts| Encoding::merge(parts, false))
                }
            }
        })?;
        if whole.is_empty() {
            return Err(TextError::NoTokens);
        }
        // Characters of the prompt stand before those of the text.
        let place = |(offsets, special): (&(usize, usize), &u32)| match *offsets {
            _ if *special == 1 => None,
            (_, end) if before > 0 && end <= before => None,
            (start, end) => Some((start.saturating_sub(before), end - before)),
        };
        Ok(Encoded {
            ids: whole.get_ids().to_vec(),
            types: whole.get_type_ids().to_vec(),
            places: whole.get_offsets().iter().zip(whole.get_special_tokens_mask()).map(place).collect(),
            left_out,
        })
    }
}

/// The tokens of a prompt, and those of the text behind it. A token that has characters of both is the text's.
fn split(whole: Encoding, prompt: &str) -> Result<(Encoding, Encoding)> {
    let characters = prompt.chars().count();
    let own = whole.get_offsets().iter().position(|(_, end)| *end > characters);
    let prompts = own.unwrap_or(whole.len());
    guarded(|| {
        let (mut prompt, mut text) = (whole.clone(), whole);
        let length = text.len();
        prompt.truncate(prompts, 0, TruncationDirection::Right);
        text.truncate(length - prompts, 0, TruncationDirection::Left);
        prompt.take_overflowing();
        text.take_overflowing();
        Ok((prompt, text))
    })
}

/// The library is not written for files from anybody: what it does in the face of one is caught.
pub(crate) fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(source)) => Err(TextError::Tokenizer { reason: source.to_string() }),
        Err(_) => Err(TextError::Tokenizer { reason: "the library panicked".to_owned() }),
    }
}
