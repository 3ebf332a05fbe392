//! Inference over HTTP: JSON, JSON followed by binary tensors, and the bytes of one tensor alone.

use crate::caller::Caller;
use crate::http::object::Object;
use crate::http::pieces::Pieces;
use crate::http::reply::{JSON, Reply};
use crate::infer::{self, Given, Parameters, Value, Wishes, whole};
use crate::model::Model;
use crate::problem::Problem;
use crate::tensor::classify;
use crate::tensor::datatype::{self, Datatype};
use crate::tensor::json;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};
use skep_runtime_core::{Dim, HostTensor};

/// The header that says how much of the body is JSON.
pub(crate) const JSON_LENGTH: &str = "inference-header-content-length";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    id: Option<String>,
    #[serde(default)]
    parameters: Option<Map<String, Json>>,
    #[serde(borrow)]
    inputs: Vec<Object<Input<'a>>>,
    #[serde(default)]
    outputs: Option<Vec<Object<Output>>>,
    /// Some clients repeat what the path says.
    #[serde(default)]
    model_name: Option<String>,
    #[serde(default)]
    model_version: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input<'a> {
    name: String,
    shape: Vec<i64>,
    datatype: String,
    #[serde(default)]
    parameters: Option<Map<String, Json>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Output {
    name: String,
    #[serde(default)]
    parameters: Option<Map<String, Json>>,
}

/// How an output is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Form {
    binary: bool,
    classes: Option<usize>,
}

/// Answers a request for a model.
pub(crate) async fn infer(
    model: &Model,
    caller: &Caller,
    json_length: Option<&str>,
    body: Bytes,
) -> Result<Reply, Problem> {
    let asked = match json_length {
        None => read(model, &body, body.len())?,
        Some(text) => {
            let length = text.trim().parse::<usize>().ok().filter(|length| *length <= body.len());
            let length = length.ok_or_else(|| {
                Problem::invalid(format!(
                    "Inference-Header-Content-Length is `{text}`, expected at most the body's {} bytes",
                    body.len()
                ))
            })?;
            if length == 0 { raw(model, body.clone())? } else { read(model, &body, length)? }
        }
    };
    // Then a tensor's bytes are nobody else's, and need not be copied.
    drop(body);
    let wanted: Vec<String> = asked.outputs.iter().map(|(name, _)| name.clone()).collect();
    let outputs = infer::run(model, caller, asked.inputs, &wanted, asked.wishes).await?;
    let forms = outputs.iter().map(|(name, _)| {
        asked.outputs.iter().find(|(own, _)| own == name).map_or(asked.form, |(_, form)| *form)
    });
    let forms: Vec<Form> = forms.collect();
    write(model, asked.id.as_deref(), outputs, &forms)
}

struct Asked {
    id: Option<String>,
    inputs: Vec<Given>,
    /// Empty for all.
    outputs: Vec<(String, Form)>,
    /// Of those that are not named.
    form: Form,
    wishes: Wishes,
}

fn read(model: &Model, body: &Bytes, json_length: usize) -> Result<Asked, Problem> {
    let Object(request): Object<Request<'_>> = serde_json::from_slice(&body[..json_length])
        .map_err(|error| Problem::invalid(format!("request is not as it should be: {error}")))?;
    let same =
        |got: &Option<String>, own: &str| got.as_deref().is_none_or(|got| got.is_empty() || got == own);
    if !same(&request.model_name, &model.name) || !same(&request.model_version, &model.version) {
        return Err(Problem::invalid(format!(
            "request names the model {:?}, its path `{}`",
            request.model_name.as_deref().unwrap_or_default(),
            model.name
        )));
    }
    let parameters = parameters(request.parameters.as_ref());
    let form = Form { binary: flag(&parameters, "binary_data_output")?.unwrap_or(false), classes: None };
    let wishes = Wishes::read(&parameters)?;
    let mut rest = json_length;
    let mut inputs = Vec::with_capacity(request.inputs.len());
    for Object(input) in request.inputs {
        inputs.push(given(input, body, &mut rest)?);
    }
    if rest != body.len() {
        return Err(Problem::invalid(format!("{} bytes follow the last input's", body.len() - rest)));
    }
    let outputs = request.outputs.unwrap_or_default().into_iter().map(|Object(output)| {
        let parameters = self::parameters(output.parameters.as_ref());
        infer::refuse_shared_memory(&parameters)?;
        let binary = flag(&parameters, "binary_data")?.unwrap_or(form.binary);
        let classes =
            parameters.get("classification").map(|value| whole("classification", value)).transpose()?;
        let classes =
            classes.filter(|classes| *classes > 0).map(|k| usize::try_from(k).unwrap_or(usize::MAX));
        Ok((output.name, Form { binary, classes }))
    });
    let outputs: Vec<(String, Form)> = outputs.collect::<Result<_, Problem>>()?;
    // What cannot be written is refused before it is computed.
    for spec in model.front.outputs().tensors() {
        let own = outputs.iter().find(|(name, _)| name == spec.name()).map(|(_, form)| *form);
        let Some(form) = own.or(outputs.is_empty().then_some(form)) else { continue };
        let datatype = Datatype::from(spec.dtype());
        if !form.binary && form.classes.is_none() && !datatype.has_json() {
            return Err(Problem::invalid(format!(
                "output `{}` has datatype {}, for which JSON has no form: ask for binary data",
                spec.name(),
                datatype.name()
            )));
        }
    }
    Ok(Asked { id: request.id, inputs, outputs, form, wishes })
}

fn given(input: Input<'_>, body: &Bytes, rest: &mut usize) -> Result<Given, Problem> {
    let Input { name, shape, datatype, parameters, data } = input;
    let parameters = self::parameters(parameters.as_ref());
    infer::refuse_shared_memory(&parameters)?;
    let datatype = infer::datatype(&name, &datatype)?;
    let shape = infer::dims(&name, &shape)?;
    let expected = infer::expected_bytes(&name, datatype, &shape)?;
    let size =
        parameters.get("binary_data_size").map(|value| whole("binary_data_size", value)).transpose()?;
    let bytes = match (size, data) {
        (Some(_), Some(_)) => {
            return Err(Problem::invalid(format!(
                "input `{name}` has both `data` and `binary_data_size`, expected one"
            )));
        }
        (None, None) => {
            return Err(Problem::invalid(format!(
                "input `{name}` has neither `data` nor `binary_data_size`, expected one"
            )));
        }
        (Some(size), None) => {
            let left = body.len() - *rest;
            let size = usize::try_from(size).ok().filter(|size| *size <= left).ok_or_else(|| {
                Problem::invalid(format!(
                    "input `{name}` has {size} bytes of binary data, and {left} are left of the body"
                ))
            })?;
            if size != expected {
                return Err(Problem::invalid(format!(
                    "input `{name}` has {size} bytes of binary data, expected the {expected} of shape {shape:?} and datatype {}",
                    datatype.name()
                )));
            }
            *rest += size;
            body.slice(*rest - size..*rest)
        }
        (None, Some(_)) if !datatype.has_json() => {
            return Err(Problem::invalid(format!(
                "input `{name}` has datatype {}, for which JSON has no form: send binary data",
                datatype.name()
            )));
        }
        (None, Some(raw)) => json::read(raw, datatype, &shape)
            .map_err(|reason| Problem::invalid(format!("input `{name}`: {reason}")))?
            .into(),
    };
    Ok(Given { name, datatype, shape, bytes })
}

/// The body is the one row of the model's one input.
fn raw(model: &Model, body: Bytes) -> Result<Asked, Problem> {
    let refuse = |why: String| {
        Err(Problem::invalid(format!(
            "a body without JSON is for models with one input of at most one variable dim: {why}"
        )))
    };
    let schema = model.front.inputs();
    let [spec] = schema.tensors() else {
        return refuse(format!("model `{}` has {} inputs", model.name, schema.tensors().len()));
    };
    let free = spec.dims().iter().filter(|dim| matches!(dim, Dim::Free { .. })).count();
    if free > 1 {
        return refuse(format!("input `{}` has {free}", spec.name()));
    }
    let datatype = Datatype::from(spec.dtype());
    let fixed: Vec<usize> = spec
        .dims()
        .iter()
        .filter_map(|dim| if let Dim::Fixed(size) = dim { Some(*size) } else { None })
        .collect();
    let per_free = datatype::bytes(datatype, &fixed).filter(|bytes| *bytes > 0).unwrap_or(1);
    let shape = spec.dims().iter().map(|dim| match dim {
        Dim::Fixed(size) => *size,
        Dim::Free { .. } => body.len() / per_free,
        Dim::Batch => 1,
    });
    let shape: Vec<usize> = shape.collect();
    if datatype::bytes(datatype, &shape) != Some(body.len()) {
        return refuse(format!("{} bytes are no row of input `{}`, {spec}", body.len(), spec.name()));
    }
    let input = Given { name: spec.name().to_owned(), datatype, shape, bytes: body };
    let form = Form { binary: true, classes: None };
    Ok(Asked { id: None, inputs: vec![input], outputs: Vec::new(), form, wishes: Wishes::default() })
}

fn parameters(map: Option<&Map<String, Json>>) -> Parameters {
    let value = |value: &Json| match value {
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(value), _) => Value::Whole(value.into()),
            (_, Some(value)) => Value::Whole(value.into()),
            _ => Value::Real(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(text.clone()),
        _ => Value::Other,
    };
    map.into_iter().flatten().map(|(name, it)| (name.clone(), value(it))).collect()
}

fn flag(parameters: &Parameters, name: &str) -> Result<Option<bool>, Problem> {
    match parameters.get(name) {
        None => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(other) => {
            Err(Problem::invalid(format!("parameter `{name}` is {other:?}, expected true or false")))
        }
    }
}

fn write(
    model: &Model,
    id: Option<&str>,
    outputs: Vec<(String, HostTensor)>,
    forms: &[Form],
) -> Result<Reply, Problem> {
    let text = |text: &str| Json::from(text).to_string();
    let mut head = Vec::with_capacity(256);
    head.extend_from_slice(b"{\"model_name\":");
    head.extend_from_slice(text(&model.name).as_bytes());
    head.extend_from_slice(b",\"model_version\":");
    head.extend_from_slice(text(&model.version).as_bytes());
    if let Some(id) = id {
        head.extend_from_slice(b",\"id\":");
        head.extend_from_slice(text(id).as_bytes());
    }
    head.extend_from_slice(b",\"outputs\":[");
    // They are not copied into one.
    let mut tails: Vec<Vec<u8>> = Vec::new();
    let any_binary = forms.iter().any(|form| form.binary);
    for (i, ((name, tensor), form)) in outputs.into_iter().zip(forms).enumerate() {
        if i > 0 {
            head.push(b',');
        }
        let mut start = |datatype: &str, dims: &[usize]| {
            let dims = Json::from(dims.to_vec());
            let start = format!("{{\"name\":{},\"datatype\":\"{datatype}\",\"shape\":{dims}", text(&name));
            head.extend_from_slice(start.as_bytes());
        };
        if let Some(k) = form.classes {
            let (classes, k) = classify::best(&tensor, k, model.labels());
            let rows = classes.len().checked_div(k).unwrap_or(0);
            start("BYTES", &[rows, k]);
            if form.binary {
                tails.push(classify::bytes(&classes));
            } else {
                head.extend_from_slice(b",\"data\":");
                head.extend_from_slice(Json::from(classes).to_string().as_bytes());
            }
        } else {
            start(Datatype::from(tensor.dtype()).name(), tensor.dims());
            if form.binary {
                tails.push(tensor.into_bytes());
            } else {
                head.extend_from_slice(b",\"data\":");
                json::write(&tensor, &mut head)
                    .map_err(|reason| Problem::invalid(format!("output `{name}` {reason}")))?;
            }
        }
        if form.binary {
            let size = tails.last().map_or(0, Vec::len);
            head.extend_from_slice(format!(",\"parameters\":{{\"binary_data_size\":{size}}}").as_bytes());
        }
        head.push(b'}');
    }
    head.extend_from_slice(b"]}");
    if !any_binary {
        return Ok(Reply::new(JSON, head));
    }
    let json_length = head.len();
    let mut reply = Reply::new("application/octet-stream", Pieces::of(head, tails));
    reply.json_length = Some(json_length);
    Ok(reply)
}
