//! A text's tokens, to be looked at.

use crate::text::error::Result;
use crate::text::tokens::{Question, Tokens, TooLong, guarded};

/// One token of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its number in the vocabulary.
    pub id: u32,
    /// How the vocabulary writes it.
    pub text: String,
    /// Set if it stands for no part of a text.
    pub special: bool,
    /// The characters (Unicode scalar values) of the text at which it begins and ends; `None` for those that are put
    /// around it.
    pub characters: Option<(usize, usize)>,
}

impl Tokens {
    /// Returns the tokens of a text, as many as there are, with those that are put around it if `around` asks for them.
    ///
    /// # Errors
    ///
    /// Returns [`TextError::Tokenizer`](crate::TextError::Tokenizer) if the tokenizer cannot take the text apart, and
    /// [`TextError::NoTokens`](crate::TextError::NoTokens) if nothing comes of it.
    pub fn pieces(&self, text: &str, around: bool) -> Result<Vec<Piece>> {
        let added = self.tokenizer.get_added_vocabulary();
        let piece = |id: u32, characters: Option<(usize, usize)>| {
            let text = self.tokenizer.id_to_token(id).unwrap_or_default();
            let special = characters.is_none() || added.is_special_token(&text);
            Piece { id, text, special, characters }
        };
        if around {
            let asked = Question { prompt: "", text, pair: None };
            let encoded = self.encode_whole(asked)?;
            return Ok(encoded.ids.iter().zip(encoded.places).map(|(id, place)| piece(*id, place)).collect());
        }
        let encoding = guarded(|| self.tokenizer.encode_char_offsets(text, false))?;
        let tokens = encoding.get_ids().iter().zip(encoding.get_offsets());
        Ok(tokens.map(|(id, place)| piece(*id, Some(*place))).collect())
    }

    /// The text with what is put around it, however long.
    fn encode_whole(&self, asked: Question<'_>) -> Result<crate::text::tokens::Encoded> {
        let limit = usize::MAX;
        self.encode_within(asked, TooLong::CutEnd, limit)
    }
}

#[cfg(test)]
mod tests {
    use crate::Model;

    #[test]
    fn tokens_stand_where_they_come_from() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/models/fixtures/bert_mean");
        let model = Model::read(folder).unwrap();
        let tokens = model.tokens().unwrap();
        let pieces = tokens.pieces("the cat", true).unwrap();
        let special: Vec<bool> = pieces.iter().map(|piece| piece.special).collect();
        assert_eq!(special, [true, false, false, true]);
        assert_eq!((pieces[1].text.as_str(), pieces[1].characters), ("the", Some((0, 3))));
        assert_eq!((pieces[2].text.as_str(), pieces[2].characters), ("cat", Some((4, 7))));
        assert_eq!(tokens.pieces("the cat", false).unwrap(), pieces[1..3]);
        assert_eq!(tokens.pieces(&"cat ".repeat(100), true).unwrap().len(), 102, "nothing is cut");
    }
}
