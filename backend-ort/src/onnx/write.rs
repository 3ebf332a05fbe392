//! Graphs made here: nodes and stored tensors, as the bytes of an ONNX file.

use super::read::code;
use super::wire::Message;
use skep_runtime_core::{DType, HostTensor};

/// ONNX's own operators, and those that ONNX Runtime has besides.
const OPERATORS: i64 = 17;
const CONTRIBUTED: &str = "com.microsoft";

/// A tensor of a graph, by name.
pub(crate) type Name = String;

/// A dim of an input or output: a size, or a name for one that differs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum GraphDim<'a> {
    Fixed(usize),
    Free(&'a str),
}

/// What a node has besides its inputs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Attribute<'a> {
    Number(&'a str, i64),
    Numbers(&'a str, &'a [i64]),
    Float(&'a str, f32),
}

/// A graph in the making.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    graph: Message,
    count: usize,
}

impl Graph {
    fn fresh(&mut self, what: &str) -> Name {
        self.count += 1;
        format!("{what}_{}", self.count)
    }

    /// Declares an input.
    pub(crate) fn input(&mut self, name: &str, dtype: DType, dims: &[GraphDim<'_>]) -> Name {
        self.graph.message(11, &outlet(name, dtype, dims));
        name.to_owned()
    }

    /// Gives a tensor out under a name.
    pub(crate) fn output(&mut self, name: &str, dtype: DType, dims: &[GraphDim<'_>], from: &str) {
        let mut node = Message::default();
        node.text(1, from).text(2, name).text(4, "Identity");
        self.graph.message(1, &node).message(12, &outlet(name, dtype, dims));
    }

    /// Stores a tensor.
    pub(crate) fn store(&mut self, tensor: &HostTensor) -> Name {
        let name = self.fresh("stored");
        let mut stored = Message::default();
        for &dim in tensor.dims() {
            stored.number(1, i64::try_from(dim).unwrap_or(i64::MAX));
        }
        stored.number(2, code(tensor.dtype()).unwrap_or_default()).text(8, &name).bytes(9, tensor.bytes());
        self.graph.message(5, &stored);
        name
    }

    /// Stores numbers.
    pub(crate) fn floats(&mut self, dims: &[usize], numbers: &[f32]) -> Name {
        let mut stored = Message::default();
        let name = self.fresh("stored");
        for &dim in dims {
            stored.number(1, i64::try_from(dim).unwrap_or(i64::MAX));
        }
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        stored.number(2, 1).text(8, &name).bytes(9, &bytes);
        self.graph.message(5, &stored);
        name
    }

    /// Stores whole numbers: dims, axes, ids. One for a number alone.
    pub(crate) fn integers(&mut self, dims: &[usize], numbers: &[i64]) -> Name {
        let mut stored = Message::default();
        let name = self.fresh("stored");
        for &dim in dims {
            stored.number(1, i64::try_from(dim).unwrap_or(i64::MAX));
        }
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        stored.number(2, 7).text(8, &name).bytes(9, &bytes);
        self.graph.message(5, &stored);
        name
    }

    /// Adds a node of one of ONNX's operators with one output.
    pub(crate) fn node(&mut self, operator: &str, inputs: &[&str], attributes: &[Attribute<'_>]) -> Name {
        self.add(operator, "", inputs, attributes)
    }

    /// Adds a node of one of ONNX Runtime's own operators.
    pub(crate) fn contributed(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: &[Attribute<'_>],
    ) -> Name {
        self.add(operator, CONTRIBUTED, inputs, attributes)
    }

    /// The same as a `Cast` to an element type.
    pub(crate) fn cast(&mut self, input: &str, dtype: DType) -> Name {
        let to = code(dtype).unwrap_or_default();
        self.node("Cast", &[input], &[Attribute::Number("to", to)])
    }

    fn add(&mut self, operator: &str, domain: &str, inputs: &[&str], attributes: &[Attribute<'_>]) -> Name {
        let name = self.fresh(operator);
        let mut node = Message::default();
        for input in inputs {
            node.text(1, input);
        }
        node.text(2, &name).text(3, &name).text(4, operator);
        for attribute in attributes {
            let mut written = Message::default();
            match *attribute {
                Attribute::Number(name, number) => written.text(1, name).number(3, number).number(20, 2),
                Attribute::Float(name, number) => written.text(1, name).float(2, number).number(20, 1),
                Attribute::Numbers(name, numbers) => {
                    written.text(1, name);
                    for &number in numbers {
                        written.number(8, number);
                    }
                    written.number(20, 7)
                }
            };
            node.message(5, &written);
        }
        if !domain.is_empty() {
            node.text(7, domain);
        }
        self.graph.message(1, &node);
        name
    }

    /// The bytes of the file.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.graph.text(2, "skep");
        let mut model = Message::default();
        model.number(1, 8).text(2, "skep").message(7, &self.graph);
        for (domain, version) in [("", OPERATORS), (CONTRIBUTED, 1)] {
            let mut operators = Message::default();
            operators.text(1, domain).number(2, version);
            model.message(8, &operators);
        }
        model.0
    }
}

fn outlet(name: &str, dtype: DType, dims: &[GraphDim<'_>]) -> Message {
    let mut shape = Message::default();
    for dim in dims {
        let mut written = Message::default();
        match *dim {
            GraphDim::Fixed(size) => written.number(1, i64::try_from(size).unwrap_or(i64::MAX)),
            GraphDim::Free(name) => written.text(2, name),
        };
        shape.message(1, &written);
    }
    let (mut tensor, mut kind, mut outlet) = (Message::default(), Message::default(), Message::default());
    tensor.number(1, code(dtype).unwrap_or_default()).message(2, &shape);
    kind.message(1, &tensor);
    outlet.text(1, name).message(2, &kind);
    outlet
}
