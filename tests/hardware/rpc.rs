//! The base on RPC servers: the same text, an error when one is lost, and the same text again when it is back.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use genarm::config::{ArmOverride, Overrides};
use genarm::decode::DecodeError;
use genarm::expert::ExpertError;
use genarm::session::Session;

use super::{greedy, model, open, tokens};

/// A server on a port of its own, ended when it is dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        Self::start_at(port)
    }

    fn start_at(port: u16) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_genarm"))
            .args(["rpc-server", "--threads", "1", "--port", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let server = Self { child, port };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return server;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("the server does not listen on port {port}");
    }

    fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    fn kill(&mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it is gone");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The time-out is the process's: tests that set it take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn overrides(rpc: Vec<String>) -> Overrides {
    let arms = vec![ArmOverride { name: "talkative".into(), model: model("arm-talkative.gguf"), weight: Some(0.7) }];
    Overrides { base: Some(model("base.gguf")), arms, rpc, ..Overrides::default() }
}

fn lost(result: Result<Vec<i32>, DecodeError>) -> (String, String) {
    match result {
        Err(DecodeError::Base(ExpertError::Server { endpoint, reason })) => (endpoint, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn caches_of_a_lost_server_are_neither_saved_nor_restored() {
    let _turn = turn();
    let mut server = Server::start();
    let mut session = open(greedy(&overrides(vec![server.endpoint()])));
    tokens(&mut session, &mut |_| {}).expect("a text");
    let caches = session.save_caches().expect("the server is there");
    session.restore_caches(&caches).expect("the server is there");
    server.kill();
    // What it would have sent is all zeros, and they look like any caches.
    for refused in [session.save_caches().map(|_| ()), session.restore_caches(&caches)] {
        let error = refused.expect_err("the server is lost").to_string();
        assert!(error.contains("the base: lost the RPC server") && error.contains(&server.endpoint()), "{error}");
    }
}

#[test]
fn two_servers_carry_a_base_and_a_lost_one_is_an_error_until_it_is_back() {
    let _turn = turn();
    let local = tokens(&mut open(greedy(&overrides(Vec::new()))), &mut |_| {}).expect("a text");
    let (first, mut second) = (Server::start(), Server::start());
    let endpoints = vec![first.endpoint(), second.endpoint()];
    let config = greedy(&overrides(endpoints.clone()));
    let mut session = open(config.clone());
    assert_eq!(tokens(&mut session, &mut |_| {}).expect("a text"), local, "the same text as on this machine");

    let port = second.port;
    let killed = tokens(&mut session, &mut |n| {
        if n == 5 {
            second.kill();
        }
    });
    let (endpoint, reason) = lost(killed);
    assert_eq!(endpoint, endpoints[1], "{reason}");
    lost(tokens(&mut session, &mut |_| {}));

    // This process is as good as before: other models run, and the refusal of the dead server is an error too.
    drop(session);
    assert_eq!(tokens(&mut open(greedy(&overrides(Vec::new()))), &mut |_| {}).expect("a text"), local);
    let refused = Session::open(config.clone(), &mut |_, _| true).err().expect("a dead server").to_string();
    assert!(refused.contains(&endpoints[1]) && refused.contains("cannot connect"), "{refused}");

    let _second = Server::start_at(port);
    assert_eq!(tokens(&mut open(config), &mut |_| {}).expect("a text"), local, "the server is back");
}

#[test]
fn a_silent_server_is_lost_after_the_time_out() {
    let _turn = turn();
    let server = Server::start();
    let config = greedy(&Overrides { rpc_timeout: Some(1), ..overrides(vec![server.endpoint()]) });
    let mut session = open(config);
    let stopped = tokens(&mut session, &mut |n| {
        if n == 3 {
            server.signal("-STOP");
        }
    });
    let (_, reason) = lost(stopped);
    assert_eq!(reason, "no answer for 1 s");
    server.signal("-CONT");
}

#[test]
fn a_port_that_speaks_something_else_is_refused() {
    let _turn = turn();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let answer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = [0; 16];
        stream.read_exact(&mut request).expect("a request");
        std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("an answer");
    });
    let config = greedy(&overrides(vec![format!("127.0.0.1:{port}")]));
    let error = Session::open(config, &mut |_, _| true).err().expect("no RPC server").to_string();
    assert!(error.contains("does not answer as a ggml RPC server"), "{error}");
    answer.join().expect("it has answered");
}

#[test]
fn the_command_line_says_in_one_line_what_is_wrong_with_a_server() {
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_genarm")).args(args).output().expect("runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let base = model("base.gguf").display().to_string();
    let (code, said) = run(&["generate", "--base", &base, "--rpc", "127.0.0.1:1", "-n", "1", "x"]);
    assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.starts_with("error: base: RPC server 127.0.0.1:1: cannot connect"), "{said}");
    let (code, said) = run(&["generate", "--base", &base, "--rpc", "nonsense", "x"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("expected host:port"), "{said}");
    let server = Server::start();
    let output = Command::new(env!("CARGO_BIN_EXE_genarm")).args(["devices", "--rpc", &server.endpoint()]).output();
    let listed = String::from_utf8(output.expect("runs").stdout).expect("text");
    assert!(listed.contains("RPC") && listed.contains(&server.endpoint()), "{listed}");
    let (code, said) = run(&["rpc-server", "--port", &server.port.to_string()]);
    assert_eq!(code, Some(1));
    assert!(said.contains("cannot listen there"), "{said}");
}
