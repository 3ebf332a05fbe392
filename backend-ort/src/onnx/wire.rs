//! Protocol buffers, as far as ONNX files need them: fields one after the other, each with a number and a value.

/// The value of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64,
    Bytes(&'a [u8]),
    Fixed32,
}

/// A message that ends in the middle of a field, or begins a field that no message has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a whole message")]
pub(super) struct Torn;

/// The fields of a message, in order.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Torn>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, Value<'a>), Torn> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed64)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Torn)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed32)?,
            _ => return Err(Torn),
        };
        if key >> 3 == 0 { Err(Torn) } else { Ok((key >> 3, value)) }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Torn> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Torn)?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Torn> {
        varint(&mut self.0)
    }
}

/// Takes a number off the front.
pub(super) fn varint(bytes: &mut &[u8]) -> Result<u64, Torn> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(Torn)?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Torn)
}

/// A message that is written.
#[derive(Clone, Debug, Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    fn put(&mut self, mut number: u64) {
        while number >= 0x80 {
            #[expect(clippy::cast_possible_truncation, reason = "seven bits")]
            self.0.push(number as u8 & 0x7f | 0x80);
            number >>= 7;
        }
        #[expect(clippy::cast_possible_truncation, reason = "below 128")]
        self.0.push(number as u8);
    }

    pub(super) fn number(&mut self, field: u64, number: i64) -> &mut Self {
        self.put(field << 3);
        self.put(number.cast_unsigned());
        self
    }

    pub(super) fn float(&mut self, field: u64, number: f32) -> &mut Self {
        self.put(field << 3 | 5);
        self.0.extend(number.to_le_bytes());
        self
    }

    pub(super) fn bytes(&mut self, field: u64, bytes: &[u8]) -> &mut Self {
        self.put(field << 3 | 2);
        self.put(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    pub(super) fn text(&mut self, field: u64, text: &str) -> &mut Self {
        self.bytes(field, text.as_bytes())
    }

    pub(super) fn message(&mut self, field: u64, message: &Self) -> &mut Self {
        self.bytes(field, &message.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut inner = Message::default();
        inner.number(1, 300).text(2, "hello");
        let mut outer = Message::default();
        outer.message(7, &inner).number(3, -1).float(2, 0.5);
        let fields: Vec<_> = Fields(&outer.0).collect::<Result<_, _>>().unwrap();
        assert_eq!(fields[1..], [(3, Value::Varint(u64::MAX)), (2, Value::Fixed32)]);
        let (7, Value::Bytes(inner)) = fields[0] else { panic!("{fields:?}") };
        let fields: Vec<_> = Fields(inner).collect::<Result<_, _>>().unwrap();
        assert_eq!(fields, [(1, Value::Varint(300)), (2, Value::Bytes(b"hello"))]);
    }

    #[test]
    fn what_is_cut_is_torn() {
        let mut message = Message::default();
        message.text(2, "hello").number(1, 1 << 40);
        for end in 1..message.0.len() {
            let whole = Fields(&message.0[..end]).all(|field| field.is_ok());
            assert_eq!(whole, end == 7, "{end}");
        }
        assert!(Fields(&[0xff; 20]).any(|field| field.is_err()));
    }
}
