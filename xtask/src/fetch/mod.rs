//! What is fetched, and where it is kept: libtorch and CUDA's compiler to build with, ONNX Runtime, a model
//! and Python environments to run with, as wheels of the Python package index; and programs of Debian's packages.

pub(crate) mod cache;
pub(crate) mod cuda;
pub(crate) mod debian;
pub(crate) mod environment;
pub(crate) mod libtorch;
pub(crate) mod link_stubs;
pub(crate) mod onnxruntime;
pub(crate) mod sentence_model;
pub(crate) mod voice_model;
pub(crate) mod wheel;
