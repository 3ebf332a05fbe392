//! A graph whose parameters are drawn, or read from a file, as the other backends do it.

use crate::block::Parameters;
use crate::graph;
use crate::onnx::write::{Graph, Name};
use skep_runtime_core::{BoxError, HostTensor};
use skep_toolkit::Init;
use skep_toolkit::blocks::Activation;

/// A graph in the making.
pub(super) struct Drawn<'a> {
    pub(super) graph: Graph,
    parameters: &'a Parameters,
}

impl<'a> Drawn<'a> {
    pub(super) fn new(parameters: &'a Parameters) -> Self {
        Self { graph: Graph::default(), parameters }
    }

    pub(super) fn get(&self, name: &str, dims: &[usize], init: Init) -> Result<HostTensor, BoxError> {
        self.parameters.get(name, dims, init)
    }

    /// A linear layer with bias, both drawn uniformly from `±1/sqrt(input)`.
    pub(super) fn linear(
        &mut self,
        name: &str,
        [input, output]: [usize; 2],
        x: &str,
    ) -> Result<Name, BoxError> {
        let bound = 1.0 / (input as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        let weight = self.get(&format!("{name}.weight"), &[output, input], init)?;
        let bias = self.get(&format!("{name}.bias"), &[output], init)?;
        graph::linear(&mut self.graph, x, &weight, Some(&bias))
    }

    pub(super) fn activate(&mut self, activation: Activation, x: &str) -> Name {
        match activation {
            Activation::Gelu => graph::gelu(&mut self.graph, x),
            Activation::Relu => self.graph.node("Relu", &[x], &[]),
        }
    }
}
