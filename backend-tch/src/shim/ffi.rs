//! The declarations of the files in `shim`, which say what each does.

use std::ffi::{c_char, c_int, c_void};

/// A `torch::Tensor`, as torch-sys has it.
pub(super) use torch_sys::C_tensor;

/// A `Script` of the shim: a module, and how it is called.
#[repr(C)]
pub(super) struct Module {
    _opaque: [u8; 0],
}

/// A `Package` of the shim: compiled code.
#[repr(C)]
pub(super) struct Compiled {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    pub(super) fn skep_last_error() -> *const c_char;
    pub(super) fn skep_describe(
        tensor: *const C_tensor,
        dtype: &mut c_int,
        dims: *mut i64,
        capacity: usize,
        rank: &mut usize,
    ) -> c_int;
    pub(super) fn skep_from_bytes(
        bytes: *const u8,
        count: usize,
        dims: *const i64,
        rank: usize,
        dtype: c_int,
        out: &mut *mut C_tensor,
    ) -> c_int;
    pub(super) fn skep_to_bytes(tensor: *const C_tensor, bytes: *mut u8, count: usize) -> c_int;
    pub(super) fn skep_join(
        parts: *const *const C_tensor,
        count: usize,
        index: c_int,
        limit: u64,
        bytes: &mut u64,
        out: &mut *mut C_tensor,
    ) -> c_int;
    pub(super) fn skep_join_padded(
        parts: *const *const C_tensor,
        count: usize,
        dims: *const i64,
        rank: usize,
        element: *const u8,
        item: usize,
        index: c_int,
        limit: u64,
        bytes: &mut u64,
        out: &mut *mut C_tensor,
    ) -> c_int;
    pub(super) fn skep_to_host(tensor: *const C_tensor, out: &mut *mut C_tensor) -> c_int;
    pub(super) fn skep_cuda_count(count: &mut c_int) -> c_int;
    pub(super) fn skep_flush_denormals();
    pub(super) fn skep_grad_mode() -> bool;
    pub(super) fn skep_pack_linear(weight: *const C_tensor, out: &mut *mut C_tensor) -> c_int;
    pub(super) fn skep_packed_linear(
        x: *const C_tensor,
        packed: *const C_tensor,
        bias: *const C_tensor,
        function: *const c_char,
        out: &mut *mut C_tensor,
    ) -> c_int;
    pub(super) fn skep_set_grad_mode(on: bool) -> bool;
    pub(super) fn skep_synchronize(index: c_int) -> c_int;
    pub(super) fn skep_swap_threads(count: c_int) -> c_int;
    pub(super) fn skep_empty_cache() -> c_int;
    pub(super) fn skep_memory(index: c_int, free: &mut u64, total: &mut u64) -> c_int;
    pub(super) fn skep_place(
        tensor: *const C_tensor,
        identity: &mut u64,
        storage: &mut u64,
        begin: &mut u64,
        end: &mut u64,
    ) -> c_int;
    pub(super) fn skep_same(a: *const C_tensor, b: *const C_tensor, same: &mut bool) -> c_int;
    pub(super) fn skep_copy(tensor: *const C_tensor, out: &mut *mut C_tensor) -> c_int;
    pub(super) fn skep_load_cuda() -> c_int;
    pub(super) fn skep_gradients(
        outputs: *const *const C_tensor,
        gradients: *const *const C_tensor,
        count: usize,
        leaves: *const *const C_tensor,
        leaf_count: usize,
        out: *mut *mut C_tensor,
    ) -> c_int;
    pub(super) fn skep_script_save(
        source: *const c_char,
        names: *const *const c_char,
        values: *const *const C_tensor,
        trainable: *const bool,
        count: usize,
        file: *const c_char,
    ) -> c_int;
    pub(super) fn skep_script_load(file: *const c_char, index: c_int, out: &mut *mut Module) -> c_int;
    pub(super) fn skep_script_method(module: *mut Module, path: *const c_char) -> c_int;
    pub(super) fn skep_script_argument(
        module: *mut Module,
        name: *const c_char,
        kind: c_int,
        whole: i64,
        number: f64,
        text: *const c_char,
    ) -> c_int;
    pub(super) fn skep_script_attribute(
        module: *mut Module,
        path: *const c_char,
        kind: c_int,
        whole: i64,
        number: f64,
        text: *const c_char,
    ) -> c_int;
    pub(super) fn skep_script_input(module: *mut Module, path: *const c_char, batch_dim: i64) -> c_int;
    pub(super) fn skep_script_check(module: *mut Module) -> c_int;
    pub(super) fn skep_script_free(module: *mut Module);
    pub(super) fn skep_script_train(module: *mut Module, on: bool) -> c_int;
    pub(super) fn skep_script_tensors(
        module: *const Module,
        context: *mut c_void,
        each: extern "C" fn(*mut c_void, *const c_char, bool, *mut C_tensor),
    ) -> c_int;
    pub(super) fn skep_script_forward(
        module: *mut Module,
        inputs: *const *const C_tensor,
        count: usize,
        training: bool,
        seed: u64,
        context: *mut c_void,
        each: extern "C" fn(*mut c_void, *const c_char, *mut C_tensor),
    ) -> c_int;
    pub(super) fn skep_package_metadata(
        file: *const c_char,
        context: *mut c_void,
        each: extern "C" fn(*mut c_void, *const c_char, *const c_char),
    ) -> c_int;
    pub(super) fn skep_package_load(
        file: *const c_char,
        index: c_int,
        context: *mut c_void,
        each: extern "C" fn(*mut c_void, *const c_char),
        out: &mut *mut Compiled,
    ) -> c_int;
    pub(super) fn skep_package_run(
        package: *mut Compiled,
        inputs: *const *const C_tensor,
        count: usize,
        context: *mut c_void,
        each: extern "C" fn(*mut c_void, *mut C_tensor),
    ) -> c_int;
    pub(super) fn skep_package_free(package: *mut Compiled);
}
