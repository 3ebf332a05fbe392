//! The program `skep`.

use crate::kit::{NOP, folder};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

pub(crate) fn skep() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.env_clear();
    // For what the program is linked with.
    if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
        command.env("LD_LIBRARY_PATH", path);
    }
    command
}

fn ran(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn settings_come_from_flags_then_the_environment_then_the_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "prefetch = 3\nmax-texts = 5\nwait-limit = \"9s\"\n").unwrap();
    let mut command = skep();
    command.args(["serve", ".", "--print-config", "--prefetch", "0", "--config"]).arg(file.path());
    command.env("SKEP_PREFETCH", "2").env("SKEP_MAX_TEXTS", "7");
    let (code, out, _) = ran(&mut command);
    assert_eq!(code, Some(0));
    for line in [
        "prefetch = 0",
        "max-texts = 7",
        "wait-limit = \"9s\"",
        "http = \"127.0.0.1:8000\"",
        "max-body = \"64MiB\"",
    ] {
        assert!(out.lines().any(|own| own == line), "{line} in {out}");
    }
}

#[test]
fn what_cannot_be_served_is_told_and_is_no_success() {
    let (code, _, err) = ran(skep().args(["serve", "/nowhere"]));
    assert_eq!(
        (code, err.as_str()),
        (Some(1), "skep: /nowhere: cannot be read: No such file or directory (os error 2)\n")
    );
    let (code, _, err) = ran(skep().args(["serve", ".", "--http", "0.0.0.0:1"]));
    assert_eq!(code, Some(1));
    assert!(err.contains("expected an address of this machine alone, or `open`"), "{err}");
    let (code, _, err) = ran(skep().args(["serve", ".", "--wait-limit", "soon"]));
    assert_eq!(code, Some(2));
    assert!(err.contains("`soon` is no time"), "{err}");
}

#[test]
fn a_folder_is_checked_without_being_served() {
    let models = folder(&[
        NOP,
        ("bert_mean", ""),
        ("broken", "kind = 3"),
        ("unknown", "kind = \"nothing\""),
        ("unset", "kind = \"ffn\""),
    ]);
    let (code, out, _) = ran(skep().arg("check").arg(models.path()));
    assert_eq!(code, Some(1));
    assert!(out.contains("bert_mean: embedding model, version 1\n"), "{out}");
    assert!(out.contains("nop: block of kind nop, version 1\n"), "{out}");
    assert!(out.contains("broken: not served: "), "{out}");
    assert!(out.contains("unknown: not served: "), "no such kind: {out}");
    assert!(out.contains("unset: not served: "), "it has no sizes: {out}");
}

#[test]
fn a_signal_ends_it_in_order() {
    let models = folder(&[NOP]);
    let mut command = skep();
    command.arg("serve").arg(models.path()).args([
        "--http",
        "127.0.0.1:0",
        "--grpc",
        "127.0.0.1:0",
        "--drain-wait",
        "0s",
        "--log-format",
        "json",
    ]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let ready = lines.find(|line| line.as_ref().unwrap().contains("\"ready\"")).unwrap().unwrap();
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let mut stream = TcpStream::connect(ready["http"].as_str().unwrap()).unwrap();
    stream.write_all(b"GET /v2/health/ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let killed = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap();
    assert!(killed.success());
    assert!(child.wait().unwrap().success());
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(rest.last().unwrap().contains("every request was answered"), "{rest:?}");
}
