//! `TorchScript` modules: tch's own give their parameters but not their buffers, and panic on results of unusual
//! types.

use super::calls::{checked, index_or_host, pointers};
use super::ffi::{self, C_tensor};
use std::ffi::{CStr, CString, c_char, c_void};
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

fn c_path(path: &Path) -> Result<CString, TchError> {
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

    /// Runs the module.
    pub(crate) fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
        extern "C" fn each(context: *mut c_void, tensor: *mut C_tensor) {
            // SAFETY: the shim hands back the context that it got below, and a tensor that is ours.
            let (outputs, tensor) =
                unsafe { (&mut *context.cast::<Vec<Tensor>>(), Tensor::from_ptr(tensor)) };
            outputs.push(tensor);
        }
        let inputs = pointers(inputs);
        let mut outputs: Vec<Tensor> = Vec::new();
        let context = (&raw mut outputs).cast();
        // SAFETY: the module is ours; the tensors are borrowed; `outputs` outlives the call.
        checked(unsafe {
            ffi::skep_script_forward(self.0.as_ptr(), inputs.as_ptr(), inputs.len(), context, each)
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
