use super::parameters::Drawn;
use crate::block::{Layers, Ort, Parameters};
use crate::onnx::write::GraphDim;
use crate::session::Running;
use skep_runtime_core::{BoxError, DType};
use skep_toolkit::Computes;
use skep_toolkit::blocks::Ffn;

impl Computes<Ffn> for Ort {
    fn layers(
        &Ffn { input, hidden, output, activation }: &Ffn,
        parameters: &Parameters,
    ) -> Result<Box<dyn Layers>, BoxError> {
        let mut drawn = Drawn::new(parameters);
        let rows = |size| [GraphDim::Free("batch"), GraphDim::Fixed(size)];
        let x = drawn.graph.input("x", DType::F32, &rows(input));
        let wide = drawn.linear("fc1", [input, hidden], &x)?;
        let wide = drawn.activate(activation, &wide);
        let y = drawn.linear("fc2", [hidden, output], &wide)?;
        drawn.graph.output("y", DType::F32, &rows(output), &y);
        Ok(Box::new(Running::of_bytes(parameters.device(), &drawn.graph.into_bytes())?))
    }
}
