//! Requests that ended a server, or froze it for everyone. While each of them runs, `/health` answers and another
//! client's text comes out as ever; afterwards the process lives and every slot is free.
//!
//! A new case goes into the file of its kind: [`texts`], [`limits`], [`grammars`] or [`tools`].

mod connections;
mod grammars;
mod limits;
mod texts;
mod tools;

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::{PROMPT, Serve, answer, client};
use crate::support::vocabularies::bpe_model;

/// A request, and what a right answer to it is.
pub struct Attack {
    pub name: &'static str,
    pub path: &'static str,
    pub body: Value,
    pub right: Right,
}

/// What a right answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// 200.
    Answered,
    /// 400 that says this: the name of the field, or what is wrong.
    Refused(&'static str),
    /// One of the two.
    Either,
}

impl Attack {
    pub fn new(name: &'static str, path: &'static str, body: Value, right: Right) -> Self {
        Self { name, path, body, right }
    }

    /// A request to `/completion` with these fields over those of a short text.
    pub fn completion(name: &'static str, fields: Value, right: Right) -> Self {
        let mut body = json!({"prompt": "Once upon a time", "n_predict": 8});
        let fields = fields.as_object().expect("an object");
        fields.iter().for_each(|(key, value)| body[key] = value.clone());
        Self::new(name, "/completion", body, right)
    }

    fn check(&self, (status, answer): &(u16, Value)) {
        let shown: String = answer.to_string().chars().take(600).collect();
        let refused_with = match self.right {
            Right::Answered => return assert_eq!(*status, 200, "{}: {shown}", self.name),
            Right::Either if *status == 200 => return,
            Right::Either => "",
            Right::Refused(what) => what,
        };
        assert_eq!(*status, 400, "{}: {shown}", self.name);
        let said = ["message", "param"].map(|key| answer["error"][key].as_str().unwrap_or_default());
        assert!(
            said.iter().any(|text| text.contains(refused_with)),
            "{}: {said:?} without {refused_with:?}",
            self.name
        );
        assert!(answer.to_string().len() < 2_000, "{}: the refusal repeats the request: {shown}", self.name);
    }
}

/// A server with a small context and two slots: one for the attack, one for the others.
fn server(args: &[&str]) -> Serve {
    Serve::demo(&[&["--parallel", "2", "--n-ctx", "256"], args].concat())
}

/// A text of another client, which must not depend on the attacks.
fn text(server: &Serve) -> String {
    server.greedy(PROMPT, 12, &json!({}))
}

/// Sends a request and closes the connection before an answer can come.
fn send_and_leave(server: &Serve, attack: &Attack) {
    let mut stream = TcpStream::connect(server.address()).expect("a connection");
    let body = attack.body.to_string();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        attack.path,
        body.len()
    );
    // A server that has refused the request by its head may close first.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

/// Runs the attacks one after the other, each beside a client that writes texts and one that asks for the server's
/// health.
pub fn withstand(server: &Serve, attacks: &[Attack]) {
    let expected = text(server);
    for attack in attacks {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let others = scope.spawn(|| {
                loop {
                    let last = done.load(Ordering::Relaxed);
                    assert_eq!(server.get("/health").0, 200, "{}: /health", attack.name);
                    assert_eq!(text(server), expected, "{}: another client's text", attack.name);
                    if last {
                        return;
                    }
                }
            });
            let answer = server.post(attack.path, &attack.body);
            done.store(true, Ordering::Relaxed);
            attack.check(&answer);
            others.join().unwrap_or_else(|_| panic!("{}: another client was disturbed", attack.name));
        });
        send_and_leave(server, attack);
        server.settle();
    }
    assert_eq!(text(server), expected, "after all attacks");
}

#[test]
fn texts_of_every_kind_leave_the_server_and_its_other_clients_as_they_were() {
    withstand(&server(&[]), &texts::attacks("</s>"));
}

#[test]
fn the_same_texts_do_no_more_where_the_tokenizer_recurses() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = folder.path().join("tekken.gguf");
    bpe_model(&base, "tekken");
    let base = base.display().to_string();
    let server = Serve::start(&["--base", &base, "--chat-template", "raw", "--parallel", "2", "--n-ctx", "256"]);
    withstand(&server, &texts::attacks("<|end|>"));
}

#[test]
fn lists_within_each_other_are_refused() {
    let server = server(&[]);
    for body in ["[".repeat(500_000), format!("{{\"prompt\": {}", "[".repeat(500_000)), "{\"a\":".repeat(100_000)] {
        let json = client().post(server.url("/completion")).header("content-type", "application/json").body(body);
        let (status, answer) = answer(json);
        assert_eq!(status, 400, "{answer}");
        assert!(answer.to_string().len() < 1_000, "{answer}");
    }
    text(&server);
}

#[test]
fn lists_and_names_without_end_leave_the_server_and_its_other_clients_as_they_were() {
    withstand(&server(&[]), &limits::attacks());
}

#[test]
fn grammars_leave_the_server_and_its_other_clients_as_they_were() {
    withstand(&server(&[]), &grammars::attacks());
}

#[test]
fn tools_leave_the_server_and_its_other_clients_as_they_were() {
    withstand(&server(&[]), &tools::attacks());
}
