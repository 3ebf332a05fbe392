//! `SentencePiece`'s table of replaced characters, checked before the library reads it: it takes the table's word for
//! how much memory to ask for, and follows offsets without looking.

/// Why a table cannot be used, if it cannot. `text` is base64.
pub(super) fn fault(text: &str) -> Option<&'static str> {
    let Some(bytes) = decode(text) else { return Some("not base64") };
    let Some((size, rest)) = bytes.split_first_chunk::<4>() else { return Some("too short") };
    let size = u32::from_le_bytes(*size) as usize;
    let units = size / 4;
    if rest.len() / 4 < units {
        return Some("shorter than it says");
    }
    let (trie, replaced) = rest.split_at(units * 4);
    let Ok(replaced) = std::str::from_utf8(replaced) else { return Some("not UTF-8 in what it replaces") };
    let trie: Vec<u32> = trie.as_chunks::<4>().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
    // The library looks at a unit, then at any of the 256 that its offset leads to.
    if trie.is_empty() || !trie.len().is_multiple_of(256) {
        return Some("not a whole number of blocks of 256 units");
    }
    for (place, &unit) in trie.iter().enumerate() {
        let unit = unit as usize;
        let offset = (unit >> 10) << ((unit & (1 << 9)) >> 6);
        let next = place ^ offset;
        let leads_out = next >= trie.len();
        let is_leaf = unit >> 31 == 1;
        if !is_leaf && leads_out {
            return Some("with offsets beyond its end");
        }
        if !is_leaf && (unit >> 8) & 1 == 1 {
            let value = (trie[next] & 0x7fff_ffff) as usize;
            if !replaced.is_char_boundary(value) {
                return Some("with replacements beyond its end");
            }
        }
    }
    None
}

/// The bytes of a text in base64; `None` if it is none.
fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let last = text.len() / 4;
    for (i, four) in text.as_chunks::<4>().0.iter().enumerate() {
        let padding = four.iter().rev().take_while(|byte| **byte == b'=').count();
        if padding > 2 || (padding > 0 && i + 1 != last) {
            return None;
        }
        let mut bits = 0;
        for &byte in &four[..4 - padding] {
            bits = bits << 6 | u32::from(digit(byte)?);
        }
        bits <<= 6 * padding;
        bytes.extend(&bits.to_be_bytes()[1..4 - padding]);
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded() {
        assert_eq!(decode("").unwrap(), b"");
        assert_eq!(decode("aGVsbG8=").unwrap(), b"hello");
        assert_eq!(decode("aGVsbG8h").unwrap(), b"hello!");
        assert_eq!(decode("aA==").unwrap(), b"h");
        for wrong in ["a", "aGV$", "a===", "aA==aGVs", "===="] {
            assert!(decode(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_table_that_asks_for_too_much_is_refused() {
        // 4 GiB of units in eight bytes.
        assert_eq!(fault("/////wAAAAA="), Some("shorter than it says"));
        assert_eq!(fault("AAAAAA=="), Some("not a whole number of blocks of 256 units"));
    }
}
