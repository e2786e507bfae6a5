//! llama-server, with shared libraries, under a parent that behaves as Ollama (`tests/capi/ollama.c`): it probes for
//! devices, then starts the server with a blob of its store and a random port.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::server::{PROMPTS, Server};
use super::{bin, difference, expected};
use crate::capi::built;
use crate::cases::ollama::{Store, cheerful};

/// The parent and its llama-server, which ends first.
struct Ollama {
    server: Server,
    child: u32,
}

impl Ollama {
    fn start(store: &Store, letter: char) -> Self {
        let mut command = store.genarm(&["--strict"]);
        command.arg(built().join("ollama")).arg(bin("llama-server")).arg(store.blob(letter)).stdin(Stdio::null());
        let mut server = Server::start_with_log(command);
        // `genarm run` becomes the parent.
        let parent = server.id();
        let (child, port) = server.wait_until(|| child_with_a_model(parent));
        server.wait_for(port);
        Self { server, child }
    }

    /// Whether libgenarm is in llama-server.
    fn has_libgenarm(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/maps", self.child)).expect("its memory").contains("/libgenarm.so")
    }
}

impl Drop for Ollama {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.to_string()).status();
    }
}

/// The child that runs a model, and its port. Those without a model look for devices.
fn child_with_a_model(parent: u32) -> Option<(u32, u16)> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().find_map(|child| {
        let words = fs::read_to_string(format!("/proc/{child}/cmdline")).ok()?;
        let words: Vec<_> = words.split('\0').collect();
        let after = |flag| words.iter().skip_while(|word| **word != flag).nth(1);
        after("--model")?;
        Some((child.parse().ok()?, after("--port")?.parse().ok()?))
    })
}

/// The probabilities of `genarm generate` after some tokens.
fn of_genarm(store: &Store, yaml: &Value, tokens: &[i64]) -> Vec<(i64, f64)> {
    let file = store.at("generate.yaml");
    fs::write(&file, yaml.to_string()).expect("a configuration");
    expected(&file, &[], tokens, 20)
}

#[test]
#[ignore = "make test-hosts builds the tools"]
fn ollama_s_llama_server_is_guided_where_hosts_names_its_model_and_untouched_elsewhere() {
    let store = Store::new(&json!({"ollama:llama3.2": cheerful()}));
    for (letter, is_guided) in [('a', true), ('b', false)] {
        let ollama = Ollama::start(&store, letter);
        let alone = json!({"base": {"model": store.blob(letter), "n_ctx": 2048}});
        let mut guided = alone.clone();
        guided["arms"] = cheerful()["arms"].clone();
        for tokens in PROMPTS {
            let theirs = ollama.server.distribution(tokens, -1);
            let [alone, guided] = [&alone, &guided].map(|yaml| of_genarm(&store, yaml, tokens));
            let (is, is_not) = if is_guided { (guided, alone) } else { (alone, guided) };
            let (off, other) = (difference(&is, &theirs), difference(&is_not, &theirs));
            assert!(theirs.len() == 20 && off < 1e-3 && other > 1e-2, "{letter} {tokens:?}: {off}, {other}");
        }
        assert_eq!(ollama.has_libgenarm(), is_guided, "{letter}");
        let log = ollama.server.log();
        assert!(log.contains("genarm: ARMs take memory that the tool does not count"), "{log}");
        assert!(!log.contains("not guided") && !log.contains("genarm: error"), "{log}");
    }
}
