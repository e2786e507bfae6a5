//! The HTTP server, spoken to by real clients: the binary as a process, on a free port of this machine.

mod accepted;
mod access;
mod attacks;
mod bytes;
mod clients;
mod contract;
mod counted;
pub mod doors;
mod duel;
mod fields;
mod generations;
mod grammars;
mod isolation;
mod offsets;
mod operation;
mod packaging;
mod page;
mod rewards;
mod soak;
mod speculate;
mod steering;
mod stops;
mod stream;
mod tools;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

pub const PROMPT: &str = "Once upon a time, there was a little girl named Lily.";

/// A running server; it is killed when it goes out of scope.
pub struct Serve {
    child: Child,
    pub url: String,
    /// What it said on stderr after it was ready.
    pub talk: Arc<Mutex<String>>,
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Serve {
    /// The demo models under a chat template that writes messages one after the other.
    pub fn demo(args: &[&str]) -> Self {
        Self::demo_at("0", args)
    }

    /// The same on a port that was free a moment ago.
    pub fn demo_at(port: &str, args: &[&str]) -> Self {
        let config = root().join("models/demo.yaml").display().to_string();
        Self::start_at(port, &[&["--config", &config, "--chat-template", "raw"], args].concat())
    }

    pub fn start(args: &[&str]) -> Self {
        Self::start_at("0", args)
    }

    fn start_at(port: &str, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_genarm"));
        command.args(["serve", "--port", port]).args(args).env("NO_COLOR", "1");
        Self::of(command.env("GENARM_LOG", "error,llama-cpp-2=off,genarm=info"))
    }

    /// The server of a command.
    pub fn of(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let mut before = String::new();
        let url = loop {
            let line = lines.next().unwrap_or_else(|| panic!("the server ended: {before}")).expect("a line");
            match line.split_once("listening on ") {
                Some((_, url)) => break url.to_owned(),
                None => before += &(line + "\n"),
            }
        };
        let talk = Arc::new(Mutex::new(before));
        let heard = Arc::clone(&talk);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *heard.lock().expect("a lock") += &(line + "\n");
            }
        });
        Self { child, url, talk }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub fn address(&self) -> &str {
        self.url.strip_prefix("http://").expect("a URL")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(status.expect("kill").success());
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let start = std::time::Instant::now();
        while start.elapsed() < limit {
            if let Some(status) = self.child.try_wait().expect("a status") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        answer(client().get(self.url(path)))
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(client().post(self.url(path)).json(body))
    }

    /// The answer to a request that must succeed.
    pub fn ok(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.post(path, body);
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer
    }

    /// The text of a completion at temperature 0.
    pub fn greedy(&self, prompt: &str, n: usize, preferences: &Value) -> String {
        let body = json!({"prompt": prompt, "max_tokens": n, "temperature": 0, "preferences": preferences});
        text_of(&self.ok("/v1/completions", &body))
    }

    /// A figure of `/metrics`.
    pub fn metric(&self, name: &str) -> f64 {
        let text = client().get(self.url("/metrics")).send().expect("an answer").text().expect("a text");
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// Waits until nothing runs and nothing waits.
    pub fn settle(&self) {
        for _ in 0..1000 {
            let (_, health) = self.get("/health");
            if health["running"] == 0 && health["waiting"] == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("a slot stays busy: {}", self.get("/health").1);
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn client() -> reqwest::blocking::Client {
    reqwest::blocking::Client::builder().timeout(Duration::from_secs(120)).build().expect("a client")
}

pub fn answer(request: reqwest::blocking::RequestBuilder) -> (u16, Value) {
    let response = request.send().expect("an answer");
    let status = response.status().as_u16();
    let text = response.text().expect("a body");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

pub fn text_of(completion: &Value) -> String {
    completion["choices"][0]["text"].as_str().unwrap_or_else(|| panic!("a text: {completion}")).to_owned()
}
