//! Tensors on their way to the device and back, and what the host has room and threads for.

use crate::kit::{Columns, assert_close, noise, numbers};
use crate::subject::Learner;
use skep_runtime_core::{Backend, DType, Device, DeviceError, HostTensor, TensorOps};
use skep_toolkit::Block;
use skep_toolkit::blocks::{Activation, Ffn};
use std::thread;

fn tensor<D: Device>(device: &D, dims: &[usize], seed: u32) -> D::Tensor {
    device.from_host(&noise(dims, seed)).unwrap()
}

fn values<D: Device>(device: &D, tensor: &D::Tensor) -> Vec<f32> {
    Columns::read(device, tensor)
}

/// Part by part.
pub fn scatter_gives_back_what_was_gathered<L: Learner>() {
    let device = L::device();
    let parts = [(1, 1), (4, 2), (2, 3)].map(|(rows, seed)| tensor(&device, &[rows, 3, 2], seed));
    let batch = device.gather(&parts).unwrap();
    assert_eq!(Columns::dims(&device, &batch), [7, 3, 2]);
    let back = device.scatter(batch, &[1, 4, 2]).unwrap();
    for (back, part) in back.iter().zip(&parts) {
        assert_eq!(Columns::dims(&device, back), Columns::dims(&device, part));
        assert_eq!(values(&device, back), values(&device, part));
    }
}

/// On the host.
pub fn split_and_join_are_each_others_inverse<L: Learner>() {
    let device = L::device();
    let whole = tensor(&device, &[5, 2], 1);
    let parts = device.split(&whole, &[2, 3]).unwrap();
    assert_eq!(Columns::dims(&device, &parts[1]), [3, 2]);
    assert_eq!(values(&device, &device.join(parts).unwrap()), values(&device, &whole));
}

/// In elements of any type, of whole tensors, of views, and of tensors that are not contiguous.
pub fn elements_stay_in_other_dims<L: Learner>() {
    let device = L::device();
    for &dtype in L::DTYPES {
        let bytes: Vec<u8> = (0u8..).take(12 * dtype.size()).map(|byte| byte % 2).collect();
        let host = HostTensor::new(dtype, &[3, 2, 2], bytes).unwrap();
        let tensor = device.from_host(&host).unwrap();
        let laid = device.to_host(&device.reshape(&tensor, &[6, 2]).unwrap()).unwrap();
        assert_eq!((laid.dims(), laid.bytes()), (&[6, 2][..], host.bytes()), "{dtype}");
        let view = device.slice(&tensor, 1..3).unwrap();
        let laid = device.to_host(&device.reshape(&view, &[4, 2, 1]).unwrap()).unwrap();
        assert_eq!((laid.dims(), laid.bytes()), (&[4, 2, 1][..], &host.bytes()[4 * dtype.size()..]));
        let turned = L::transposed(&device.reshape(&tensor, &[4, 3]).unwrap());
        let expected = device.to_host(&turned).unwrap();
        let laid = device.to_host(&device.reshape(&turned, &[12]).unwrap()).unwrap();
        assert_eq!((laid.dims(), laid.bytes()), (&[12][..], expected.bytes()), "{dtype}");
        assert!(device.reshape(&tensor, &[5, 2]).is_err() && device.reshape(&tensor, &[3, 2]).is_err());
    }
}

/// So many bytes are never asked for.
pub fn a_tensor_beyond_the_limit_is_refused_with_a_typed_error<L: Learner>() {
    let device = L::cpu(None, Some(64));
    let column = |rows, seed| tensor(&device, &[rows, 1], seed);
    assert!(device.gather(&[column(8, 1), column(8, 2)]).is_ok());
    let error = device.gather(&[column(8, 1), column(9, 2)]).err().unwrap();
    assert!(matches!(error, DeviceError::OutOfMemory { .. }), "{error}");
    let text = "out of memory on cpu: a tensor of 68 bytes is too large for the host, expected at most 64";
    assert!(error.to_string().starts_with(text), "{error}");

    let large = HostTensor::zeros(DType::U8, &[65]).unwrap();
    assert!(matches!(device.from_host(&large), Err(DeviceError::OutOfMemory { .. })));
}

/// Before any of its parameters is drawn.
pub fn a_block_beyond_the_limit_is_not_loaded<L: Learner>() {
    let huge = Ffn { input: 1 << 40, hidden: 1 << 40, output: 1, activation: Activation::Relu };
    let error = Block::<L::Library>::of("huge", huge).unwrap().load(&L::device()).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(DeviceError::OutOfMemory { .. })), "{error}");
}

/// Each element type that the backend has.
pub fn plain_bytes_survive_the_way_there_and_back<L: Learner>() {
    let device = L::device();
    for &dtype in L::DTYPES {
        let bytes: Vec<u8> = (1u8..).take(6 * dtype.size()).collect();
        let host = HostTensor::new(dtype, &[3, 2], bytes).unwrap();
        let tensor = device.from_host(&host).unwrap();
        assert_eq!(device.describe(&tensor).unwrap().dtype, dtype);
        assert_eq!(device.to_host(&tensor).unwrap(), host);
        let turned = L::transposed(&tensor);
        assert_eq!(device.to_host(&turned).unwrap().dims(), [2, 3]);
    }
}

/// In elements of any type, of whole tensors and of views.
pub fn parts_are_filled_up_and_cut_back<L: Learner>() {
    let device = L::device();
    for &dtype in L::DTYPES {
        let size = dtype.size();
        let element = vec![1u8; size];
        let make = |dims: &[usize], first: u8| {
            let count = dims.iter().product::<usize>() * size;
            let bytes = (first..60).cycle().take(count);
            // Of a truth there are two.
            let bytes = bytes.map(|byte| if dtype == DType::Bool { byte % 2 } else { byte }).collect();
            HostTensor::new(dtype, dims, bytes).unwrap()
        };
        let [three, two] = [make(&[2, 3, 1], 5), make(&[3, 2, 2], 9)];
        let place = |host: &HostTensor| device.from_host(host).unwrap();
        // The second row and the third.
        let view = device.split(&place(&two), &[1, 2]).unwrap().remove(1);
        let padded = device.gather_padded(&[place(&three), view], &[3, 2], &element).unwrap();
        let host = device.to_host(&device.scatter(padded, &[4]).unwrap().remove(0)).unwrap();
        assert_eq!((host.dtype(), host.dims()), (dtype, &[4, 3, 2][..]));
        let bytes = |host: &HostTensor, elements: std::ops::Range<usize>| {
            host.bytes()[elements.start * size..elements.end * size].to_vec()
        };
        let mut expected = Vec::new();
        for at in 0..6 {
            expected.extend([bytes(&three, at..at + 1), element.clone()].concat());
        }
        for row in 1..3 {
            expected.extend([bytes(&two, 4 * row..4 * row + 4), element.repeat(2)].concat());
        }
        assert_eq!(host.bytes(), expected, "{dtype}");

        let cut = device.narrow(&place(&host), 1, 2).unwrap();
        let cut = device.to_host(&cut).unwrap();
        assert_eq!(cut.dims(), [4, 2, 2]);
        let rows: Vec<_> = (0..4).map(|row| bytes(&host, 6 * row..6 * row + 4)).collect();
        assert_eq!(cut.bytes(), rows.concat(), "{dtype}");
        let single = device.narrow(&place(&host), 2, 1).unwrap();
        assert_eq!(bytes(&device.to_host(&single).unwrap(), 0..6), bytes(&three, 0..6));
        assert!(device.narrow(&place(&host), 1, 4).is_err() && device.narrow(&place(&host), 3, 1).is_err());
    }
    let column = |n, seed| tensor(&L::cpu(None, Some(64)), &[2, n], seed);
    let small = L::cpu(None, Some(64));
    let one = 1f32.to_le_bytes();
    assert!(small.gather_padded(&[column(1, 1), column(2, 2)], &[4], &one).is_ok());
    let error = small.gather_padded(&[column(1, 1), column(2, 2)], &[5], &one).err().unwrap();
    assert!(matches!(error, DeviceError::OutOfMemory { .. }), "{error}");
}

/// In a view as in a whole tensor.
pub fn the_first_index_out_of_range_is_found<L: Learner>() {
    let device = L::device();
    let ids = HostTensor::from_u32(&[2, 2], &[3, 7, 9, 8]).unwrap();
    let ids = device.from_host(&ids).unwrap();
    assert_eq!(device.index_outside(&ids, 10).unwrap(), None);
    assert_eq!(device.index_outside(&ids, 8).unwrap(), Some(9));
    assert_eq!(device.index_outside(&L::transposed(&ids), 7).unwrap(), Some(9));
    assert_eq!(device.index_outside(&device.split(&ids, &[1, 1]).unwrap()[0], 8).unwrap(), None);
    let bytes = device.from_host(&HostTensor::new(DType::U8, &[2], vec![0, 255]).unwrap()).unwrap();
    assert_eq!(device.index_outside(&bytes, 255).unwrap(), Some(255));
    let signed = device.from_host(&HostTensor::from_i64(&[2], &[1, -2]).unwrap()).unwrap();
    assert_eq!(device.index_outside(&signed, 5).unwrap(), Some(-2));
    assert!(device.index_outside(&tensor(&device, &[2], 1), 5).is_err());
}

/// None is not a number of threads.
pub fn compute_threads_are_checked_when_the_device_thread_starts<L: Learner>() {
    let on_new_thread = |threads| {
        let device = L::cpu(threads, None);
        thread::scope(|scope| scope.spawn(move || device.bind_thread()).join().unwrap())
    };
    on_new_thread(Some(1)).unwrap();
    on_new_thread(None).unwrap();
    let error = on_new_thread(Some(0)).unwrap_err();
    assert_eq!(error.to_string(), "threads is 0, expected at least 1");
}

/// The order of sums may differ.
pub fn a_block_gives_the_same_with_one_compute_thread_and_with_several<L: Learner>() {
    let outputs = [1, 3].map(|threads| {
        let run = move || {
            let device = L::cpu(Some(threads), None);
            device.bind_thread().unwrap();
            let ffn = Ffn { input: 96, hidden: 384, output: 96, activation: Activation::Relu };
            let mut block = Block::<L::Library>::of("ffn", ffn).unwrap();
            block.load(&device).unwrap();
            let outputs = block.forward(&[tensor(&device, &[64, 96], 1)]).unwrap();
            numbers(&device.to_host(&outputs[0]).unwrap())
        };
        thread::scope(|scope| scope.spawn(run).join().unwrap())
    });
    assert_close(&outputs[0], &outputs[1], 1e-5);
}
