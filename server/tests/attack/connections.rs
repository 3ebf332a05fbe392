//! As many connections as there can be.

use crate::target::{INFER, Target, request, rest};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Connections that this process can hold beside what else it does, at most 10,000.
fn possible() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let soft = line.split_whitespace().next().unwrap();
    // The other tests of this process have theirs.
    soft.parse::<usize>().map_or(10_000, |soft| (soft / 2).saturating_sub(500).clamp(100, 10_000))
}

#[test]
fn thousands_of_silent_connections_keep_nobody_out() {
    let many = possible();
    let target = Target::start(&["--max-connections", &many.to_string()]);
    let before = target.descriptors();
    // One says nothing; the others stop in the middle of a head, of a body, and behind the beginning of HTTP/2.
    let begun = [
        &b""[..],
        b"GET /v2 HT",
        b"POST /embed HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    let silent: Vec<TcpStream> = (0..many)
        .map(|i| {
            // More at once than wait to be accepted would have to try again after a second.
            if i % 256 == 0 {
                assert_eq!(target.send(&request("GET", "/v2", &[], b"")).status(), Some(200));
            }
            let mut stream = target.connect();
            // Those for which others had to leave may be among them already.
            stream.write_all(begun[i % begun.len()]).ok();
            stream
        })
        .collect();
    // The others are served meanwhile, and so is whoever comes now.
    let row = br#"{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}"#;
    assert_eq!(target.send(&request("POST", INFER, &[], row)).status(), Some(200));
    drop(silent);
    target.wait_for_descriptors(before + 8);
    target.ends_well();
}

#[test]
fn the_idle_make_room_and_those_at_work_do_not() {
    let target = Target::start(&["--max-connections", "8"]);
    let question = b"GET /v2 HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut idle: Vec<TcpStream> = (0..8).map(|_| target.connect()).collect();
    // They were served, and keep their connections.
    let mut first = [0; 15];
    let mut served = 0;
    for stream in &mut idle {
        if stream.write_all(question).is_ok() && stream.read_exact(&mut first).is_ok() {
            assert_eq!(&first, b"HTTP/1.1 200 OK");
            served += 1;
        }
    }
    assert!(served > 0);
    for _ in 0..20 {
        let told = target.send(&request("GET", "/v2", &[], b""));
        assert_eq!(told.status(), Some(200));
    }
    for stream in &mut idle {
        // It goes, if it has not been asked to leave.
        stream.shutdown(std::net::Shutdown::Write).ok();
        rest(stream);
    }
    target.ends_well();
}
