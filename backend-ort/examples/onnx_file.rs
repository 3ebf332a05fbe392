//! Serves an ONNX file and asks it once.
//!
//! What a model takes and gives stands in its file: the names, the types, and which dims are free. The first dim of
//! each input has to be free, because it counts the rows of a batch; other free dims need a largest size.
//!
//! `cargo run -p skep-backend-ort --example onnx_file -- model.onnx sequence=512`
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use skep::blocks::Onnx;
use skep::prelude::*;
use skep_backend_ort as skep;
use std::error::Error;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next() else {
        println!("expected the path of an ONNX file, and largest sizes of free dims such as sequence=512");
        return Ok(());
    };
    let mut file = Onnx::new(path);
    for argument in arguments {
        let (dim, max) =
            argument.split_once('=').ok_or("expected a dim and its size, such as sequence=512")?;
        file = file.with_max(dim, max.parse()?);
    }

    let mut builder = RuntimeBuilder::new(OrtDevice::cpu()?);
    let model = builder.serve(OrtBlock::of("model", file)?, ServeOptions::default())?;
    let runtime = builder.start()?;

    // One row of zeros, in which each free dim has its size 1.
    let device = runtime.handle().device();
    let mut row = Vec::new();
    for input in model.info.inputs.tensors() {
        let dims = input.dims().iter().map(|dim| if let Dim::Fixed(size) = dim { *size } else { 1 });
        let zeros =
            HostTensor::zeros(input.dtype(), &dims.collect::<Vec<_>>()).ok_or("a row is too large")?;
        println!("input {}: {} {:?}", input.name(), input.dtype(), zeros.dims());
        row.push(device.from_host(&zeros)?);
    }
    let outputs = model.forward.submit(row)?.wait()?;
    for (at, output) in outputs.iter().enumerate() {
        let output = device.to_host(output)?;
        println!("output {at}: {} {:?}", output.dtype(), output.dims());
    }
    runtime.shutdown(Shutdown::Drain, Duration::from_secs(5))?;
    Ok(())
}
