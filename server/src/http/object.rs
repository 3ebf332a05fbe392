//! JSON objects, and nothing else in their place: an array of an object's values would be read as the object otherwise.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// `T` out of an object.
#[derive(Debug, Default)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OfMap(PhantomData)).map(Self)
    }
}

struct OfMap<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OfMap<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    #[derive(Debug, serde::Deserialize)]
    struct Pair<'a> {
        name: String,
        #[serde(borrow)]
        data: &'a RawValue,
    }

    #[test]
    fn an_array_is_no_object() {
        let Object(pair) = serde_json::from_str::<Object<Pair<'_>>>(r#"{"name": "a", "data": [1]}"#).unwrap();
        assert_eq!((pair.name.as_str(), pair.data.get()), ("a", "[1]"));
        let error = serde_json::from_str::<Object<Pair<'_>>>(r#"["a", [1]]"#).unwrap_err().to_string();
        assert!(error.starts_with("invalid type: sequence, expected an object"), "{error}");
        assert!(serde_json::from_str::<Pair<'_>>(r#"["a", [1]]"#).is_ok(), "it would be one");
    }
}
