use crate::{noise, values};
use skep_backend_candle::candle_core::{DType as CandleDType, Device as Place, Storage, Var};
use skep_backend_candle::prelude::*;
use skep_backend_candle::runtime::DeviceError;

#[test]
fn scatter_gives_back_what_was_gathered() {
    let device = CandleDevice::cpu();
    let parts = [noise(&[1, 3, 2], 1), noise(&[4, 3, 2], 2), noise(&[2, 3, 2], 3)];
    let batch = device.gather(&parts).unwrap();
    assert_eq!(device.describe(&batch).unwrap().dims, [7, 3, 2]);
    let back = device.scatter(batch, &[1, 4, 2]).unwrap();
    for (back, part) in back.iter().zip(&parts) {
        assert_eq!((back.dims(), values(back)), (part.dims(), values(part)));
    }
}

#[test]
fn outputs_share_memory_unless_each_is_to_have_its_own() {
    let elements = |device: CandleDevice| {
        let parts = device.scatter(noise(&[7, 3], 1), &[1, 4, 2]).unwrap();
        assert_eq!(parts.iter().map(values).collect::<Vec<_>>().concat(), values(&noise(&[7, 3], 1)));
        parts
            .iter()
            .map(|part| {
                let (storage, _) = part.storage_and_layout();
                match &*storage {
                    Storage::Cpu(storage) => storage.as_slice::<f32>().unwrap().len(),
                    _ => panic!("not on the host"),
                }
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(elements(CandleDevice::cpu()), [21, 21, 21]);
    assert_eq!(elements(CandleDevice::cpu().with_own_outputs()), [3, 12, 6]);
}

#[test]
fn split_and_join_are_each_others_inverse() {
    let device = CandleDevice::cpu();
    let whole = noise(&[5, 2], 1);
    let parts = device.split(&whole, &[2, 3]).unwrap();
    assert_eq!(parts[1].dims(), [3, 2]);
    assert_eq!(values(&device.join(parts).unwrap()), values(&whole));
}

#[test]
fn views_are_gathered_like_whole_tensors() {
    let device = CandleDevice::cpu();
    let turned = noise(&[2, 3], 1).t().unwrap();
    let tail = noise(&[5, 2], 2).narrow(0, 3, 2).unwrap();
    let expected = [values(&turned), values(&tail)].concat();
    let batch = device.gather(&[turned.clone(), tail]).unwrap();
    assert_eq!(values(&batch), expected);
    assert!(device.gather(&[turned]).unwrap().is_contiguous());
}

#[test]
fn a_callers_graph_does_not_reach_the_batch() {
    let device = CandleDevice::cpu();
    let part = Var::from_tensor(&noise(&[1, 2], 1)).unwrap().affine(2.0, 0.0).unwrap();
    assert!(part.track_op());
    assert!(!device.gather(std::slice::from_ref(&part)).unwrap().track_op());
    assert!(!device.gather(&[part.clone(), part]).unwrap().track_op());
}

#[test]
fn a_tensor_beyond_the_limit_is_refused_with_a_typed_error() {
    let device = CandleDevice::cpu_with(CpuOptions { max_bytes: Some(64), ..CpuOptions::default() });
    device.gather(&[noise(&[8, 1], 1), noise(&[8, 1], 2)]).unwrap();
    let error = device.gather(&[noise(&[8, 1], 1), noise(&[9, 1], 2)]).unwrap_err();
    assert!(matches!(error, DeviceError::OutOfMemory { .. }), "{error}");
    let text = "out of memory on cpu: a tensor of 68 bytes is too large for the host, expected at most 64";
    assert!(error.to_string().starts_with(text), "{error}");

    let large = HostTensor::zeros(DType::U8, &[65]).unwrap();
    assert!(matches!(device.from_host(&large), Err(DeviceError::OutOfMemory { .. })));
}

#[test]
fn a_block_beyond_the_limit_is_not_loaded() {
    use skep_backend_candle::blocks::{Activation, Ffn};
    let huge = Ffn { input: 1 << 40, hidden: 1 << 40, output: 1, activation: Activation::Relu };
    let error = huge.block("huge").unwrap().load(&CandleDevice::cpu()).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(DeviceError::OutOfMemory { .. })), "{error}");
}

#[test]
fn plain_bytes_survive_the_way_there_and_back() {
    let device = CandleDevice::cpu();
    for dtype in [
        DType::U8,
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
        let turned = tensor.t().unwrap();
        assert_eq!(device.to_host(&turned).unwrap().dims(), [2, 3]);
    }
}

#[test]
fn element_types_that_candle_lacks_are_named() {
    let device = CandleDevice::cpu();
    let error = device.from_host(&HostTensor::zeros(DType::Bool, &[1]).unwrap()).unwrap_err();
    assert!(error.to_string().starts_with("dtype bool is not supported, expected one of u8"), "{error}");
    let odd = Tensor::zeros(1, CandleDType::F8E4M3, &Place::Cpu).unwrap();
    assert!(device.describe(&odd).is_err());
}

#[test]
fn the_first_index_out_of_range_is_found() {
    let device = CandleDevice::cpu();
    let place = device.place();
    let ids = Tensor::new(&[[3u32, 7], [9, 8]], place).unwrap();
    assert_eq!(device.index_outside(&ids, 10).unwrap(), None);
    assert_eq!(device.index_outside(&ids, 8).unwrap(), Some(9));
    assert_eq!(device.index_outside(&ids.t().unwrap(), 7).unwrap(), Some(9));
    assert_eq!(device.index_outside(&ids.narrow(0, 0, 1).unwrap(), 8).unwrap(), None);
    assert_eq!(device.index_outside(&Tensor::new(&[0u8, 255], place).unwrap(), 255).unwrap(), Some(255));
    assert_eq!(device.index_outside(&Tensor::new(&[1i64, -2], place).unwrap(), 5).unwrap(), Some(-2));
    assert!(device.index_outside(&noise(&[2], 1), 5).is_err());
}

#[test]
#[cfg(not(any(feature = "cuda", feature = "metal")))]
fn a_device_that_is_not_compiled_in_says_so() {
    let error = CandleDevice::cuda(0).unwrap_err().to_string();
    assert!(error.starts_with("cuda:0 is not available: "), "{error}");
    assert!(error.contains("not been built with cuda support"), "{error}");
    assert!(CandleDevice::metal(1).unwrap_err().to_string().starts_with("metal:1 is not available: "));
}

#[test]
fn compute_threads_are_checked_when_the_device_thread_starts() {
    let device = |threads| CandleDevice::cpu_with(CpuOptions { threads, ..CpuOptions::default() });
    let on_new_thread = |device: CandleDevice| {
        std::thread::scope(|scope| scope.spawn(move || device.bind_thread()).join().unwrap())
    };
    on_new_thread(device(Some(1))).unwrap();
    on_new_thread(device(None)).unwrap();
    let error = on_new_thread(device(Some(0))).unwrap_err();
    assert_eq!(error.to_string(), "threads is 0, expected at least 1");
}

#[test]
fn a_block_gives_the_same_with_one_compute_thread_and_with_several() {
    use skep_backend_candle::blocks::{Activation, Ffn};
    let outputs = [1, 3].map(|threads| {
        std::thread::scope(|scope| {
            let run = move || {
                let device =
                    CandleDevice::cpu_with(CpuOptions { threads: Some(threads), ..CpuOptions::default() });
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
