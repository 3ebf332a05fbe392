//! `modules.json` of sentence-transformers, and the folders that it names.

use crate::description::{Activation, Pool, Step};
use crate::error::{ModelError, Result, shown};
use crate::folder::files::Folder;
use crate::folder::parameters::{Bias, Parameters};
use crate::folder::pooling;
use crate::folder::settings::Settings;
use crate::folder::torch::torch_activation;
use serde_json::{Value, json};
use std::path::{Component, Path};

const MODULES: &str = "modules.json";
/// Of `torch.nn.LayerNorm`, which writes it nowhere.
const NORM_EPS: f64 = 1e-5;

/// What comes after the encoder.
pub(crate) struct Parts {
    pub(crate) pooling: Vec<Pool>,
    pub(crate) steps: Vec<Step>,
    pub(crate) output: usize,
    pub(crate) without_prompt: bool,
}

/// What `modules.json` lists.
#[derive(Debug)]
pub(crate) struct Modules {
    /// The folder of the encoder, in the folder.
    pub(crate) encoder: String,
    /// The others, in order.
    others: Vec<Module>,
}

#[derive(Debug)]
struct Module {
    kind: ModuleKind,
    path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ModuleKind {
    Transformer,
    Pooling,
    Dense,
    Normalize,
    LayerNorm,
    Dropout,
}

impl Modules {
    /// Reads `modules.json`, if it is there.
    pub(crate) fn read(folder: &Folder) -> Result<Option<Self>> {
        let Some(value) = folder.json(MODULES)? else { return Ok(None) };
        let file = folder.file(MODULES);
        let list = match &value {
            Value::Array(list) if !list.is_empty() => list,
            other => return Err(ModelError::form(file, shown(other), "a list of modules")),
        };
        let mut modules = Vec::with_capacity(list.len());
        for (i, entry) in list.iter().enumerate() {
            let mut settings = Settings::of(file.clone(), entry.clone(), &[])?;
            settings.only("idx", &[json!(i)])?;
            settings.skip(&["name"]);
            settings.only("kwargs", &[json!([])])?;
            let path = settings.text("path", "the folder of the module, \"\" for this one")?;
            if !stays_inside(&path) {
                let key = format!("{i}.path");
                return Err(ModelError::value(file, key, format!("{path:?}"), "a folder in this one"));
            }
            let name = settings.text("type", "the type of the module")?;
            let kind = kind_of(&name).ok_or_else(|| {
                let expected =
                    "Transformer, Pooling, Dense, Normalize, LayerNorm or Dropout of sentence_transformers";
                ModelError::value(&file, format!("{i}.type"), format!("{name:?}"), expected)
            })?;
            settings.finish()?;
            modules.push(Module { kind, path });
        }
        let first = modules.remove(0);
        let misplaced = |wanted: &str, i: usize, got: ModuleKind| {
            ModelError::value(&file, format!("{i}.type"), format!("{got:?}"), wanted)
        };
        if first.kind != ModuleKind::Transformer {
            return Err(misplaced("Transformer, which comes first", 0, first.kind));
        }
        if let Some(second) = modules.iter().position(|module| module.kind == ModuleKind::Transformer) {
            return Err(misplaced("Transformer once", second + 1, ModuleKind::Transformer));
        }
        Ok(Some(Self { encoder: first.path, others: modules }))
    }

    /// Refuses modules after the first: a cross-encoder has none that Skep computes.
    pub(crate) fn alone(&self, root: &Folder) -> Result<()> {
        match self.others.first() {
            None => Ok(()),
            Some(other) => {
                let (file, got) = (root.file(MODULES), format!("{:?}", other.kind));
                Err(ModelError::value(file, "1.type", got, "nothing after the Transformer of a CrossEncoder"))
            }
        }
    }

    /// Reads the modules' own folders.
    pub(crate) fn parts(&self, root: &Folder, parameters: &mut Parameters, hidden: usize) -> Result<Parts> {
        let file = root.file(MODULES);
        let (Some(first), steps) = (self.others.first(), self.others.get(1..).unwrap_or_default()) else {
            let expected = "a Pooling after the Transformer: without one there is no vector for a text";
            return Err(ModelError::NoKey { file, key: "1.type".to_owned(), expected: expected.to_owned() });
        };
        if first.kind != ModuleKind::Pooling {
            let got = format!("{:?}", first.kind);
            return Err(ModelError::value(file, "1.type", got, "Pooling, right after the Transformer"));
        }
        let (pools, without_prompt) = pooling::read(&root.inner(&first.path), hidden)?;
        let mut parts =
            Parts { output: hidden * pools.len(), pooling: pools, steps: Vec::new(), without_prompt };
        for module in steps {
            let folder = root.inner(&module.path);
            match module.kind {
                ModuleKind::Dense => read_dense(&folder, &module.path, parameters, &mut parts)?,
                ModuleKind::Normalize => {
                    if let Some(mut settings) = folder.optional_settings("config.json")? {
                        of_sentence(&mut settings)?;
                        settings.finish()?;
                    }
                    parts.steps.push(Step::UnitLength);
                }
                ModuleKind::LayerNorm => read_norm(&folder, &module.path, parameters, &mut parts)?,
                ModuleKind::Dropout => {
                    if let Some(mut settings) = folder.optional_settings("config.json")? {
                        settings.skip(&["dropout"]);
                        settings.finish()?;
                    }
                }
                ModuleKind::Pooling | ModuleKind::Transformer => {
                    let got = format!("a second {:?}", module.kind);
                    return Err(ModelError::value(
                        file,
                        "type",
                        got,
                        "Dense, Normalize, LayerNorm or Dropout",
                    ));
                }
            }
        }
        Ok(parts)
    }
}

/// Relative, and never up.
fn stays_inside(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// The module that the library has under this name; in version 6 its modules have moved.
fn kind_of(name: &str) -> Option<ModuleKind> {
    let own = name.strip_prefix("sentence_transformers.")?;
    let (module, class) = own.rsplit_once('.')?;
    let known = ["models", "base.modules", "sentence_transformer.modules", "cross_encoder.modules"];
    let in_known = known
        .iter()
        .any(|known| module.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')));
    if !in_known {
        return None;
    }
    Some(match class {
        "Transformer" => ModuleKind::Transformer,
        "Pooling" => ModuleKind::Pooling,
        "Dense" => ModuleKind::Dense,
        "Normalize" => ModuleKind::Normalize,
        "LayerNorm" => ModuleKind::LayerNorm,
        "Dropout" => ModuleKind::Dropout,
        _ => return None,
    })
}

/// Modules that work on tokens' vectors or on something else are not those that Skep computes.
fn of_sentence(settings: &mut Settings) -> Result<()> {
    settings.only("module_input_name", &[json!("sentence_embedding")])?;
    settings.only("module_output_name", &[json!("sentence_embedding")])
}

fn read_dense(folder: &Folder, path: &str, parameters: &mut Parameters, parts: &mut Parts) -> Result<()> {
    let mut settings = folder.settings("config.json", "the settings of the Dense module")?;
    let (input, output) = (settings.size("in_features")?, settings.size("out_features")?);
    if input != parts.output {
        let expected = format!("{}, the numbers that come out of the module before", parts.output);
        return Err(settings.invalid("in_features", &json!(input), expected));
    }
    let bias: Bias = settings.flag_or("bias", true)?.into();
    of_sentence(&mut settings)?;
    settings.only("use_residual", &[json!(false)])?;
    let activation = torch_activation(&mut settings, "activation_function")?.unwrap_or(Activation::Tanh);
    settings.finish()?;
    parameters.weights.add_module(folder, path)?;
    let linear = parameters.under(format!("{path}.")).linear("linear", input, output, bias)?;
    parts.steps.push(Step::Linear(linear));
    if activation != Activation::Identity {
        parts.steps.push(Step::Activation(activation));
    }
    parts.output = output;
    Ok(())
}

fn read_norm(folder: &Folder, path: &str, parameters: &mut Parameters, parts: &mut Parts) -> Result<()> {
    let mut settings = folder.settings("config.json", "the settings of the LayerNorm module")?;
    let size = settings.size("dimension")?;
    if size != parts.output {
        let expected = format!("{}, the numbers that come out of the module before", parts.output);
        return Err(settings.invalid("dimension", &json!(size), expected));
    }
    settings.finish()?;
    parameters.weights.add_module(folder, path)?;
    let norm = parameters.under(format!("{path}.")).norm("norm", size, NORM_EPS, Bias::Yes)?;
    parts.steps.push(Step::Norm(norm));
    Ok(())
}
