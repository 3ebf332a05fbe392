//! Frames of HTTP/2 as no library sends them.

use crate::target::{Dice, Target, connect, rest};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const AWAY: u8 = 7;
const WINDOW: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header that is not indexed, with its name.
fn header(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 127).unwrap();
        [&[length], text.as_bytes()].concat()
    };
    [vec![0], text(name), text(value)].concat()
}

/// The head of a call: POST over http (entries 3 and 6 of the static table).
fn head(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    block.extend(header(":path", path));
    block.extend(header(":authority", "a"));
    block.extend(header("content-type", "application/grpc"));
    block.extend(header("te", "trailers"));
    for (name, value) in more {
        block.extend(header(name, value));
    }
    block
}

fn begin(stream: &mut TcpStream) {
    stream.write_all(BEGIN).unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
}

/// Sends frames as long as the other side takes them, and reads on meanwhile, so that nobody waits for the other.
fn flood(stream: &mut TcpStream, frames: impl Iterator<Item = Vec<u8>>) {
    let mut reader = stream.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut told = [0; 4096];
        while reader.read(&mut told).is_ok_and(|count| count > 0) {}
    });
    for bytes in frames {
        if let Err(error) = stream.write_all(&bytes) {
            assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "nobody reads");
            break;
        }
    }
    stream.shutdown(std::net::Shutdown::Both).ok();
    reading.join().unwrap();
}

fn streams() -> impl Iterator<Item = u32> {
    (1_u32..).step_by(2)
}

#[test]
fn streams_that_are_reset_at_once_cost_nothing() {
    let target = Target::start(&[]);
    let head = head(INFER, &[]);
    target.endures(|target, _| {
        for address in [target.http, target.grpc] {
            let mut stream = connect(address);
            begin(&mut stream);
            let resets = streams().take(20_000).map(|id| {
                [frame(HEADERS, END_HEADERS, id, &head), frame(RESET, 0, id, &8_u32.to_be_bytes())].concat()
            });
            flood(&mut stream, resets);
        }
    });
    target.ends_well();
}

#[test]
fn floods_of_small_frames_are_borne() {
    let target = Target::start(&[]);
    let head = head(INFER, &[]);
    target.endures(|target, _| {
        let of = |kind: u8, payload: &'static [u8]| vec![frame(kind, 0, 0, payload); 20_000];
        let mut floods = vec![
            of(PING, &[7; 8]),
            of(SETTINGS, &[]),
            of(SETTINGS, &[0, 1, 0, 0, 0, 0]),
            of(99, b"unknown"),
            // Heads without an end.
            [vec![frame(HEADERS, 0, 1, &head)], vec![frame(CONTINUATION, 0, 1, &header("a", "b")); 20_000]]
                .concat(),
            // Data of nothing, and windows as wide as there are none.
            [vec![frame(HEADERS, END_HEADERS, 1, &head)], vec![frame(DATA, 0, 1, &[]); 20_000]].concat(),
            vec![frame(WINDOW, 0, 0, &0x7fff_ffff_u32.to_be_bytes()); 3],
            vec![frame(AWAY, 0, 0, &[0; 8]); 100],
        ];
        // Many streams that are never ended.
        floods.push(streams().take(2000).map(|id| frame(HEADERS, END_HEADERS, id, &head)).collect());
        for frames in floods {
            let mut stream = connect(target.grpc);
            begin(&mut stream);
            flood(&mut stream, frames.into_iter());
        }
    });
    target.ends_well();
}

/// A message as gRPC frames it.
fn message(packed: bool, length: u32, bytes: &[u8]) -> Vec<u8> {
    [&[u8::from(packed)], &length.to_be_bytes()[..], bytes].concat()
}

/// A protobuf field with a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 127 {
        out.push(u8::try_from(length & 127).unwrap() | 128);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    out.extend_from_slice(bytes);
    out
}

/// One call, and the status that its trailers have, as far as any came.
fn call(target: &Target, more: &[(&str, &str)], data: &[u8]) -> Vec<u8> {
    let mut stream = connect(target.grpc);
    begin(&mut stream);
    let mut bytes = frame(HEADERS, END_HEADERS, 1, &head(INFER, more));
    for chunk in data.chunks(16_000) {
        bytes.extend(frame(DATA, 0, 1, chunk));
    }
    bytes.extend(frame(DATA, END_STREAM, 1, &[]));
    // It goes once this is answered.
    bytes.extend(frame(AWAY, 0, 0, &[0; 8]));
    stream.write_all(&bytes).ok();
    rest(&mut stream)
}

#[test]
fn messages_that_are_none_are_refused() {
    let target = Target::start(&[]);
    let dims = |dims: &[u64]| {
        let mut packed = Vec::new();
        for dim in dims {
            let mut dim = *dim;
            while dim > 127 {
                packed.push(u8::try_from(dim & 127).unwrap() | 128);
                dim >>= 7;
            }
            packed.push(u8::try_from(dim).unwrap());
        }
        let input = [field(1, b"x"), field(2, b"FP32"), field(3, &packed)].concat();
        [field(1, b"nop"), field(5, &input), field(7, &[0; 8])].concat()
    };
    let bomb = {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&vec![0; 256 << 20]).unwrap();
        encoder.finish().unwrap()
    };
    let sized = |bytes: &[u8]| message(false, u32::try_from(bytes.len()).unwrap(), bytes);
    let right = sized(&dims(&[1, 2]));
    let told = call(&target, &[], &right);
    assert!(told.windows(8).any(|window| window == [0; 8]), "the row came back: {told:?}");
    target.endures(|target, round| {
        let mut dice = Dice::new(round);
        let mut messages = vec![
            sized(&dims(&[1 << 60])),
            sized(&dims(&[1 << 60, 1 << 60])),
            sized(&dims(&[u64::MAX, 2])),
            sized(&dims(&[1 << 63, 2])),
            sized(&dims(&[1 << 40, 2])),
            sized(&dims(&[0, u64::MAX])),
            sized(&dims(&[])),
            message(false, u32::MAX, b"short"),
            message(false, 1 << 31, &[0; 100]),
            message(true, 5, b"short"),
            vec![7; 5],
            vec![],
        ];
        for _ in 0..60 {
            let mut bytes = right.clone();
            for _ in 0..=dice.throw(4) {
                let at = dice.throw(bytes.len());
                bytes[at] = u8::try_from(dice.throw(256)).unwrap();
            }
            messages.push(bytes);
        }
        for bytes in &messages {
            let told = call(target, &[], bytes);
            // A panic would end the stream with an internal error of HTTP/2 (2).
            let mut rest = &told[..];
            while let Some((frame, after)) = rest.split_at_checked(9) {
                let length = usize::from(frame[0]) << 16 | usize::from(frame[1]) << 8 | usize::from(frame[2]);
                let (payload, after) = after.split_at_checked(length).unwrap_or((after, &[]));
                assert!(frame[3] != RESET || payload != [0, 0, 0, 2], "{bytes:?}");
                rest = after;
            }
        }
        let packed = [("grpc-encoding", "gzip")];
        call(target, &packed, &message(true, u32::try_from(bomb.len()).unwrap(), &bomb));
    });
    target.has_taken_little();
    target.ends_well();
}
