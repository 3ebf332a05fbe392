//! Names of torch's classes.

use crate::description::Activation;
use crate::error::Result;
use crate::folder::settings::Settings;
use serde_json::json;

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
