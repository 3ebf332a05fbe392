use crate::{counted, values};
use skep_backend_candle::candle_core::{DType as CandleDType, Device as Place, Storage, Var};
use skep_backend_candle::prelude::*;
use skep_backend_candle::runtime::{Chain, DType};

#[test]
fn outputs_share_memory_unless_each_is_to_have_its_own() {
    let elements = |device: CandleDevice| {
        let parts = device.scatter(counted(&[7, 3]), &[1, 4, 2]).unwrap();
        assert_eq!(parts.iter().map(values).collect::<Vec<_>>().concat(), values(&counted(&[7, 3])));
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
fn views_are_gathered_like_whole_tensors() {
    let device = CandleDevice::cpu();
    let turned = counted(&[2, 3]).t().unwrap();
    let tail = counted(&[5, 2]).narrow(0, 3, 2).unwrap();
    let expected = [values(&turned), values(&tail)].concat();
    let batch = device.gather(&[turned.clone(), tail]).unwrap();
    assert_eq!(values(&batch), expected);
    assert!(device.gather(&[turned]).unwrap().is_contiguous());
}

#[test]
fn a_callers_graph_does_not_reach_the_batch() {
    let device = CandleDevice::cpu();
    let part = Var::from_tensor(&counted(&[1, 2])).unwrap().affine(2.0, 0.0).unwrap();
    assert!(part.track_op());
    assert!(!device.gather(std::slice::from_ref(&part)).unwrap().track_op());
    assert!(!device.gather(&[part.clone(), part]).unwrap().track_op());
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
#[cfg(not(any(feature = "cuda", feature = "metal")))]
fn a_device_that_is_not_compiled_in_says_so() {
    let error = Chain(&CandleDevice::cuda(0).unwrap_err()).to_string();
    assert!(error.starts_with("cuda:0 is not available: "), "{error}");
    assert!(error.contains("not been built with cuda support"), "{error}");
    let error = Chain(&CandleDevice::metal(1).unwrap_err()).to_string();
    assert!(error.starts_with("metal:1 is not available: "), "{error}");
}
