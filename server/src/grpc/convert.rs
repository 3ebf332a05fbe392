//! Between the protocol's messages and an inference.

use crate::grpc::generated::infer_parameter::ParameterChoice;
use crate::grpc::generated::model_infer_request::InferInputTensor;
use crate::grpc::generated::model_infer_response::InferOutputTensor;
use crate::grpc::generated::{InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse};
use crate::infer::{self, Given, Parameters, Value, Wishes, whole};
use crate::model::Model;
use crate::problem::Problem;
use crate::tensor::classify;
use crate::tensor::coerce::{Number, writer};
use crate::tensor::datatype::{Datatype, elements};
use bytes::Bytes;
use skep_runtime_core::HostTensor;
use std::collections::HashMap;

/// A request, apart from its protocol.
pub(crate) struct Asked {
    pub(crate) id: String,
    pub(crate) inputs: Vec<Given>,
    /// With the number of classes, if these are wanted. Empty for all.
    pub(crate) outputs: Vec<(String, Option<usize>)>,
    pub(crate) wishes: Wishes,
}

pub(crate) fn parameters(map: &HashMap<String, InferParameter>) -> Parameters {
    let value = |parameter: &InferParameter| match &parameter.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => Value::Bool(*value),
        Some(ParameterChoice::Int64Param(value)) => Value::Whole((*value).into()),
        Some(ParameterChoice::Uint64Param(value)) => Value::Whole((*value).into()),
        Some(ParameterChoice::StringParam(value)) => Value::Text(value.clone()),
        Some(ParameterChoice::DoubleParam(value)) => Value::Real(*value),
        None => Value::Other,
    };
    map.iter().map(|(name, it)| (name.clone(), value(it))).collect()
}

pub(crate) fn read(request: ModelInferRequest) -> Result<Asked, Problem> {
    let wishes = Wishes::read(&parameters(&request.parameters))?;
    let raw = !request.raw_input_contents.is_empty();
    if raw && request.raw_input_contents.len() != request.inputs.len() {
        return Err(Problem::invalid(format!(
            "there are {} raw contents, expected one for each of the {} inputs",
            request.raw_input_contents.len(),
            request.inputs.len()
        )));
    }
    let mut contents = request.raw_input_contents.into_iter();
    let inputs = request.inputs.into_iter().map(|input| given(input, contents.next()));
    let inputs = inputs.collect::<Result<_, _>>()?;
    let outputs = request.outputs.into_iter().map(|output| {
        let parameters = parameters(&output.parameters);
        infer::refuse_shared_memory(&parameters)?;
        let classes =
            parameters.get("classification").map(|value| whole("classification", value)).transpose()?;
        let classes =
            classes.filter(|classes| *classes > 0).map(|k| usize::try_from(k).unwrap_or(usize::MAX));
        Ok((output.name, classes))
    });
    let outputs = outputs.collect::<Result<_, Problem>>()?;
    Ok(Asked { id: request.id, inputs, outputs, wishes })
}

fn given(input: InferInputTensor, raw: Option<Bytes>) -> Result<Given, Problem> {
    let InferInputTensor { name, datatype, shape, parameters, contents } = input;
    infer::refuse_shared_memory(&self::parameters(&parameters))?;
    let datatype = infer::datatype(&name, &datatype)?;
    let shape = infer::dims(&name, &shape)?;
    let expected = infer::expected_bytes(&name, datatype, &shape)?;
    // Some clients send empty contents beside raw ones.
    let contents = contents.filter(|contents| *contents != InferTensorContents::default());
    let bytes = match (raw, contents) {
        (Some(_), Some(_)) => {
            return Err(Problem::invalid(format!(
                "input `{name}` has contents beside raw ones, expected one of them"
            )));
        }
        (Some(raw), None) => raw,
        (None, contents) => {
            let count = elements(&shape).unwrap_or(usize::MAX);
            typed(&name, datatype, count, &contents.unwrap_or_default())?.into()
        }
    };
    if bytes.len() != expected {
        return Err(Problem::invalid(format!(
            "input `{name}` has {} bytes, expected the {expected} of shape {shape:?} and datatype {}",
            bytes.len(),
            datatype.name()
        )));
    }
    Ok(Given { name, datatype, shape, bytes })
}

/// Contents by type, as bytes.
fn typed(
    name: &str,
    datatype: Datatype,
    count: usize,
    contents: &InferTensorContents,
) -> Result<Vec<u8>, Problem> {
    let whole = |values: &mut dyn Iterator<Item = i128>| values.map(Number::Whole).collect::<Vec<_>>();
    let numbers: Vec<Number> = match datatype {
        Datatype::Bool => whole(&mut contents.bool_contents.iter().map(|value| i128::from(*value))),
        Datatype::I8 | Datatype::I16 | Datatype::I32 => {
            whole(&mut contents.int_contents.iter().map(|value| i128::from(*value)))
        }
        Datatype::I64 => whole(&mut contents.int64_contents.iter().map(|value| i128::from(*value))),
        Datatype::U8 | Datatype::U16 | Datatype::U32 => {
            whole(&mut contents.uint_contents.iter().map(|value| i128::from(*value)))
        }
        Datatype::U64 => whole(&mut contents.uint64_contents.iter().map(|value| i128::from(*value))),
        Datatype::F32 => contents.fp32_contents.iter().map(|value| Number::Real((*value).into())).collect(),
        Datatype::F64 => contents.fp64_contents.iter().map(|value| Number::Real(*value)).collect(),
        Datatype::F16 | Datatype::BF16 | Datatype::Bytes => {
            let message =
                format!("input `{name}` has datatype {}, which has raw contents only", datatype.name());
            return Err(Problem::invalid(message));
        }
    };
    if numbers.len() != count {
        return Err(Problem::invalid(format!(
            "input `{name}` has {} elements among the contents for {}, expected {count}",
            numbers.len(),
            datatype.name()
        )));
    }
    let mut bytes = Vec::with_capacity(numbers.len() * datatype.size().unwrap_or(0));
    let write = writer(datatype);
    for number in numbers {
        if !write(number, &mut bytes) {
            return Err(Problem::invalid(format!(
                "input `{name}` has the element {number:?}, which is no {}",
                datatype.name()
            )));
        }
    }
    Ok(bytes)
}

/// The answer: always raw, which all clients read and some alone.
pub(crate) fn write(
    model: &Model,
    id: String,
    outputs: Vec<(String, HostTensor)>,
    wanted: &[(String, Option<usize>)],
) -> ModelInferResponse {
    let mut response = ModelInferResponse {
        model_name: model.name.clone(),
        model_version: model.version.clone(),
        id,
        ..ModelInferResponse::default()
    };
    for (name, tensor) in outputs {
        let classes = wanted.iter().find(|(own, _)| *own == name).and_then(|(_, classes)| *classes);
        let (datatype, shape, bytes): (_, Vec<usize>, Bytes) = match classes {
            None => (Datatype::from(tensor.dtype()), tensor.dims().to_vec(), tensor.into_bytes().into()),
            Some(k) => {
                let (classes, k) = classify::best(&tensor, k, model.labels());
                let rows = classes.len().checked_div(k).unwrap_or(0);
                (Datatype::Bytes, vec![rows, k], classify::bytes(&classes).into())
            }
        };
        response.raw_output_contents.push(bytes);
        response.outputs.push(InferOutputTensor {
            name,
            datatype: datatype.name().to_owned(),
            shape: shape.into_iter().map(|dim| i64::try_from(dim).unwrap_or(i64::MAX)).collect(),
            ..InferOutputTensor::default()
        });
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(datatype: &str, shape: &[i64], contents: InferTensorContents) -> ModelInferRequest {
        let input = InferInputTensor {
            name: "x".into(),
            datatype: datatype.into(),
            shape: shape.to_vec(),
            contents: Some(contents),
            ..InferInputTensor::default()
        };
        ModelInferRequest { inputs: vec![input], ..ModelInferRequest::default() }
    }

    #[test]
    fn contents_by_type_become_bytes() {
        let contents = InferTensorContents { int_contents: vec![1, -2], ..InferTensorContents::default() };
        let asked =
            read(input("INT16", &[1, 2], contents.clone())).unwrap_or_else(|problem| panic!("{problem}"));
        assert_eq!(asked.inputs[0].bytes, [1, 0, 254, 255][..]);
        let told = |request| read(request).map(drop).unwrap_err().message;
        assert_eq!(
            told(input("INT16", &[1, 3], contents.clone())),
            "input `x` has 2 elements among the contents for INT16, expected 3"
        );
        assert_eq!(
            told(input("FP32", &[1, 2], contents.clone())),
            "input `x` has 0 elements among the contents for FP32, expected 2"
        );
        assert_eq!(
            told(input("FP16", &[1, 2], contents.clone())),
            "input `x` has datatype FP16, which has raw contents only"
        );
        let mut both = input("INT16", &[1, 2], contents);
        both.raw_input_contents = vec![Bytes::from_static(&[0; 4])];
        assert_eq!(told(both), "input `x` has contents beside raw ones, expected one of them");
    }

    #[test]
    fn raw_contents_are_as_many_as_inputs_and_as_long_as_shapes() {
        let told = |raw: &[&'static [u8]]| {
            let mut request = input("FP32", &[1, 2], InferTensorContents::default());
            request.raw_input_contents = raw.iter().map(|bytes| Bytes::from_static(bytes)).collect();
            read(request).map(drop).unwrap_err().message
        };
        assert_eq!(
            told(&[&[0; 7]]),
            "input `x` has 7 bytes, expected the 8 of shape [1, 2] and datatype FP32"
        );
        assert_eq!(told(&[&[0; 8], &[]]), "there are 2 raw contents, expected one for each of the 1 inputs");
    }
}
