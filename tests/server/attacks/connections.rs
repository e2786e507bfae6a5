//! Connections that are opened and not used.

use std::io::Write;
use std::net::TcpStream;
use std::thread;

use super::{server, text};

/// As many as a server has room for, and some.
const CROWD: usize = 700;

fn connect(address: &str) -> TcpStream {
    TcpStream::connect(address).expect("a connection")
}

/// A shell may allow fewer open files than this test needs.
fn allow_files() {
    let status = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = status.lines().find(|line| line.starts_with("Max open files"));
    let soft = soft.and_then(|line| line.split_whitespace().nth(3)?.parse::<usize>().ok());
    assert!(soft.is_none_or(|soft| soft >= CROWD + 300), "allow more open files: ulimit -n 2048");
}

#[test]
fn hundreds_of_silent_connections_keep_nobody_out() {
    allow_files();
    let server = server(&["--idle-timeout", "600"]);
    let expected = text(&server);
    let silent: Vec<_> = (0..CROWD).map(|_| connect(server.address())).collect();
    assert_eq!(server.get("/health").0, 200);
    assert_eq!(text(&server), expected);
    drop(silent);
}

#[test]
fn hundreds_of_requests_that_never_end_keep_nobody_out() {
    allow_files();
    let server = server(&["--idle-timeout", "600"]);
    let expected = text(&server);
    let begin = |i: usize| {
        let mut stream = connect(server.address());
        let head = "POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n";
        // Some have sent a part of their head, some a part of their body.
        let sent = if i.is_multiple_of(2) { head.to_owned() } else { format!("{head}\r\n{{\"prompt\": \"") };
        let _ = stream.write_all(sent.as_bytes());
        stream
    };
    let halves: Vec<_> = (0..CROWD).map(begin).collect();
    assert_eq!(server.get("/health").0, 200);
    assert_eq!(text(&server), expected);
    drop(halves);
}

#[test]
fn a_text_under_way_keeps_its_connection_when_others_crowd_in() {
    allow_files();
    let server = server(&["--idle-timeout", "600"]);
    let expected = text(&server);
    thread::scope(|scope| {
        let texts = scope.spawn(|| (0..4).map(|_| text(&server)).collect::<Vec<_>>());
        let crowd: Vec<_> = (0..CROWD).map(|_| connect(server.address())).collect();
        for text in texts.join().expect("texts") {
            assert_eq!(text, expected);
        }
        drop(crowd);
    });
}
