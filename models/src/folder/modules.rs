//! The files of sentence-transformers: `modules.json`, the folders that it names, and
//! `config_sentence_transformers.json`.

use crate::description::{Activation, Description, Pool, Step};
use crate::error::{ModelError, Result, shown};
use crate::folder::Parts;
use crate::folder::files::Folder;
use crate::folder::parameters::{Bias, Parameters};
use crate::folder::settings::Settings;
use crate::model::{Prompts, Similarity};
use serde_json::{Value, json};
use std::path::{Component, Path};

const MODULES: &str = "modules.json";
const SENTENCE: &str = "config_sentence_transformers.json";
/// The names that the settings of the first module have had.
const TRANSFORMER: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];
/// Of `torch.nn.LayerNorm`, which writes it nowhere.
const NORM_EPS: f64 = 1e-5;

/// What `config_sentence_transformers.json` says.
#[derive(Debug, Default)]
pub(crate) struct Sentence {
    /// `SentenceTransformer` or `CrossEncoder`; `None` without the file.
    cross_encoder: bool,
    pub(crate) prompts: Prompts,
    pub(crate) default_prompt: Option<String>,
    pub(crate) similarity: Option<Similarity>,
    /// What a cross-encoder does with its number.
    pub(crate) activation: Option<Activation>,
    truncate: Option<usize>,
}

impl Sentence {
    pub(crate) fn read(folder: &Folder) -> Result<Self> {
        let Some(mut settings) = folder.optional_settings(SENTENCE)? else { return Ok(Self::default()) };
        settings.skip(&["__version__"]);
        let kind = settings.optional_text("model_type")?;
        let cross_encoder = match kind.as_deref() {
            None | Some("SentenceTransformer") => false,
            Some("CrossEncoder") => true,
            Some(other) => {
                let expected = "SentenceTransformer or CrossEncoder";
                return Err(settings.invalid("model_type", &json!(other), expected));
            }
        };
        let mut prompts = Prompts::new();
        if let Some(inner) = settings.optional_inner("prompts")? {
            for (name, prompt) in inner.rest() {
                let prompt = match &prompt {
                    Value::String(prompt) => prompt.clone(),
                    Value::Null => String::new(),
                    other => return Err(settings.invalid(&format!("prompts.{name}"), other, "a text")),
                };
                prompts.insert(name, prompt);
            }
        }
        let default_prompt = settings.optional_text("default_prompt_name")?;
        if let Some(name) = default_prompt.as_ref().filter(|name| !prompts.contains_key(*name)) {
            let known: Vec<&str> = prompts.keys().map(String::as_str).collect();
            let expected = format!("one of `prompts`: {}", known.join(", "));
            return Err(settings.invalid("default_prompt_name", &json!(name), expected));
        }
        let similarity = match settings.optional_text("similarity_fn_name")?.as_deref() {
            None => None,
            Some("cosine") => Some(Similarity::Cosine),
            Some("dot") => Some(Similarity::Dot),
            Some("euclidean") => Some(Similarity::Euclidean),
            Some("manhattan") => Some(Similarity::Manhattan),
            Some(other) => {
                let expected = "cosine, dot, euclidean or manhattan";
                return Err(settings.invalid("similarity_fn_name", &json!(other), expected));
            }
        };
        let activation = torch_activation(&mut settings, "activation_fn")?;
        let truncate = settings.optional_size("truncate_dim")?;
        settings.finish()?;
        Ok(Self { cross_encoder, prompts, default_prompt, similarity, activation, truncate })
    }

    pub(crate) fn is_cross_encoder(&self) -> bool {
        self.cross_encoder
    }

    /// Cuts an embedding to its first numbers, as they are: they are not brought to a unit length again.
    pub(crate) fn truncate(&mut self, description: &mut Description) -> Result<()> {
        let Some(size) = self.truncate else { return Ok(()) };
        if size > description.output {
            let expected = format!("at most the {} numbers that the model gives", description.output);
            return Err(ModelError::value(SENTENCE, "truncate_dim", size, expected));
        }
        description.steps.push(Step::Truncate(size));
        description.output = size;
        Ok(())
    }
}

/// What the settings of the first module say about tokens.
#[derive(Debug, Default)]
pub(crate) struct Transformer {
    pub(crate) max_tokens: Option<usize>,
    pub(crate) lower_case: bool,
    /// Texts go in as they are, and through no template of a conversation.
    pub(crate) plain_text: bool,
}

/// Reads the settings of the first module, if there are any.
pub(crate) fn transformer(folder: &Folder, cross_encoder: bool) -> Result<Transformer> {
    let Some(name) = TRANSFORMER.iter().find(|name| folder.has(name)) else {
        return Ok(Transformer::default());
    };
    let mut settings = folder.settings(name, "the settings of the first module")?;
    let (task, output, method_output) = if cross_encoder {
        ("sequence-classification", "scores", "logits")
    } else {
        ("feature-extraction", "token_embeddings", "last_hidden_state")
    };
    settings.only("transformer_task", &[json!(task)])?;
    settings.only("module_output_name", &[json!(output)])?;
    let mut plain_text = false;
    if let Some(mut modalities) = settings.optional_inner("modality_config")? {
        modalities.only("text", &[json!({"method": "forward", "method_output_name": method_output})])?;
        modalities.finish()?;
        plain_text = true;
    }
    settings.only("processing_kwargs", &[json!({})])?;
    for key in
        ["model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs"]
    {
        settings.only(key, &[json!({})])?;
    }
    for key in ["query_length", "document_length", "query_expansion", "tokenizer_name_or_path"] {
        settings.only(key, &[])?;
    }
    settings.skip(&["unpad_inputs"]);
    let max_tokens = settings.optional_size("max_seq_length")?;
    let lower_case = settings.flag_or("do_lower_case", false)?;
    settings.finish()?;
    Ok(Transformer { max_tokens, lower_case, plain_text })
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
        let (Some(pooling), steps) = (self.others.first(), self.others.get(1..).unwrap_or_default()) else {
            let expected = "a Pooling after the Transformer: without one there is no vector for a text";
            return Err(ModelError::NoKey { file, key: "1.type".to_owned(), expected: expected.to_owned() });
        };
        if pooling.kind != ModuleKind::Pooling {
            let got = format!("{:?}", pooling.kind);
            return Err(ModelError::value(file, "1.type", got, "Pooling, right after the Transformer"));
        }
        let (pools, without_prompt) = read_pooling(&root.inner(&pooling.path), hidden)?;
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

/// The booleans of before version 6, in the order in which what they ask for is joined.
const OLD_POOLS: [(&str, Pool); 6] = [
    ("pooling_mode_cls_token", Pool::First),
    ("pooling_mode_max_tokens", Pool::Max),
    ("pooling_mode_mean_tokens", Pool::Mean),
    ("pooling_mode_mean_sqrt_len_tokens", Pool::MeanSqrt),
    ("pooling_mode_weightedmean_tokens", Pool::WeightedMean),
    ("pooling_mode_lasttoken", Pool::Last),
];

fn read_pooling(folder: &Folder, hidden: usize) -> Result<(Vec<Pool>, bool)> {
    let mut settings = folder.settings("config.json", "the settings of the pooling")?;
    for key in ["embedding_dimension", "word_embedding_dimension"] {
        if let Some(size) = settings.optional_size(key)?
            && size != hidden
        {
            return Err(settings.invalid(key, &json!(size), format!("{hidden}, the model's hidden size")));
        }
    }
    let mut old = Vec::new();
    for (key, pool) in OLD_POOLS {
        if settings.flag_or(key, false)? {
            old.push(pool);
        }
    }
    let pools = match settings.take("pooling_mode") {
        None if old.is_empty() => vec![Pool::Mean],
        None => old,
        Some(value) => {
            let names = match &value {
                Value::Array(names) if !names.is_empty() => names.clone(),
                name => vec![name.clone()],
            };
            let pools: Option<Vec<Pool>> = names.iter().map(|name| pool_of(name.as_str()?)).collect();
            let expected =
                "cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken, or a list of these";
            pools.ok_or_else(|| settings.invalid("pooling_mode", &value, expected))?
        }
    };
    // What is joined is as long as all of them together: a list without an end is no model's.
    if pools.len() > OLD_POOLS.len() {
        return Err(settings.invalid("pooling_mode", &json!(pools.len()), "at most 6 ways"));
    }
    let without_prompt = !settings.flag_or("include_prompt", true)?;
    settings.finish()?;
    Ok((pools, without_prompt))
}

fn pool_of(name: &str) -> Option<Pool> {
    Some(match name {
        "cls" => Pool::First,
        "max" => Pool::Max,
        "mean" => Pool::Mean,
        "mean_sqrt_len_tokens" => Pool::MeanSqrt,
        "weightedmean" => Pool::WeightedMean,
        "lasttoken" => Pool::Last,
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

/// An activation by the name of its class in torch. Another one would become the library's default, with a warning.
pub(crate) fn torch_activation(settings: &mut Settings, key: &str) -> Result<Option<Activation>> {
    let Some(name) = settings.optional_text(key)? else { return Ok(None) };
    let class = name.strip_prefix("torch.nn.").map(|rest| rest.rsplit('.').next().unwrap_or(rest));
    Ok(Some(match class {
        Some("Identity") => Activation::Identity,
        Some("Tanh") => Activation::Tanh,
        Some("Sigmoid") => Activation::Sigmoid,
        Some("ReLU") => Activation::Relu,
        Some("GELU") => Activation::Gelu,
        Some("SiLU") => Activation::Silu,
        _ => {
            let expected = "Identity, Tanh, Sigmoid, ReLU, GELU or SiLU of torch.nn";
            return Err(settings.invalid(key, &json!(name), expected));
        }
    }))
}
