//! The code of `src/grpc/generated` is what comes of `proto/`: set `SKEP_BLESS=1` to write it anew.

use prost::Message;
use std::fs;
use std::path::Path;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/grpc/generated");

#[test]
fn the_generated_code_is_that_of_the_protocol() {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let files = protox::compile([proto.join("inference.proto")], [&proto]).unwrap();
    let out = tempfile::tempdir().unwrap();
    fs::write(out.path().join("descriptors.bin"), files.encode_to_vec()).unwrap();
    tonic_prost_build::configure()
        .build_transport(false)
        // Tensors are not copied out of their message.
        .bytes(".inference.ModelInferRequest.raw_input_contents")
        .bytes(".inference.ModelInferResponse.raw_output_contents")
        .out_dir(out.path())
        .compile_fds(files)
        .unwrap();
    for file in ["inference.rs", "descriptors.bin"] {
        let (new, old) = (out.path().join(file), Path::new(FOLDER).join(file));
        if std::env::var_os("SKEP_BLESS").is_some() {
            fs::copy(&new, &old).unwrap();
        }
        let same = fs::read(&new).unwrap() == fs::read(&old).unwrap_or_default();
        assert!(same, "{} is not what comes of proto/: run with SKEP_BLESS=1", old.display());
    }
}
