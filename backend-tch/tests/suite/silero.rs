//! A real module with state inside, silero-vad, whose state is rows here: many streams share batches, and each gets what
//! Python gives it alone (`tests/data/silero/make.py`).
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use crate::{assert_close, tensor, values};
use skep_backend_tch::blocks::{TorchScript, Value};
use skep_backend_tch::prelude::*;
use skep_backend_tch::runtime::{Chain, DType};
use std::path::PathBuf;

const STREAMS: usize = 3;
const CHUNKS: usize = 6;
const SAMPLES: usize = 512;

/// The module, which is too large for the repository.
fn module() -> Option<PathBuf> {
    let file = std::env::var_os("SKEP_SILERO_VAD").map(PathBuf::from);
    if file.is_none() {
        println!("skipped: SKEP_SILERO_VAD does not name the silero_vad.jit of the wheel silero-vad 6.2.0");
    }
    file
}

fn inputs() -> Schema {
    let rows = |name, dims: &[usize]| TensorSpec::rows(name, DType::F32, dims);
    Schema::new(vec![rows("audio", &[SAMPLES]), rows("state", &[2, 128]), rows("context", &[64])]).unwrap()
}

fn vad(file: PathBuf) -> TorchScript {
    TorchScript::new(file, inputs())
        .with_argument("sr", Value::Int(16_000))
        .with_state("state", "_state", 1)
        .with_state("context", "_context", 0)
        .with_attribute("_last_sr", Value::Int(16_000))
        .with_attribute("_last_batch_size", Value::Rows)
}

/// The audio of `make.py`.
fn chunk(stream: usize, chunk: usize) -> Vec<f32> {
    use std::f64::consts::TAU;
    let stream = f64::from(u32::try_from(stream).unwrap());
    let sample = |i: usize| {
        let t = f64::from(u32::try_from(chunk * SAMPLES + i).unwrap()) / 16_000.0;
        let pitch = 110.0 + 40.0 * stream + 15.0 * (TAU * 3.0 * t).sin();
        let loud = 0.5 + 0.4 * (TAU * (4.0 + stream) * t).sin();
        let buzz: f64 = (1..9).map(|k| (TAU * pitch * f64::from(k) * t).sin() / f64::from(k)).sum();
        #[expect(clippy::cast_possible_truncation, reason = "samples are f32")]
        {
            (loud * 0.2 * buzz) as f32
        }
    };
    (0..SAMPLES).map(sample).collect()
}

#[test]
fn streams_keep_their_own_state() {
    let Some(file) = module() else { return };
    let of_streams: Vec<Vec<f32>> =
        serde_json::from_str(include_str!("../../../tests/data/silero/expected.json")).unwrap();
    // By chunk, then by stream.
    let expected: Vec<Vec<f32>> =
        (0..CHUNKS).map(|k| of_streams.iter().map(|stream| stream[k]).collect()).collect();
    let mut builder = RuntimeBuilder::new(TchDevice::cpu());
    let block = TchBlock::of("vad", vad(file)).unwrap().inference_only();
    let served = builder.serve(block, ServeOptions::default()).unwrap();
    let names: Vec<_> =
        served.info.outputs.as_ref().unwrap().tensors().iter().map(TensorSpec::name).collect();
    assert_eq!(names, ["output_0", "state", "context"]);
    let runtime = builder.start().unwrap();
    let zeros = |dims: &[usize]| tensor(dims, &vec![0.0; dims.iter().product()]);
    let mut states: Vec<_> = (0..STREAMS).map(|_| vec![zeros(&[1, 2, 128]), zeros(&[1, 64])]).collect();
    for (k, expected) in expected.iter().enumerate() {
        // All at once, in an order of their own each time.
        let tickets: Vec<_> = (0..STREAMS)
            .map(|i| (i + k) % STREAMS)
            .map(|stream| {
                let audio = tensor(&[1, SAMPLES], &chunk(stream, k));
                let state = std::mem::take(&mut states[stream]);
                let task: Vec<Tensor> = std::iter::once(audio).chain(state).collect();
                (stream, served.forward.submit(task).unwrap())
            })
            .collect();
        for (stream, ticket) in tickets {
            let mut outputs = ticket.wait().unwrap();
            let state = outputs.split_off(1);
            assert_close(&values(&outputs[0]), &[expected[stream]], 1e-5);
            states[stream] = state;
        }
    }
    runtime.shutdown(Shutdown::Drain, std::time::Duration::from_mins(1)).unwrap();
}

#[test]
fn its_state_is_found_out() {
    let Some(file) = module() else { return };
    let audio = Schema::new(vec![TensorSpec::rows("audio", DType::F32, &[SAMPLES])]).unwrap();
    let script = TorchScript::new(file, audio);
    let mut without_rate = TchBlock::of("vad", script.clone()).unwrap();
    let message = Chain(&*without_rate.load(&TchDevice::cpu()).unwrap_err()).to_string();
    assert!(message.contains("argument `sr` of the method is int"), "{message}");
    let mut block = TchBlock::of("vad", script.with_argument("sr", Value::Int(16_000))).unwrap();
    let message = Chain(&*block.load(&TchDevice::cpu()).unwrap_err()).to_string();
    for attribute in ["`_state`", "`_context`", "`_last_sr`", "`_last_batch_size`", "`with_state`"] {
        assert!(message.contains(attribute), "{attribute}: {message}");
    }
}
