use super::parameters::Drawn;
use crate::block::{Layers, Ort, Parameters};
use crate::graph::layer_norm;
use crate::onnx::write::{Attribute, GraphDim, Name};
use crate::session::Running;
use skep_runtime_core::{BoxError, DType};
use skep_toolkit::blocks::Transformer;
use skep_toolkit::{Computes, Init};

/// `PyTorch`'s default, which keeps the division finite.
const EPS: f32 = 1e-5;

impl Computes<Transformer> for Ort {
    fn layers(spec: &Transformer, parameters: &Parameters) -> Result<Box<dyn Layers>, BoxError> {
        let &Transformer { size, heads, hidden, activation, .. } = spec;
        let mut drawn = Drawn::new(parameters);
        let dims = [GraphDim::Free("batch"), GraphDim::Free("positions"), GraphDim::Fixed(size)];
        let x = drawn.graph.input("x", DType::F32, &dims);
        let [query, key, value] = ["q_proj", "k_proj", "v_proj"]
            .map(|name| drawn.linear(&format!("self_attn.{name}"), [size, size], &x));
        let (query, key, value) = (query?, key?, value?);
        let heads = [Attribute::Number("num_heads", i64::try_from(heads)?)];
        let mixed = drawn.graph.contributed("MultiHeadAttention", &[&query, &key, &value], &heads);
        let attended = drawn.linear("self_attn.out_proj", [size, size], &mixed)?;
        let h = drawn.graph.node("Add", &[&x, &attended], &[]);
        let h = norm(&mut drawn, "norm1", size, &h)?;
        let wide = drawn.linear("linear1", [size, hidden], &h)?;
        let wide = drawn.activate(activation, &wide);
        let narrow = drawn.linear("linear2", [hidden, size], &wide)?;
        let y = drawn.graph.node("Add", &[&h, &narrow], &[]);
        let y = norm(&mut drawn, "norm2", size, &y)?;
        drawn.graph.output("y", DType::F32, &dims, &y);
        Ok(Box::new(Running::of_bytes(parameters.device(), &drawn.graph.into_bytes())?))
    }
}

fn norm(drawn: &mut Drawn<'_>, name: &str, size: usize, x: &str) -> Result<Name, BoxError> {
    let weight = drawn.get(&format!("{name}.weight"), &[size], Init::Const(1.0))?;
    let bias = drawn.get(&format!("{name}.bias"), &[size], Init::Const(0.0))?;
    let (weight, bias) = (drawn.graph.store(&weight), drawn.graph.store(&bias));
    Ok(layer_norm(&mut drawn.graph, x, &weight, &bias, EPS))
}
