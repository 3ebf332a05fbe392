//! Whether the gradients of a backward pass are those of the outputs, found out by differences.
//!
//! A gradient that is cut off on its way need not be missing: of `x + norm(x)`, where `norm` has no backward pass, one half
//! arrives, and nothing in it says so. But when a tensor is moved a little, the outputs move by what the whole gradient
//! says.

use super::error::BlockError;
use super::library::{Build, Gradients, Library, Tensor};
use crate::random::SplitMix;
use skep_runtime_core::{BoxError, DType, HostTensor, Schema, TensorOps};

/// Parts of a tensor's own size that it is moved by, one after the other until the answer is clear.
const STEPS: [f64; 4] = [1e-3, 3e-3, 1e-2, 3e-4];
/// Tries that must agree.
const ENOUGH: usize = 2;
/// The part by which a gradient may differ from differences.
const TOLERANCE: f64 = 0.05;
/// The part by which two differences may differ that are to be relied on.
const STEADY: f64 = 0.01;

/// The first backward pass of a block.
pub(super) struct Differences<'a, L: Library> {
    pub(super) device: &'a L::Device,
    pub(super) build: &'a Build<L>,
    pub(super) schema: &'a Schema,
    pub(super) inputs: &'a [Tensor<L>],
    pub(super) gradients: &'a [Tensor<L>],
    /// Of what layers draw: the same in each pass.
    pub(super) seed: u64,
    /// Whether the parameters will be stepped.
    pub(super) parameters: bool,
}

impl<L: Library> Differences<'_, L> {
    /// Compares the gradient of each input and, if they will be stepped, of each parameter. Parameters and buffers are as
    /// they were afterwards.
    pub(super) fn check(&self, library: &mut L) -> Result<(), BoxError> {
        let mut own = Vec::new();
        let stepped = |name: &String| self.parameters && library.same_as(name).is_none();
        for (name, tensor) in library.variables().filter(|(name, _)| stepped(name)) {
            own.push((name.clone(), self.device.to_host(tensor)?));
        }
        let checked = self.compare(library, &own);
        for (name, value) in &own {
            library.set(name, L::place(self.device, value)?)?;
        }
        self.renewed(library)?;
        checked
    }

    fn compare(&self, library: &mut L, parameters: &[(String, HostTensor)]) -> Result<(), BoxError> {
        let to_host = |tensors: &[Tensor<L>]| {
            tensors.iter().map(|tensor| self.device.to_host(tensor)).collect::<Result<Vec<_>, _>>()
        };
        let (inputs, weights) = (to_host(self.inputs)?, to_host(self.gradients)?);
        let back = self.pass(library, self.inputs)?;
        let of_inputs = to_host(&back.of_inputs)?;
        let mut found = Found::default();

        for (i, spec) in self.schema.tensors().iter().enumerate().filter(|(_, spec)| spec.dtype().is_float())
        {
            let (name, own) = (format!("input {}", spec.name()), &inputs[i]);
            let clear = clear(&name, own, Some(&of_inputs[i]), |moved| {
                let mut placed = Vec::with_capacity(inputs.len());
                for (j, input) in inputs.iter().enumerate() {
                    placed.push(L::place(self.device, if i == j { moved } else { input })?);
                }
                let back = self.pass(library, &placed)?;
                self.loss(&back, &weights)
            });
            found.add(name, clear?);
        }
        for (name, own) in parameters {
            let gradient =
                back.of_parameters.get(name).map(|tensor| self.device.to_host(tensor)).transpose()?;
            let clear = clear(name, own, gradient.as_ref(), |moved| {
                library.set(name, L::place(self.device, moved)?)?;
                let back = self.pass(library, self.inputs)?;
                self.loss(&back, &weights)
            });
            found.add(name.clone(), clear?);
            library.set(name, L::place(self.device, own)?)?;
        }
        found.told()
    }

    /// Has layers see the parameters as they are now, with a graph that no pass has used.
    fn renewed(&self, library: &mut L) -> Result<(), BoxError> {
        if self.parameters {
            library.replaced()?;
            library.rebuild(self.build)?;
        }
        Ok(())
    }

    /// A pass that leaves no trace.
    fn pass(&self, library: &mut L, inputs: &[Tensor<L>]) -> Result<Gradients<Tensor<L>>, BoxError> {
        self.renewed(library)?;
        let buffers = library.buffers()?;
        library.draw_from(self.seed);
        let back = library.backward(inputs, self.gradients, self.parameters);
        for (name, value) in buffers {
            library.set(&name, value)?;
        }
        back
    }

    /// The outputs, weighted with the gradients that were given.
    fn loss(&self, back: &Gradients<Tensor<L>>, weights: &[HostTensor]) -> Result<Loss, BoxError> {
        let mut loss = Loss::default();
        for (output, weight) in back.outputs.iter().zip(weights) {
            let output = self.device.to_host(output)?;
            if let (Some(output), Some(weight)) = (numbers(&output), numbers(weight)) {
                for term in output.iter().zip(&weight).map(|(output, weight)| output * weight) {
                    loss.sum += term;
                    loss.size += term.abs();
                }
            }
        }
        Ok(loss)
    }
}

/// What the outputs come to, and the sum of the sizes of its terms, which says how far it can be relied on.
#[derive(Clone, Copy, Debug, Default)]
struct Loss {
    sum: f64,
    size: f64,
}

/// What differences say of a gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Clear {
    Right,
    /// Along one direction.
    Wrong {
        differences: f64,
        gradient: f64,
    },
    /// The outputs do not change smoothly with it.
    No,
}

/// What was found of all tensors.
#[derive(Default)]
struct Found {
    wrong: Vec<String>,
    first: (f64, f64),
    unclear: Vec<String>,
}

impl Found {
    fn add(&mut self, name: String, clear: Clear) {
        match clear {
            Clear::Right => {}
            Clear::No => self.unclear.push(name),
            Clear::Wrong { differences, gradient } => {
                if self.wrong.is_empty() {
                    self.first = (differences, gradient);
                }
                self.wrong.push(name);
            }
        }
    }

    fn told(self) -> Result<(), BoxError> {
        let Self { wrong: tensors, first: (differences, gradient), unclear } = self;
        if !unclear.is_empty() {
            tracing::warn!(tensors = ?unclear, "outputs do not change smoothly, so gradients could not be compared");
        }
        if tensors.is_empty() {
            return Ok(());
        }
        Err(BlockError::OtherGradients { tensors, differences, gradient }.into())
    }
}

/// Moves a tensor along random directions, and compares what becomes of the outputs with what the gradient says.
fn clear(
    name: &str,
    own: &HostTensor,
    gradient: Option<&HostTensor>,
    mut loss: impl FnMut(&HostTensor) -> Result<Loss, BoxError>,
) -> Result<Clear, BoxError> {
    let not_comparable = || BlockError::NotComparable { tensor: name.to_owned(), dtype: own.dtype() };
    let values = numbers(own).ok_or_else(not_comparable)?;
    let gradient = match gradient {
        Some(gradient) => numbers(gradient).ok_or_else(not_comparable)?,
        None => vec![0.0; values.len()],
    };
    let precision = if own.dtype() == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
    let length = (values.iter().map(|v| v * v).sum::<f64>() / values.len().max(1) as f64).sqrt().max(0.1);
    let mut random = SplitMix::named(0, name);
    let (mut right, mut wrong) = (0, Vec::new());
    for step in STEPS {
        let signs: Vec<f64> = values.iter().map(|_| if random.unit() < 0.5 { -1.0 } else { 1.0 }).collect();
        // The difference of the outputs, what the gradient says of it, and how far it can be relied on.
        let mut difference = |by: f64| -> Result<(f64, f64, f64), BoxError> {
            let moved = |by: f64| {
                let moved: Vec<f64> = values.iter().zip(&signs).map(|(v, sign)| v + by * sign).collect();
                tensor_like(own, &moved)
            };
            let (ahead, back) = (moved(by)?, moved(-by)?);
            let (above, below) = (loss(&ahead)?, loss(&back)?);
            // By as much as it was moved after rounding.
            let way = numbers(&ahead).into_iter().flatten().zip(numbers(&back).into_iter().flatten());
            let said = way.zip(&gradient).map(|((ahead, back), gradient)| (ahead - back) * gradient).sum();
            Ok((above.sum - below.sum, said, 16.0 * precision * above.size.max(below.size)))
        };
        let (far, said, noise) = difference(step * length)?;
        let (near, said_near, _) = difference(0.5 * step * length)?;
        let most = far.abs().max(said.abs());
        // Curves and rounding give other differences near by; what the gradient says follows the way.
        let followed = if said == 0.0 { 2.0 } else { said / said_near };
        let steady = (far - followed * near).abs() <= STEADY * most + noise;
        if !steady || !far.is_finite() {
            continue;
        }
        if (far - said).abs() <= TOLERANCE * most + 2.0 * noise {
            right += 1;
        } else {
            wrong.push(Clear::Wrong { differences: far, gradient: said });
        }
        if right == ENOUGH {
            return Ok(Clear::Right);
        }
        if wrong.len() == ENOUGH {
            return Ok(wrong[0]);
        }
    }
    Ok(Clear::No)
}

/// `None` if they are not numbers that can be moved a little.
fn numbers(tensor: &HostTensor) -> Option<Vec<f64>> {
    match tensor.dtype() {
        DType::F32 => tensor.to_f32().map(|values| values.into_iter().map(f64::from).collect()),
        DType::F64 => tensor.elements(),
        _ => None,
    }
}

fn tensor_like(own: &HostTensor, values: &[f64]) -> Result<HostTensor, BoxError> {
    if own.dtype() == DType::F64 {
        return Ok(HostTensor::from_elements(own.dims(), values)?);
    }
    #[expect(clippy::cast_possible_truncation, reason = "the tensor is f32")]
    let narrow: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    Ok(HostTensor::from_f32(own.dims(), &narrow)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found of `f`, one number of all, whose gradient is said to be `df`.
    fn found(f: impl Fn(f64) -> f64, df: impl Fn(f64) -> f64) -> Clear {
        let own: Vec<f32> = (0..16_u8).map(|i| f32::from(i) / 8.0 - 0.96).collect();
        let of = |function: &dyn Fn(f64) -> f64| -> Vec<f64> {
            own.iter().map(|&x| function(f64::from(x))).collect()
        };
        let gradient = HostTensor::from_elements(&[16], &of(&df)).unwrap();
        let own = HostTensor::from_f32(&[16], &own).unwrap();
        clear("x", &own, Some(&gradient), |moved| {
            // Rounded as a library does.
            #[expect(clippy::cast_possible_truncation, reason = "as f32 is")]
            let terms = numbers(moved).unwrap().into_iter().map(|x| f64::from(f(x) as f32));
            Ok(terms.fold(Loss::default(), |loss, y| Loss { sum: loss.sum + y, size: loss.size + y.abs() }))
        })
        .unwrap()
    }

    #[test]
    fn whole_gradients_are_right() {
        assert_eq!(found(|x| x * x, |x| 2.0 * x), Clear::Right);
        assert_eq!(found(|x| x + x.sin(), |x| 1.0 + x.cos()), Clear::Right);
        assert_eq!(found(|x| (3.0 * x).exp(), |x| 3.0 * (3.0 * x).exp()), Clear::Right);
        assert_eq!(found(|_| 1000.0, |_| 0.0), Clear::Right);
    }

    #[test]
    fn gradients_that_were_cut_off_are_wrong() {
        assert!(matches!(found(|x| x + x.sin(), |_| 1.0), Clear::Wrong { .. }), "in part");
        assert!(matches!(found(|x| x * x, |_| 0.0), Clear::Wrong { .. }), "wholly");
        assert!(matches!(found(|_| 1.0, |_| 1.0), Clear::Wrong { .. }), "none there");
    }

    #[test]
    fn outputs_that_jump_say_nothing() {
        assert_eq!(found(|x| (x * 1e4).floor() * (x * 777.0).sin(), |_| 1e-3), Clear::No);
    }

    #[test]
    fn numbers_of_half_precision_are_too_coarse() {
        let own = HostTensor::new(DType::F16, &[1], vec![0, 0]).unwrap();
        let error = clear("w", &own, None, |_| Ok(Loss::default())).unwrap_err();
        assert!(error.to_string().starts_with("`w` is f16, "), "{error}");
    }
}
