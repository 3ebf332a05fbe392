use crate::{copies, ids, noise, values};
use skep_backend_tch::prelude::*;
use skep_backend_tch::runtime::DeviceError;
use skep_backend_tch::tch::{Device as Place, Kind};

#[test]
fn scatter_gives_back_what_was_gathered() {
    let device = TchDevice::cpu();
    let parts = [noise(&[1, 3, 2], 1), noise(&[4, 3, 2], 2), noise(&[2, 3, 2], 3)];
    let batch = device.gather(&copies(&parts)).unwrap();
    assert_eq!(device.describe(&batch).unwrap().dims, [7, 3, 2]);
    let back = device.scatter(batch, &[1, 4, 2]).unwrap();
    for (back, part) in back.iter().zip(&parts) {
        assert_eq!((back.size(), values(back)), (part.size(), values(part)));
    }
}

#[test]
fn outputs_share_memory_unless_each_is_to_have_its_own() {
    let reaches_the_batch = |device: TchDevice| {
        let batch = noise(&[7, 3], 1);
        let before = values(&batch);
        let mut parts = device.scatter(batch.shallow_clone(), &[1, 4, 2]).unwrap();
        assert_eq!(parts.iter().map(values).collect::<Vec<_>>().concat(), before);
        let _ = parts[1].f_fill_(9.0).unwrap();
        values(&batch) != before
    };
    assert!(reaches_the_batch(TchDevice::cpu()));
    assert!(!reaches_the_batch(TchDevice::cpu().with_own_outputs()));
}

#[test]
fn split_and_join_are_each_others_inverse() {
    let device = TchDevice::cpu();
    let whole = noise(&[5, 2], 1);
    let parts = device.split(&whole, &[2, 3]).unwrap();
    assert_eq!(parts[1].size(), [3, 2]);
    assert_eq!(values(&device.join(parts).unwrap()), values(&whole));
}

#[test]
fn views_are_gathered_like_whole_tensors() {
    let device = TchDevice::cpu();
    let turned = noise(&[2, 3], 1).f_transpose(0, 1).unwrap();
    let tail = noise(&[5, 2], 2).f_narrow(0, 3, 2).unwrap();
    let expected = [values(&turned), values(&tail)].concat();
    let batch = device.gather(&[turned.shallow_clone(), tail]).unwrap();
    assert_eq!(values(&batch), expected);
    assert!(device.gather(&[turned]).unwrap().is_contiguous());
}

#[test]
fn a_callers_graph_does_not_reach_the_batch() {
    let device = TchDevice::cpu();
    let part = noise(&[1, 2], 1).f_set_requires_grad(true).unwrap().f_mul_scalar(2.0).unwrap();
    assert!(part.requires_grad());
    assert!(!device.gather(&[part.shallow_clone()]).unwrap().requires_grad());
    assert!(!device.gather(&[part.shallow_clone(), part]).unwrap().requires_grad());
}

#[test]
fn a_tensor_beyond_the_limit_is_refused_with_a_typed_error() {
    let device = TchDevice::cpu_with(CpuOptions { max_bytes: Some(64), ..CpuOptions::default() });
    assert!(device.gather(&[noise(&[8, 1], 1), noise(&[8, 1], 2)]).is_ok());
    let error = device.gather(&[noise(&[8, 1], 1), noise(&[9, 1], 2)]).unwrap_err();
    assert!(matches!(error, DeviceError::OutOfMemory { .. }), "{error}");
    let text = "out of memory on cpu: a tensor of 68 bytes is too large for the host, expected at most 64";
    assert!(error.to_string().starts_with(text), "{error}");

    let large = HostTensor::zeros(DType::U8, &[65]).unwrap();
    assert!(matches!(device.from_host(&large), Err(DeviceError::OutOfMemory { .. })));
}

#[test]
fn a_block_beyond_the_limit_is_not_loaded() {
    use skep_backend_tch::blocks::{Activation, Ffn};
    let huge = Ffn { input: 1 << 40, hidden: 1 << 40, output: 1, activation: Activation::Relu };
    let error = huge.block("huge").unwrap().load(&TchDevice::cpu()).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(DeviceError::OutOfMemory { .. })), "{error}");
}

#[test]
fn plain_bytes_survive_the_way_there_and_back() {
    let device = TchDevice::cpu();
    for dtype in [
        DType::Bool,
        DType::U8,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::U32,
        DType::I64,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
    ] {
        let bytes: Vec<u8> = (1u8..).take(6 * dtype.size()).collect();
        let host = HostTensor::new(dtype, &[3, 2], bytes).unwrap();
        let tensor = device.from_host(&host).unwrap();
        assert_eq!(device.describe(&tensor).unwrap().dtype, dtype);
        assert_eq!(device.to_host(&tensor).unwrap(), host);
        let turned = tensor.f_transpose(0, 1).unwrap();
        assert_eq!(device.to_host(&turned).unwrap().dims(), [2, 3]);
    }
}

#[test]
fn tensors_of_every_type_are_gathered_and_scattered() {
    let device = TchDevice::cpu();
    for dtype in [DType::Bool, DType::U32, DType::F16, DType::BF16, DType::I64] {
        let part = |rows: usize| {
            let bytes = (0..2 * rows * dtype.size()).map(|i| u8::from(i % 3 == 0)).collect();
            HostTensor::new(dtype, &[rows, 2], bytes).unwrap()
        };
        let (one, two) = (part(1), part(2));
        let both = [&one, &two].map(|part| device.from_host(part).unwrap());
        let batch = device.gather(&both).unwrap();
        let back = device.scatter(batch, &[1, 2]).unwrap();
        assert_eq!((device.to_host(&back[0]).unwrap(), device.to_host(&back[1]).unwrap()), (one, two));
    }
}

#[test]
fn tensors_that_the_runtime_cannot_use_are_refused_without_a_panic() {
    let device = TchDevice::cpu();
    let error = device.describe(&Tensor::new()).unwrap_err();
    assert_eq!(error.to_string(), "tensor is undefined, expected one with elements");
    let odd = Tensor::f_zeros([1], (Kind::ComplexFloat, Place::Cpu)).unwrap();
    let error = device.describe(&odd).unwrap_err().to_string();
    assert!(error.starts_with("dtype 9 of libtorch is not supported, expected one of bool, u8"), "{error}");
    let sparse = noise(&[2, 2], 1).f_to_sparse_sparse_dim(2).unwrap();
    let error = device.gather(&[sparse]).unwrap_err();
    assert_eq!(error.to_string(), "tensor has layout Sparse, expected Strided");
}

#[test]
fn exceptions_of_libtorch_are_errors_without_a_call_stack() {
    let device = TchDevice::cpu();
    let error = device.gather(&[noise(&[1, 2], 1), noise(&[1, 3], 1)]).unwrap_err();
    assert!(matches!(error, DeviceError::Operation(_)));
    assert!(error.to_string().starts_with("Sizes of tensors must match except in dimension 0"), "{error}");
    assert!(!error.to_string().contains("frame #"), "{error}");
    let error =
        device.failure(noise(&[1], 1).f_expand([1_i64 << 50], false).unwrap().f_contiguous().unwrap_err());
    assert!(matches!(error, DeviceError::OutOfMemory { .. }), "{error}");
}

#[test]
fn the_first_index_out_of_range_is_found() {
    let device = TchDevice::cpu();
    let all = ids(&[2, 2], &[3, 7, 9, 8]);
    assert_eq!(device.index_outside(&all, 10).unwrap(), None);
    assert_eq!(device.index_outside(&all, 8).unwrap(), Some(9));
    assert_eq!(device.index_outside(&all.f_transpose(0, 1).unwrap(), 7).unwrap(), Some(9));
    assert_eq!(device.index_outside(&all.f_narrow(0, 0, 1).unwrap(), 8).unwrap(), None);
    assert_eq!(device.index_outside(&Tensor::from_slice(&[0u8, 255]), 255).unwrap(), Some(255));
    assert_eq!(device.index_outside(&Tensor::from_slice(&[1i64, -2]), 5).unwrap(), Some(-2));
    let error = device.index_outside(&noise(&[2], 1), 5).unwrap_err();
    assert_eq!(error.to_string(), "tensor has dtype f32, expected integers");
}

#[test]
fn a_cuda_device_that_is_not_there_is_named() {
    if let Err(error) = TchDevice::cuda(0) {
        assert!(error.to_string().starts_with("cuda:0 is not available: "), "{error}");
    }
    let error = TchDevice::cuda(1000).unwrap_err().to_string();
    assert!(error.starts_with("cuda:1000 is not available: "), "{error}");
}

#[test]
fn compute_threads_are_checked_when_the_device_thread_starts() {
    let device = |threads| TchDevice::cpu_with(CpuOptions { threads, ..CpuOptions::default() });
    let on_new_thread = |device: TchDevice| {
        std::thread::scope(|scope| scope.spawn(move || device.bind_thread()).join().unwrap())
    };
    on_new_thread(device(Some(1))).unwrap();
    on_new_thread(device(None)).unwrap();
    let error = on_new_thread(device(Some(0))).unwrap_err();
    assert_eq!(error.to_string(), "threads is 0, expected at least 1");
}

#[test]
fn a_block_gives_the_same_with_one_compute_thread_and_with_several() {
    use skep_backend_tch::blocks::{Activation, Ffn};
    let outputs = [1, 3].map(|threads| {
        std::thread::scope(|scope| {
            let run = move || {
                let device =
                    TchDevice::cpu_with(CpuOptions { threads: Some(threads), ..CpuOptions::default() });
                device.bind_thread().unwrap();
                let ffn = Ffn { input: 96, hidden: 384, output: 96, activation: Activation::Relu };
                let mut block = ffn.block("ffn").unwrap();
                block.load(&device).unwrap();
                values(&block.forward(&[noise(&[64, 96], 1)]).unwrap()[0])
            };
            scope.spawn(run).join().unwrap()
        })
    });
    crate::assert_close(&outputs[0], &outputs[1], 1e-5);
}
