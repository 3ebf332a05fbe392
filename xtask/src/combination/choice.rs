//! One backend or device, or all of them, by name.

use clap::ValueEnum;

/// One value, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice<T> {
    One(T),
    All,
}

impl<T: PartialEq> Choice<T> {
    pub(crate) fn covers(&self, value: &T) -> bool {
        match self {
            Self::One(one) => one == value,
            Self::All => true,
        }
    }
}

/// Reads a value's name, or `all`; the error lists the names.
pub(crate) fn choice<T: ValueEnum>(text: &str) -> Result<Choice<T>, String> {
    if text == "all" {
        return Ok(Choice::All);
    }
    one(text).map(Choice::One).map_err(|error| error + ", all")
}

/// Reads a value's name; the error lists the names.
pub(crate) fn one<T: ValueEnum>(text: &str) -> Result<T, String> {
    T::from_str(text, false).map_err(|_| {
        let names: Vec<_> = T::value_variants().iter().map(name).collect();
        format!("not one of {}", names.join(", "))
    })
}

/// A value's name on the command line and in tables.
pub(crate) fn name<T: ValueEnum>(value: &T) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
