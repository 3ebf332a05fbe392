//! What a combination may need of a machine, and what to say where it is missing.

use crate::fetch::{cuda, libtorch, onnxruntime};
use crate::machine::gpu;

/// Something that a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Nvcc,
    NvidiaGpu,
    MacOs,
    /// libtorch, or what it takes to get it.
    Libtorch,
    CudaLibtorch,
    /// ONNX Runtime, or what it takes to get it.
    OnnxRuntime,
    CudaOnnxRuntime,
}

impl Need {
    /// Whether this machine has it.
    pub(crate) fn met(self) -> bool {
        match self {
            Self::Nvcc => cuda::found().is_some(),
            Self::NvidiaGpu => gpu::is_there(),
            Self::MacOs => cfg!(target_os = "macos"),
            Self::Libtorch => libtorch::available(),
            Self::CudaLibtorch => libtorch::has_cuda(),
            Self::OnnxRuntime => onnxruntime::available(),
            Self::CudaOnnxRuntime => onnxruntime::has_cuda(),
        }
    }

    /// What to say where it is missing.
    pub(crate) fn lack(self) -> &'static str {
        match self {
            Self::Nvcc => "there is no nvcc: cargo xtask cuda-toolkit",
            Self::NvidiaGpu => "nvidia-smi finds no GPU",
            Self::MacOs => "metal needs macOS",
            Self::Libtorch => {
                "libtorch is missing, and only Linux on x86-64 with Python and pip can fetch it"
            }
            Self::CudaLibtorch => "there is no libtorch with CUDA: cargo xtask libtorch --from-python",
            Self::OnnxRuntime => {
                "ONNX Runtime is missing, and only Linux on x86-64 with Python and pip can fetch it"
            }
            Self::CudaOnnxRuntime => {
                "there is no ONNX Runtime with CUDA: set ORT_DYLIB_PATH to that of Python's onnxruntime-gpu"
            }
        }
    }
}
