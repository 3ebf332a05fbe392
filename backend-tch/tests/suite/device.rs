use crate::{noise, values};
use skep_backend_tch::prelude::*;
use skep_backend_tch::runtime::DType;
use skep_backend_tch::runtime::{Chain, DeviceError};
use skep_backend_tch::tch::{Device as Place, Kind};

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
fn a_cuda_device_that_is_not_there_is_named() {
    if let Err(error) = TchDevice::cuda(0) {
        assert!(Chain(&error).to_string().starts_with("cuda:0 is not available: "), "{error}");
    }
    let error = Chain(&TchDevice::cuda(1000).unwrap_err()).to_string();
    assert!(error.starts_with("cuda:1000 is not available: "), "{error}");
}

#[test]
fn elements_that_are_no_indices_are_named() {
    let error = TchDevice::cpu().index_outside(&noise(&[2], 1), 5).unwrap_err();
    assert_eq!(error.to_string(), "tensor has dtype f32, expected integers");
}
