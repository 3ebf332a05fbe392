//! Times and sizes as people write them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A time such as `5s`, `250ms` or `2m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Duration);

/// A number of bytes such as `64MiB`, `16KiB` or `1000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub usize);

const TIMES: [(&str, u64); 4] = [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000)];
const SIZES: [(&str, usize); 4] = [("", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// A whole number, and the unit behind it.
fn split(text: &str) -> (Option<u64>, &str) {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (text[..digits].parse().ok(), text[digits..].trim())
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text.trim());
        let micros = TIMES.iter().find(|(name, _)| *name == unit).map(|(_, micros)| *micros);
        let micros = number.zip(micros).and_then(|(number, micros)| number.checked_mul(micros));
        let micros =
            micros.ok_or_else(|| format!("`{text}` is no time, expected one like `5s`, `250ms` or `2m`"))?;
        Ok(Self(Duration::from_micros(micros)))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text.trim());
        let bytes = SIZES.iter().find(|(name, _)| *name == unit).map(|(_, bytes)| *bytes);
        let number = number.and_then(|number| usize::try_from(number).ok());
        let bytes = number.zip(bytes).and_then(|(number, bytes)| number.checked_mul(bytes));
        bytes.map(Self).ok_or_else(|| format!("`{text}` is no size, expected one like `64MiB` or `1000`"))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        let unit =
            TIMES.iter().rev().find(|(_, unit)| micros.is_multiple_of(u128::from(*unit)) && micros > 0);
        let (name, unit) = unit.copied().unwrap_or(("s", 1_000_000));
        write!(f, "{}{name}", micros / u128::from(unit))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZES.iter().rev().find(|(_, unit)| self.0.is_multiple_of(*unit) && self.0 > 0);
        let (name, unit) = unit.copied().unwrap_or(("", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
as_text!(Time);
as_text!(Size);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_as_they_are_written() {
        for text in ["5s", "250ms", "2m", "1us", "90s", "0s"] {
            assert_eq!(text.parse::<Time>().unwrap().to_string(), text);
        }
        for text in ["64MiB", "1000", "3KiB", "2GiB", "0"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        assert_eq!(
            "5".parse::<Time>().unwrap_err(),
            "`5` is no time, expected one like `5s`, `250ms` or `2m`"
        );
        assert!("99999999999999GiB".parse::<Size>().is_err() && "-1".parse::<Size>().is_err());
    }
}
