//! Shapes that do not fit any memory, and bodies that grow when they are unpacked.

use crate::target::{INFER, Target, request};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use std::io::Write;

fn input(dims: &str, rest: &str) -> String {
    format!(r#"{{"inputs": [{{"name": "x", "shape": {dims}, "datatype": "FP32", {rest}}}]}}"#)
}

#[test]
fn shapes_are_multiplied_before_memory_is_taken() {
    let target = Target::start(&[]);
    let dims = [
        "[1152921504606846976]",
        "[1152921504606846976, 16]",
        "[4294967296, 4294967296]",
        "[18446744073709551615, 2]",
        "[18446744073709551616, 2]",
        "[1000000000, 2]",
        "[0, 18446744073709551615]",
        "[-1, 2]",
        "[1.5, 2]",
        "[2, 0]",
        "[]",
        &format!("[{}1]", "1,".repeat(50_000)),
    ];
    target.endures(|target, _| {
        for dims in dims {
            for rest in [
                r#""data": [1, 2]"#.to_owned(),
                r#""data": []"#.to_owned(),
                format!(r#""data": {}1{}"#, "[".repeat(20_000), "]".repeat(20_000)),
                r#""parameters": {"binary_data_size": 8}"#.to_owned(),
                r#""parameters": {"binary_data_size": 18446744073709551615}"#.to_owned(),
            ] {
                let json = input(dims, &rest);
                let length = json.len().to_string();
                let body = [json.as_bytes(), &[0; 8]].concat();
                for headers in [&[][..], &[("inference-header-content-length", length.as_str())]] {
                    let sent = request(
                        "POST",
                        INFER,
                        headers,
                        if headers.is_empty() { json.as_bytes() } else { &body },
                    );
                    let told = target.send(&sent);
                    told.is_no_failure(&sent);
                    assert_eq!(told.status(), Some(400), "{dims} {rest}");
                }
            }
        }
        for length in ["18446744073709551615", "18446744073709551616", "-1", "1e3", "", "0x10", "9"] {
            let sent = request("POST", INFER, &[("inference-header-content-length", length)], b"{\"a\": 1}");
            assert_eq!(target.send(&sent).status(), Some(400), "{length}");
        }
    });
    target.has_taken_little();
    target.ends_well();
}

fn packed(name: &str, bytes: &[u8]) -> Vec<u8> {
    if name == "gzip" {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    } else {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }
}

#[test]
fn bombs_do_not_go_off() {
    let target = Target::start(&[]);
    let flat = vec![b' '; 512 << 20];
    for packing in ["gzip", "deflate"] {
        let bomb = packed(packing, &flat);
        assert!(bomb.len() < 1 << 20);
        // Several of them in one stream, and one in another.
        let chain = bomb[..bomb.len().min(400 << 10)].repeat(2);
        let nested = packed(packing, &bomb);
        target.endures(|target, _| {
            let headers = [("content-encoding", packing)];
            for path in [INFER, "/embed", "/v1/embeddings", "/v2/repository/index"] {
                let told = target.send(&request("POST", path, &headers, &bomb));
                assert_eq!(told.status(), Some(413), "{packing} {path}: {told:?}");
                for body in [&chain, &nested] {
                    let sent = request("POST", path, &headers, body);
                    target.send(&sent).is_no_failure(&sent);
                }
            }
        });
    }
    target.has_taken_little();
    target.ends_well();
}
