use super::parameters::Drawn;
use crate::block::{Layers, Ort, Parameters};
use crate::graph::number;
use crate::onnx::write::GraphDim;
use crate::session::Running;
use skep_runtime_core::{BoxError, DType};
use skep_toolkit::Computes;
use skep_toolkit::blocks::DetDropout;

impl Computes<DetDropout> for Ort {
    #[expect(clippy::cast_possible_truncation, reason = "computed in f32")]
    fn layers(spec: &DetDropout, parameters: &Parameters) -> Result<Box<dyn Layers>, BoxError> {
        let &DetDropout { input, hidden, output, .. } = spec;
        let mut drawn = Drawn::new(parameters);
        let rows = |size| [GraphDim::Free("batch"), GraphDim::Fixed(size)];
        let x = drawn.graph.input("x", DType::F32, &rows(input));
        let mask = drawn.graph.input("mask", DType::F32, &rows(hidden));
        let wide = drawn.linear("fc1", [input, hidden], &x)?;
        let kept = drawn.graph.node("Mul", &[&wide, &mask], &[]);
        let scale = number(&mut drawn.graph, spec.scale() as f32);
        let kept = drawn.graph.node("Mul", &[&kept, &scale], &[]);
        let y = drawn.linear("fc2", [hidden, output], &kept)?;
        drawn.graph.output("y", DType::F32, &rows(output), &y);
        Ok(Box::new(Running::of_bytes(parameters.device(), &drawn.graph.into_bytes())?))
    }
}
