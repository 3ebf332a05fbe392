//! One inference, apart from the protocol that it came by.

use crate::caller::Caller;
use crate::model::Model;
use crate::problem::Problem;
use crate::settings::WhenFull;
use crate::tensor::coerce::coerce;
use crate::tensor::datatype::{self, Datatype};
use bytes::Bytes;
use skep_runtime_core::{HostTensor, Request};
use std::collections::BTreeMap;
use std::time::Duration;

/// A tensor as it came: little endian, row major.
pub(crate) struct Given {
    pub(crate) name: String,
    pub(crate) datatype: Datatype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Bytes,
}

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    Whole(i128),
    Real(f64),
    Text(String),
    /// Of a kind that no parameter of ours has.
    Other,
}

pub(crate) type Parameters = BTreeMap<String, Value>;

/// How many priorities a client can choose from: the runtime keeps an account of callers for each.
pub(crate) const PRIORITIES: u64 = 32;

/// What a client asks for besides the tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// 0 for the model's own, 1 for the most urgent.
    pub(crate) priority: u64,
    /// The time that the request may wait before it runs.
    pub(crate) timeout: Option<Duration>,
}

impl Wishes {
    /// Reads a request's parameters. Those that are nobody's are the model's own, and no model has any.
    pub(crate) fn read(parameters: &Parameters) -> Result<Self, Problem> {
        let mut wishes = Self::default();
        for (name, value) in parameters {
            match name.as_str() {
                "priority" => {
                    wishes.priority = whole(name, value)?;
                    if wishes.priority > PRIORITIES {
                        return Err(Problem::invalid(format!(
                            "parameter `priority` is {}, expected 0 to {PRIORITIES}",
                            wishes.priority
                        )));
                    }
                }
                "timeout" => {
                    let micros = whole(name, value)?;
                    wishes.timeout = (micros > 0).then(|| Duration::from_micros(micros));
                }
                "sequence_id"
                    if !matches!(value, Value::Whole(0)) && *value != Value::Text(String::new()) =>
                {
                    return Err(Problem::unsupported(
                        "sequences are not offered: each request stands for itself",
                    ));
                }
                "sequence_start" | "sequence_end" if *value != Value::Bool(false) => {
                    return Err(Problem::unsupported(
                        "sequences are not offered: each request stands for itself",
                    ));
                }
                _ => {}
            }
        }
        Ok(wishes)
    }
}

/// A parameter that is a whole number of 0 or more.
pub(crate) fn whole(name: &str, value: &Value) -> Result<u64, Problem> {
    let wrong = |got: String| {
        Problem::invalid(format!("parameter `{name}` is {got}, expected a whole number of 0 or more"))
    };
    match value {
        Value::Whole(value) => u64::try_from(*value).map_err(|_| wrong(value.to_string())),
        Value::Text(text) => text.parse().map_err(|_| wrong(format!("`{text}`"))),
        other => Err(wrong(format!("{other:?}"))),
    }
}

/// Refuses data that lies elsewhere.
pub(crate) fn refuse_shared_memory(parameters: &Parameters) -> Result<(), Problem> {
    if parameters.contains_key("shared_memory_region") {
        return Err(Problem::unsupported("shared memory is not offered: send the tensors themselves"));
    }
    Ok(())
}

/// A shape of the protocol as dims.
pub(crate) fn dims(name: &str, shape: &[i64]) -> Result<Vec<usize>, Problem> {
    let dim = |dim: &i64| {
        usize::try_from(*dim).map_err(|_| {
            Problem::invalid(format!("input `{name}` has the dim {dim} in its shape, expected 0 or more"))
        })
    };
    shape.iter().map(dim).collect()
}

/// The bytes that a tensor must have.
pub(crate) fn expected_bytes(name: &str, datatype: Datatype, dims: &[usize]) -> Result<usize, Problem> {
    if datatype == Datatype::Bytes {
        return Err(Problem::invalid(format!("input `{name}` has datatype BYTES, which no model takes")));
    }
    datatype::bytes(datatype, dims).ok_or_else(|| {
        Problem::invalid(format!(
            "input `{name}` of shape {dims:?} and datatype {} is too large",
            datatype.name()
        ))
    })
}

/// The datatype of this name.
pub(crate) fn datatype(input: &str, name: &str) -> Result<Datatype, Problem> {
    Datatype::named(name).ok_or_else(|| {
        Problem::invalid(format!(
            "input `{input}` has the unknown datatype `{name}`, expected one like FP32 or INT64"
        ))
    })
}

/// Runs a model. The outputs come in the schema's order, and only those of `wanted`, if any are named.
pub(crate) async fn run(
    model: &Model,
    caller: &Caller,
    given: Vec<Given>,
    wanted: &[String],
    wishes: Wishes,
) -> Result<Vec<(String, HostTensor)>, Problem> {
    // Whatever is wrong with the shape is told later, by name; nobody pays for more rows than there are bytes.
    let rows = given.first().and_then(|given| Some((*given.shape.first()?).min(given.bytes.len())));
    caller.charge(rows.unwrap_or(0))?;
    run_charged(model, caller, given, wanted, wishes).await
}

/// Runs a model for whoever has been charged with the rows.
pub(crate) async fn run_charged(
    model: &Model,
    caller: &Caller,
    given: Vec<Given>,
    wanted: &[String],
    wishes: Wishes,
) -> Result<Vec<(String, HostTensor)>, Problem> {
    let schema = model.front.outputs();
    for (i, name) in wanted.iter().enumerate() {
        if schema.position(name).is_none() {
            let known: Vec<_> = schema.tensors().iter().map(skep_runtime_core::TensorSpec::name).collect();
            return Err(Problem::invalid(format!(
                "model `{}` has no output `{name}`, expected one of {known:?}",
                model.name
            )));
        }
        if wanted[..i].contains(name) {
            return Err(Problem::invalid(format!("output `{name}` is asked for twice")));
        }
    }
    let tensors = given.into_iter().map(|given| tensor(model, given)).collect::<Result<Vec<_>, _>>()?;
    let request = model.ruled(Request::named(tensors), caller, wishes.priority, wishes.timeout);
    // Requests that are here already are read before the first of them is handed over: one wake-up of the device's thread,
    // and one batch, instead of as many as there are requests.
    tokio::task::yield_now().await;
    let open = model.tally.begin();
    let result = match model.rules.when_full {
        WhenFull::Refuse => model.front.try_call(request).await,
        WhenFull::Wait => model.front.call(request).await,
    };
    let result = result.map_err(|error| model.hinted(error.into()));
    open.end(&result);
    let mut outputs = result?;
    if !wanted.is_empty() {
        let place = |name: &str| wanted.iter().position(|wanted| wanted == name);
        outputs.retain(|(name, _)| place(name).is_some());
        outputs.sort_by_key(|(name, _)| place(name));
    }
    Ok(outputs)
}

fn tensor(model: &Model, given: Given) -> Result<(String, HostTensor), Problem> {
    let Given { name, datatype, shape, bytes } = given;
    let schema = model.front.inputs();
    let Some(place) = schema.position(&name) else {
        let known: Vec<_> = schema.tensors().iter().map(skep_runtime_core::TensorSpec::name).collect();
        return Err(Problem::invalid(format!(
            "model `{}` has no input `{name}`, expected one of {known:?}",
            model.name
        )));
    };
    let dtype = schema.tensors()[place].dtype();
    let bytes = coerce(&name, datatype, dtype, bytes)?;
    let tensor = HostTensor::new(dtype, &shape, bytes)
        .map_err(|error| Problem::invalid(format!("input `{name}`: {error}")))?;
    Ok((name, tensor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: Value) -> Result<Wishes, Problem> {
        Wishes::read(&BTreeMap::from([(name.to_owned(), value)]))
    }

    #[test]
    fn priority_and_timeout_are_read_in_every_form() {
        assert_eq!(read("priority", Value::Whole(3)).unwrap().priority, 3);
        assert_eq!(read("timeout", Value::Whole(1500)).unwrap().timeout, Some(Duration::from_micros(1500)));
        assert_eq!(read("timeout", Value::Whole(0)).unwrap(), Wishes::default());
        let error = read("priority", Value::Whole(-1)).unwrap_err();
        assert_eq!(error.message, "parameter `priority` is -1, expected a whole number of 0 or more");
        let error = read("priority", Value::Whole(33)).unwrap_err();
        assert_eq!(error.message, "parameter `priority` is 33, expected 0 to 32");
        assert!(read("timeout", Value::Bool(true)).is_err());
        assert_eq!(read("colour", Value::Text("red".into())).unwrap(), Wishes::default());
    }

    #[test]
    fn sequences_are_refused_and_their_absence_is_not() {
        assert_eq!(read("sequence_id", Value::Whole(7)).unwrap_err().status(), 501);
        assert_eq!(read("sequence_start", Value::Bool(true)).unwrap_err().status(), 501);
        assert!(
            read("sequence_id", Value::Whole(0)).is_ok() && read("sequence_end", Value::Bool(false)).is_ok()
        );
    }

    #[test]
    fn shapes_are_looked_at_before_anything_is_made_of_them() {
        assert_eq!(
            dims("x", &[2, -1]).unwrap_err().message,
            "input `x` has the dim -1 in its shape, expected 0 or more"
        );
        assert!(
            expected_bytes("x", Datatype::F32, &[1 << 60, 1 << 60])
                .unwrap_err()
                .message
                .ends_with("is too large")
        );
        assert_eq!(expected_bytes("x", Datatype::F32, &[2, 2]).unwrap(), 16);
    }
}
