//! Compiled packages.

use super::calls::{checked, index_or_host, pointers};
use super::ffi::{self, C_tensor};
use super::script::c_path;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};
use std::path::Path;
use std::ptr::{self, NonNull};
use tch::{TchError, Tensor};

/// The code of a package, loaded.
pub(crate) struct Compiled(NonNull<ffi::Compiled>);

// SAFETY: libtorch's loader may be used from any thread, one at a time. There is one handle, and it is not `Sync`.
unsafe impl Send for Compiled {}

/// What a package tells of itself, without its code being loaded.
pub(crate) fn package_metadata(file: &Path) -> Result<BTreeMap<String, String>, TchError> {
    extern "C" fn each(context: *mut c_void, key: *const c_char, value: *const c_char) {
        // SAFETY: the shim hands back the context that it got below, and strings that end in NUL.
        let (found, key, value) = unsafe {
            (&mut *context.cast::<BTreeMap<String, String>>(), CStr::from_ptr(key), CStr::from_ptr(value))
        };
        found.insert(key.to_string_lossy().into_owned(), value.to_string_lossy().into_owned());
    }
    let file = c_path(file)?;
    let mut found = BTreeMap::new();
    // SAFETY: the string ends in NUL and is borrowed; `found` outlives the call.
    checked(unsafe { ffi::skep_package_metadata(file.as_ptr(), (&raw mut found).cast(), each) })?;
    Ok(found)
}

impl Compiled {
    /// Loads a package's code for the host (`None`) or a CUDA device. The texts tell in JSON how its inputs and outputs are
    /// nested.
    pub(crate) fn load(file: &Path, cuda: Option<usize>) -> Result<(Self, Vec<String>), TchError> {
        extern "C" fn each(context: *mut c_void, text: *const c_char) {
            // SAFETY: the shim hands back the context that it got below, and a string that ends in NUL.
            let (found, text) = unsafe { (&mut *context.cast::<Vec<String>>(), CStr::from_ptr(text)) };
            found.push(text.to_string_lossy().into_owned());
        }
        let (file, index) = (c_path(file)?, index_or_host(cuda)?);
        let mut texts: Vec<String> = Vec::new();
        let mut package = ptr::null_mut();
        // SAFETY: the string ends in NUL and is borrowed; `texts` outlives the call.
        checked(unsafe {
            ffi::skep_package_load(file.as_ptr(), index, (&raw mut texts).cast(), each, &mut package)
        })?;
        let package = NonNull::new(package).map(Self);
        Ok((package.ok_or_else(|| TchError::Torch("package is missing".to_owned()))?, texts))
    }

    /// Runs it. There must be as many inputs as it takes.
    pub(crate) fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
        extern "C" fn each(context: *mut c_void, tensor: *mut C_tensor) {
            // SAFETY: the shim hands back the context that it got below, and a tensor that is ours.
            let (outputs, tensor) =
                unsafe { (&mut *context.cast::<Vec<Tensor>>(), Tensor::from_ptr(tensor)) };
            outputs.push(tensor);
        }
        let inputs = pointers(inputs);
        let mut outputs: Vec<Tensor> = Vec::new();
        let context = (&raw mut outputs).cast();
        // SAFETY: the package is ours; the tensors are borrowed; `outputs` outlives the call.
        checked(unsafe {
            ffi::skep_package_run(self.0.as_ptr(), inputs.as_ptr(), inputs.len(), context, each)
        })?;
        Ok(outputs)
    }
}

impl Drop for Compiled {
    fn drop(&mut self) {
        // SAFETY: the package is ours, and is not used again.
        unsafe { ffi::skep_package_free(self.0.as_ptr()) }
    }
}
