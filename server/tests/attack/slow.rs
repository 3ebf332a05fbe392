//! Those who send slowly, stop in the middle, leave, or do not read what they have asked for.

use crate::target::{INFER, Target, request, rest};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

fn row() -> Vec<u8> {
    request(
        "POST",
        INFER,
        &[],
        br#"{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}"#,
    )
}

#[test]
fn whoever_is_slow_holds_up_nobody_and_is_given_up() {
    let target = Target::start(&["--head-limit", "500ms", "--body-limit", "500ms"]);
    let whole = row();
    target.endures(|target, _| {
        // Each stops at another place of the request.
        let mut slow: Vec<TcpStream> = (0..200)
            .map(|i| {
                let mut stream = target.connect();
                stream.write_all(&whole[..whole.len() * i / 200]).unwrap();
                stream
            })
            .collect();
        for stream in &mut slow {
            let told = rest(stream);
            let text = String::from_utf8_lossy(&told);
            assert!(told.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
        }
    });
    target.ends_well();
}

#[test]
fn whoever_sends_byte_by_byte_is_served_and_takes_nobodys_place() {
    // Fewer requests than there are slow senders: one whose body has not come is not at work.
    let target = Target::start(&["--max-requests", "4"]);
    let whole = row();
    target.endures(|target, _| {
        let mut slow: Vec<TcpStream> = (0..64).map(|_| target.connect()).collect();
        for byte in &whole[..whole.len() - 1] {
            for stream in &mut slow {
                stream.write_all(&[*byte]).unwrap();
            }
        }
        assert!(target.send(&whole).0.starts_with(b"HTTP/1.1 200"));
        for stream in &mut slow {
            stream.write_all(&whole[whole.len() - 1..]).unwrap();
            let told = rest(stream);
            assert!(told.starts_with(b"HTTP/1.1 200") || told.starts_with(b"HTTP/1.1 503"), "{told:?}");
        }
    });
    target.ends_well();
}

#[test]
fn half_closed_and_broken_connections_leave_nothing() {
    let target = Target::start(&[]);
    let whole = row();
    target.endures(|target, round| {
        for i in 0..300 {
            let mut stream = target.connect();
            let upto = (i * 37 + usize::try_from(round).unwrap() * 11) % (whole.len() + 1);
            stream.write_all(&whole[..upto]).unwrap();
            match i % 3 {
                0 => drop(stream),
                // It has said all that it will, and listens.
                1 => {
                    stream.shutdown(Shutdown::Write).unwrap();
                    rest(&mut stream);
                }
                // It listens no more, and has said all.
                _ => {
                    stream.write_all(&whole[upto..]).ok();
                    stream.shutdown(Shutdown::Read).ok();
                }
            }
        }
    });
    target.ends_well();
}

#[test]
fn whoever_asks_without_reading_takes_no_memory() {
    let target = Target::start(&["--head-limit", "1s"]);
    // Answers of 100 KB each, thousands of them asked for in one go, and none read.
    let question = b"GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1000);
    target.endures(|target, _| {
        let mut deaf: Vec<TcpStream> = (0..20).map(|_| target.connect()).collect();
        for stream in &mut deaf {
            stream.set_nonblocking(true).unwrap();
            // As much of it as goes out.
            let _out = stream.write(&question);
        }
        let mut one = target.connect();
        one.write_all(b"GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let mut told = [0; 15];
        one.read_exact(&mut told).unwrap();
        assert_eq!(&told, b"HTTP/1.1 200 OK");
    });
    target.has_taken_little();
    target.ends_well();
}
