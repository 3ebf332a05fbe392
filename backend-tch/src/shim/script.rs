//! `TorchScript` modules: tch's own give their parameters but not their buffers, and panic on results of unusual
//! types.

use super::calls::{checked, index_or_host, pointers};
use super::ffi::{self, C_tensor};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::{self, NonNull};
use tch::{TchError, Tensor};

/// A module that was read from a file.
pub(crate) struct Script(NonNull<ffi::Module>);

// SAFETY: libtorch's modules may be used from any thread, one at a time. There is one handle, and it is not
// `Sync`.
unsafe impl Send for Script {}

/// A parameter or buffer of a module.
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) parameter: bool,
    /// Shares its memory with the module.
    pub(crate) tensor: Tensor,
}

/// A value of TorchScript's language.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// `None`.
    None,
    /// An `int`.
    Int(i64),
    /// A `float`.
    Float(f64),
    /// A `bool`.
    Bool(bool),
    /// A `str`.
    Text(String),
    /// The number of rows of the batch, an `int`. For attributes only.
    Rows,
}

impl Value {
    /// The shim's number of the kind, and the value as that kind.
    fn parts(&self) -> Result<(c_int, i64, f64, CString), TchError> {
        let text = if let Self::Text(text) = self { text.as_str() } else { "" };
        let (kind, whole, number) = match *self {
            Self::None => (0, 0, 0.0),
            Self::Int(value) => (1, value, 0.0),
            Self::Float(value) => (2, 0, value),
            Self::Bool(value) => (3, i64::from(value), 0.0),
            Self::Text(_) => (4, 0, 0.0),
            Self::Rows => (5, 0, 0.0),
        };
        Ok((kind, whole, number, CString::new(text)?))
    }
}

pub(super) fn c_path(path: &Path) -> Result<CString, TchError> {
    let text =
        path.to_str().ok_or_else(|| TchError::Torch(format!("path {} is not UTF-8", path.display())))?;
    Ok(CString::new(text)?)
}

impl Script {
    /// Reads a file onto the host (`None`) or a CUDA device.
    pub(crate) fn load(file: &Path, cuda: Option<usize>) -> Result<Self, TchError> {
        let (file, index) = (c_path(file)?, index_or_host(cuda)?);
        let mut module = ptr::null_mut();
        // SAFETY: the string ends in NUL and is borrowed.
        checked(unsafe { ffi::skep_script_load(file.as_ptr(), index, &mut module) })?;
        NonNull::new(module).map(Self).ok_or_else(|| TchError::Torch("module is missing".to_owned()))
    }

    /// Chooses the method to call, with the names of the parts that it is in before it.
    pub(crate) fn method(&self, path: &str) -> Result<(), TchError> {
        let path = CString::new(path)?;
        // SAFETY: the module is ours; the string ends in NUL and is borrowed.
        checked(unsafe { ffi::skep_script_method(self.0.as_ptr(), path.as_ptr()) })
    }

    /// Gives an argument of the method a value for good.
    pub(crate) fn argument(&self, name: &str, value: &Value) -> Result<(), TchError> {
        if *value == Value::Rows {
            let wrong = format!(
                "argument `{name}` is the number of rows, expected a value: only attributes can have it"
            );
            return Err(TchError::Torch(wrong));
        }
        let (name, (kind, whole, number, text)) = (CString::new(name)?, value.parts()?);
        // SAFETY: the module is ours; the strings end in NUL and are borrowed.
        checked(unsafe {
            ffi::skep_script_argument(self.0.as_ptr(), name.as_ptr(), kind, whole, number, text.as_ptr())
        })
    }

    /// Has an attribute set before each call.
    pub(crate) fn attribute(&self, path: &str, value: &Value) -> Result<(), TchError> {
        let (path, (kind, whole, number, text)) = (CString::new(path)?, value.parts()?);
        // SAFETY: the module is ours; the strings end in NUL and are borrowed.
        checked(unsafe {
            ffi::skep_script_attribute(self.0.as_ptr(), path.as_ptr(), kind, whole, number, text.as_ptr())
        })
    }

    /// The next input is an argument, or the attribute of this path, whose rows are this dim.
    pub(crate) fn input(&self, state: Option<(&str, usize)>) -> Result<(), TchError> {
        let path = state.map(|(path, _)| CString::new(path)).transpose()?;
        let dim = state.map_or(0, |(_, dim)| i64::try_from(dim).unwrap_or(i64::MAX));
        let path = path.as_ref().map_or(ptr::null(), |path| path.as_ptr());
        // SAFETY: the module is ours; the string, where there is one, ends in NUL and is borrowed.
        checked(unsafe { ffi::skep_script_input(self.0.as_ptr(), path, dim) })
    }

    /// Checks that the method has all that it needs, and keeps no state.
    pub(crate) fn check(&self) -> Result<(), TchError> {
        // SAFETY: the module is ours.
        checked(unsafe { ffi::skep_script_check(self.0.as_ptr()) })
    }

    /// Switches between training and inference.
    pub(crate) fn train(&self, on: bool) -> Result<(), TchError> {
        // SAFETY: the module is ours.
        checked(unsafe { ffi::skep_script_train(self.0.as_ptr(), on) })
    }

    /// All parameters and buffers.
    pub(crate) fn tensors(&self) -> Result<Vec<Named>, TchError> {
        extern "C" fn each(
            context: *mut c_void,
            name: *const c_char,
            parameter: bool,
            tensor: *mut C_tensor,
        ) {
            // SAFETY: the shim hands back the context that it got below, a string that ends in NUL, and a
            // tensor that is ours.
            let (found, name, tensor) = unsafe {
                (&mut *context.cast::<Vec<Named>>(), CStr::from_ptr(name), Tensor::from_ptr(tensor))
            };
            found.push(Named { name: name.to_string_lossy().into_owned(), parameter, tensor });
        }
        let mut found: Vec<Named> = Vec::new();
        // SAFETY: the module is ours; `found` outlives the call.
        checked(unsafe { ffi::skep_script_tensors(self.0.as_ptr(), (&raw mut found).cast(), each) })?;
        Ok(found)
    }

    /// Calls the method. Each tensor of the result comes with where it was in it: `logits`, `0.1`, nothing for a result that
    /// is one tensor. What is drawn in a training step follows from `seed`.
    pub(crate) fn forward(
        &self,
        inputs: &[Tensor],
        training: bool,
        seed: u64,
    ) -> Result<Vec<(String, Tensor)>, TchError> {
        extern "C" fn each(context: *mut c_void, name: *const c_char, tensor: *mut C_tensor) {
            // SAFETY: the shim hands back the context that it got below, a string that ends in NUL, and a
            // tensor that is ours.
            let (outputs, name, tensor) = unsafe {
                (
                    &mut *context.cast::<Vec<(String, Tensor)>>(),
                    CStr::from_ptr(name),
                    Tensor::from_ptr(tensor),
                )
            };
            outputs.push((name.to_string_lossy().into_owned(), tensor));
        }
        let inputs = pointers(inputs);
        let mut outputs: Vec<(String, Tensor)> = Vec::new();
        let context = (&raw mut outputs).cast();
        // SAFETY: the module is ours; the tensors are borrowed; `outputs` outlives the call.
        checked(unsafe {
            ffi::skep_script_forward(
                self.0.as_ptr(),
                inputs.as_ptr(),
                inputs.len(),
                training,
                seed,
                context,
                each,
            )
        })?;
        Ok(outputs)
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // SAFETY: the module is ours, and is not used again.
        unsafe { ffi::skep_script_free(self.0.as_ptr()) }
    }
}

/// Writes a `TorchScript` file: methods as source text, and what they find under `self`, each with whether it is
/// trained.
pub(crate) fn save_script(
    source: &str,
    values: &[(&str, Tensor, bool)],
    file: &Path,
) -> Result<(), TchError> {
    let (source, file) = (CString::new(source)?, c_path(file)?);
    let names = values.iter().map(|(name, ..)| CString::new(*name)).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let tensors = pointers(values.iter().map(|(_, tensor, _)| tensor));
    let trainable: Vec<bool> = values.iter().map(|(.., trainable)| *trainable).collect();
    // SAFETY: the strings end in NUL; all that is pointed to is borrowed, `values.len()` of each.
    checked(unsafe {
        ffi::skep_script_save(
            source.as_ptr(),
            names.as_ptr(),
            tensors.as_ptr(),
            trainable.as_ptr(),
            values.len(),
            file.as_ptr(),
        )
    })
}
