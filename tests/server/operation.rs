//! Overload, slow and vanishing clients, signals and reloads, under load.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{PROMPT, Serve, answer, client, text_of};

/// A text that takes a while.
fn long(n: usize) -> Value {
    json!({"prompt": "Tom", "max_tokens": n, "ignore_eos": true, "temperature": 0})
}

/// Sends a request over a plain connection and leaves it open.
fn raw(server: &Serve, body: &Value) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).expect("a connection");
    stream.write_all(request(body).as_bytes()).expect("sent");
    stream
}

fn request(body: &Value) -> String {
    let body = body.to_string();
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ";
    format!("{head}{}\r\n\r\n{body}", body.len())
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    // A minute: other tests may have the cores.
    for _ in 0..12_000 {
        if done() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("{what} did not happen");
}

fn running(server: &Serve) -> u64 {
    server.get("/health").1["running"].as_u64().expect("a number")
}

/// A context in which texts can be long enough to be in the way.
const LONG: [&str; 2] = ["--n-ctx", "16384"];

fn serve(args: &[&str]) -> Serve {
    Serve::demo(&[&LONG[..], args].concat())
}

/// Clients with a small window that ask for a lot and read nothing; each takes a slot.
fn occupy(server: &Serve, n: usize) -> Vec<TcpStream> {
    let body = json!({"prompt": "Tom", "max_tokens": 16_000, "ignore_eos": true, "stream": true, "return_rewards": true, "logprobs": 20});
    let streams = (0..n).map(|_| slow(server, &body)).collect();
    wait_until("the slots are taken", || running(server) as usize == n);
    streams
}

/// As [`raw`], with room for a few events only on the way to the client.
fn slow(server: &Serve, body: &Value) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("set");
    let address: std::net::SocketAddr = server.address().parse().expect("an address");
    socket.connect(&address.into()).expect("a connection");
    let mut stream = TcpStream::from(socket);
    stream.write_all(request(body).as_bytes()).expect("sent");
    stream
}

#[test]
fn what_does_not_fit_into_the_queue_is_refused_and_told_when_to_come_back() {
    let server = serve(&["--parallel", "2", "--queue", "1"]);
    let busy = occupy(&server, 2);
    let mut waiting = raw(&server, &long(2));
    wait_until("one waits", || server.get("/health").1["waiting"] == 1);
    let refused = client().post(server.url("/v1/completions")).json(&long(2)).send().expect("an answer");
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(refused.json::<Value>().expect("JSON")["error"]["code"], "queue_full");
    drop(busy);
    let mut answer = [0; 12];
    waiting.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    server.settle();
    // More texts at once than there is room for are refused as a whole.
    assert_eq!(server.post("/v1/completions", &json!({"prompt": "Tom", "n": 4, "max_tokens": 1})).0, 503);
}

#[test]
fn a_text_that_waits_too_long_is_given_up() {
    let server = serve(&["--parallel", "1", "--queue-timeout", "1", "--idle-timeout", "60"]);
    // A client that reads nothing: its text pauses and holds the slot.
    let _busy = occupy(&server, 1);
    let (status, body) = server.post("/v1/completions", &long(1));
    assert_eq!((status, &body["error"]["code"]), (503, &json!("queue_timeout")));
}

#[test]
fn the_breakers_of_dry_are_looked_up_before_a_text_has_a_slot() {
    let server = serve(&["--parallel", "1", "--queue-timeout", "1", "--idle-timeout", "60"]);
    let _busy = occupy(&server, 1);
    let mut body = long(1);
    (body["dry_multiplier"], body["dry_sequence_breakers"]) = (json!(0.8), json!(["a\u{0}b"]));
    let (status, answer) = server.post("/v1/completions", &body);
    assert_eq!((status, &answer["error"]["param"]), (400, &json!("dry_sequence_breakers")), "{answer}");
}

#[test]
fn a_client_that_goes_away_frees_its_lane() {
    let server = serve(&["--parallel", "2", "--metrics"]);
    for stream in [true, false] {
        let mut body = long(16_000);
        body["stream"] = json!(stream);
        let before = server.metric("genarm_cancelled_total");
        let connection = raw(&server, &body);
        wait_until("it runs", || running(&server) == 1);
        drop(connection);
        wait_until("the slot is free", || running(&server) == 0);
        assert_eq!(server.metric("genarm_cancelled_total"), before + 1.0);
    }
    assert!(!server.greedy(PROMPT, 5, &json!({})).is_empty());
}

#[test]
fn a_client_that_does_not_read_is_dropped_and_the_others_go_on() {
    let server = serve(&["--parallel", "2", "--idle-timeout", "2", "--metrics"]);
    let expected = server.greedy(PROMPT, 20, &json!({}));
    let slow = occupy(&server, 1);
    assert_eq!(server.greedy(PROMPT, 20, &json!({})), expected);
    wait_until("the slow client is dropped", || server.metric("genarm_cancelled_total") == 1.0);
    server.settle();
    assert!(server.metric("genarm_generated_tokens_total") < 5000.0, "its text paused");
    drop(slow);
}

#[test]
fn half_a_request_does_not_hold_a_connection() {
    let server = Serve::demo(&["--idle-timeout", "1"]);
    let mut stream = TcpStream::connect(server.address()).expect("a connection");
    stream.write_all(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{").expect("sent");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the end of the connection");
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let mut silent = TcpStream::connect(server.address()).expect("a connection");
    silent.write_all(b"GET /health HT").expect("sent");
    silent.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let mut rest = Vec::new();
    assert!(silent.read_to_end(&mut rest).is_ok(), "the connection is closed");
}

#[test]
fn the_time_of_a_request_is_limited_and_what_there_is_comes_back() {
    let server = serve(&["--parallel", "2", "--request-timeout", "1"]);
    let answer =
        server.ok("/v1/completions", &json!({"prompt": "Tom", "n": 2, "max_tokens": 16_000, "ignore_eos": true}));
    for choice in answer["choices"].as_array().expect("a list") {
        assert_eq!(choice["finish_reason"], "length");
        assert!(!choice["text"].as_str().expect("a text").is_empty());
    }
    assert_eq!(answer["genarm"]["timed_out"], true);
}

#[test]
fn a_term_signal_under_load_lets_texts_end_and_takes_no_more() {
    let mut server = serve(&["--parallel", "2", "--shutdown-timeout", "60"]);
    let url = server.url("/v1/completions");
    let texts: Vec<_> = (0..2)
        .map(|_| {
            let url = url.clone();
            thread::spawn(move || answer(client().post(url).json(&long(1500))))
        })
        .collect();
    wait_until("both run", || running(&server) == 2);
    let waiting = {
        let url = url.clone();
        thread::spawn(move || answer(client().post(url).json(&long(1500))))
    };
    wait_until("one waits", || server.get("/health").1["waiting"] == 1);
    server.signal("TERM");
    for text in texts {
        let (status, body) = text.join().expect("an answer");
        assert_eq!((status, text_of(&body).is_empty()), (200, false));
        assert_eq!(body["usage"]["completion_tokens"], 1500, "the text is whole");
    }
    let (status, body) = waiting.join().expect("an answer");
    assert_eq!((status, &body["error"]["code"]), (503, &json!("shutting_down")));
    let status = server.wait(Duration::from_secs(20)).expect("the process ends");
    assert!(status.success(), "{status}");
}

#[test]
fn texts_that_do_not_end_in_time_are_cut_off() {
    let mut server = serve(&["--parallel", "1", "--shutdown-timeout", "0"]);
    let url = server.url("/v1/completions");
    let text = thread::spawn(move || client().post(url).json(&long(16_000)).send().map(|r| r.status().as_u16()));
    wait_until("it runs", || running(&server) == 1);
    server.signal("TERM");
    let status = server.wait(Duration::from_secs(20)).expect("the process ends");
    assert!(status.success(), "{status}");
    assert_eq!(text.join().expect("an end").ok(), Some(503));
}

/// A model on another machine, which can be made to hang.
struct RpcServer(std::process::Child);

impl RpcServer {
    fn start() -> (Self, String) {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let port = address.port().to_string();
        let child = std::process::Command::new(env!("CARGO_BIN_EXE_genarm"))
            .args(["rpc-server", "--threads", "1", "--port", &port])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the server starts");
        wait_until("the RPC server listens", || TcpStream::connect(address).is_ok());
        (Self(child), address.to_string())
    }

    fn stop(&self) {
        let sent = std::process::Command::new("kill").args(["-STOP", &self.0.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }
}

impl Drop for RpcServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_engine_that_is_stuck_does_not_keep_the_process_from_ending() {
    let (rpc, endpoint) = RpcServer::start();
    let mut server = serve(&["--rpc", &endpoint, "--parallel", "1", "--shutdown-timeout", "1"]);
    let connection = raw(&server, &long(16_000));
    wait_until("it runs", || running(&server) == 1);
    rpc.stop();
    // The engine now waits for an answer, for half a minute, and nothing in this process can wake it.
    server.signal("TERM");
    let status = server.wait(Duration::from_secs(120)).expect("the process ends");
    assert_eq!(status.code(), Some(75), "{status}");
    wait_until("it says why", || server.talk.lock().expect("a lock").contains("the engine did not end in time"));
    drop(connection);
}

#[test]
fn a_saved_file_and_a_hangup_change_new_requests_and_no_running_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("prefs.yaml");
    let models = super::root().join("models").display().to_string();
    let write = |cheerful: &str, extra: &str| {
        let text = format!(
            "base: {{model: {models}/base.gguf}}\narms:\n  cheerful: {{lora: [{{path: {models}/arm-cheerful.gguf}}], weight: {cheerful}}}\n{extra}"
        );
        std::fs::write(&path, text).expect("written");
    };
    write("0.5", "");
    let file = path.display().to_string();
    let server = Serve::start(&[&LONG[..], &["--config", &file, "--parallel", "2", "--metrics"]].concat());
    let weight = || server.get("/v1/preferences").1["arms"][0]["weight"].as_f64().expect("a number");
    assert_eq!(weight(), 0.5);
    let url = server.url("/v1/completions");
    let before = thread::spawn(move || answer(client().post(url).json(&long(4000))));
    wait_until("it runs", || running(&server) == 1);
    write(
        "-0.5, range: [-0.73, 0.73]",
        "profiles: {calm: {cheerful: 0}}\nsampling: {temp: 0.3}\nguidance: {max_kl: 0.01}\n",
    );
    wait_until("the file is read again", || weight() == -0.5);
    assert_eq!(server.get("/v1/preferences").1["profiles"]["calm"]["cheerful"], 0.0);
    let preferences = server.get("/v1/preferences").1;
    assert_eq!(preferences["arms"][0]["range"].as_array().map(Vec::len), Some(2));
    let rewarded = server.ok("/v1/completions", &json!({"prompt": "Tom", "max_tokens": 1, "return_rewards": true}));
    assert!(rewarded["choices"][0]["rewards"][0]["lambda"].is_number(), "a limit of the file holds: {rewarded}");
    let used = |answer: &Value| answer["genarm"]["weights"]["cheerful"].as_f64();
    assert_eq!(used(&server.ok("/v1/completions", &long(1))), Some(-0.5));
    assert_eq!(used(&before.join().expect("an answer").1), Some(0.5), "a running text keeps its weights");
    write("1.0", "profils: {}\n");
    wait_until("the mistake is told", || server.talk.lock().expect("a lock").contains("did you mean \"profiles\"?"));
    assert_eq!(weight(), -0.5, "a wrong file changes nothing");
    write("1.5", "");
    server.signal("HUP");
    wait_until("the signal is heard", || weight() == 1.5);
    assert!(server.metric("genarm_reloads_total{result=\"ok\"}") >= 2.0);
    assert!(server.metric("genarm_reloads_total{result=\"failed\"}") >= 1.0);
}
