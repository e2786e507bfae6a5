//! Programs that start llama.cpp as Ollama does: `tests/capi/ollama.c` probes for devices, then starts
//! `tests/capi/server.c` with a blob of its store and a random port. Only the models under `hosts:` are guided.

mod names;
mod parents;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use genarm::session::Session;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::doors::{Guides, host, prompt};
use super::hosts::Program;
use super::{Case, all, root};
use crate::capi::{built, command, tokens_of};

/// A folder with a store of Ollama's and a configuration.
pub struct Store {
    folder: TempDir,
}

/// What the server says at its end on stderr.
const WITH: &str = "with libgenarm\n";
const WITHOUT: &str = "without libgenarm\n";

impl Store {
    /// With the demo's base as llama3.2, and another model of the same tokens as qwen3:4b.
    pub fn new(hosts: &Value) -> Self {
        let store = Self { folder: tempfile::tempdir().expect("a folder") };
        store.put("library/llama3.2/latest", 'a', "models/base.gguf");
        store.put("library/qwen3/4b", 'b', "models/small.gguf");
        store.configure(&json!({ "hosts": hosts }));
        store
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self, yaml: &Value) {
        fs::write(self.config(), format!("{yaml:#}")).expect("a configuration");
    }

    fn config(&self) -> PathBuf {
        self.at("prefs.yaml")
    }

    pub fn blob(&self, letter: char) -> PathBuf {
        self.at("store/blobs").join(format!("sha256-{}", letter.to_string().repeat(64)))
    }

    fn put(&self, name: &str, letter: char, model: &str) {
        let blob = self.blob(letter);
        fs::create_dir_all(self.at("store/blobs")).expect("a folder");
        fs::copy(root().join(model), &blob).expect("a model");
        let tokens = tokens_of(&root().join("models/base.gguf"), self.folder.path(), |_| {});
        fs::rename(tokens, blob.with_extension("tokens")).expect("the tokens");
        self.name(name, letter);
    }

    /// Gives a blob a name, as `ollama pull` does.
    fn name(&self, name: &str, letter: char) {
        let layer = |kind: &str, letter: char| {
            let digest = format!("sha256:{}", letter.to_string().repeat(64));
            json!({"mediaType": format!("application/vnd.ollama.image.{kind}"), "digest": digest, "size": 1})
        };
        let layers = [layer("model", letter), layer("license", 'f')];
        let manifest = json!({"schemaVersion": 2, "config": {"digest": "sha256:0"}, "layers": layers});
        let file = self.at("store/manifests/registry.ollama.ai").join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(file, manifest.to_string()).expect("a manifest");
    }

    /// `genarm run` with these options; the tool comes after.
    pub fn genarm(&self, options: &[&str]) -> Command {
        let mut command = command(env!("CARGO_BIN_EXE_genarm"));
        command.arg("run").arg("-f").arg(self.config()).args(options).arg("--").current_dir(self.folder.path());
        command.env("OLLAMA_MODELS", self.at("store")).stdin(Stdio::null());
        command
    }

    fn run(
        &self,
        options: &[&str],
        tool: impl for<'a> FnOnce(&'a mut Command) -> &'a mut Command,
    ) -> (Option<i32>, String, String) {
        let mut command = self.genarm(options);
        tool(&mut command);
        texts(&command.output().expect("genarm runs"))
    }

    /// The text of a case in a model of the store, through the parent, and what stands on stderr.
    fn text(&self, case: &Case, options: &[&str], letter: char, further: &[&str]) -> (String, String) {
        let log = self.at("stderr");
        let mut command = self.genarm(options);
        command.arg(built().join("ollama")).arg(built().join("server")).arg(self.blob(letter)).args(further);
        let mut program = Program::start(command.stderr(fs::File::create(&log).expect("a log")));
        let outcome = host(case, &mut base_of(case), &mut program);
        drop(program);
        (outcome.text, fs::read_to_string(log).expect("the log"))
    }
}

fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn case(name: &str) -> Case {
    all().into_iter().find(|case| case.name() == name).expect("a case")
}

/// What computes the rows.
fn base_of(case: &Case) -> Session {
    let whole = case.config(&json!({"arms": null, "profiles": null, "guidance": null, "speculate": "off"}));
    Session::open(whole, &mut |_, _| true).expect("the base")
}

pub fn cheerful() -> Value {
    json!({"arms": {"cheerful": {"lora": root().join("models/arm-cheerful.gguf")}}})
}

/// Its beginning is the note of `genarm run`; the rest is what the tools say.
fn after_the_note(talk: &str) -> &str {
    let (note, rest) = talk.split_once('\n').expect("a line");
    assert!(note.starts_with("genarm: ARMs take memory that the tool does not count: "), "{talk}");
    rest
}

#[test]
fn a_model_under_hosts_is_guided_and_another_one_of_the_same_parent_is_left_alone() {
    let store = Store::new(&json!({"ollama:llama3.2": cheerful()}));
    // The same prompt, with and without ARMs.
    let (guided, alone) = (case("greedy"), case("base-alone"));
    for options in [&[][..], &["--strict"]] {
        let (text, talk) = store.text(&guided, options, 'a', &["-ngl", "0"]);
        assert_eq!((&text, after_the_note(&talk)), (&guided.expected().text, WITH));
        let (text, talk) = store.text(&alone, options, 'b', &[]);
        assert_eq!((&text, after_the_note(&talk)), (&alone.expected().text, WITHOUT));
    }
    // Embeddings have no text.
    let (text, talk) = store.text(&alone, &["--strict"], 'a', &["--embedding"]);
    assert_eq!((&text, after_the_note(&talk)), (&alone.expected().text, WITHOUT));
}

#[test]
fn an_entry_is_a_configuration_of_its_own_on_the_file_around_it() {
    let three = case("three-arms");
    let all_arms = three.yaml(&json!({}));
    let weights = json!(three.weights);
    let other = json!({"base": all_arms["base"], "arms": all_arms["arms"]});
    for entry in [
        json!({"arms": all_arms["arms"], "weights": weights}),
        json!({"weights": weights}),
        json!({"profile": "mine"}),
        json!({"profile": "neutral", "weights": weights}),
        json!("other.yaml"),
        json!({"config": "other.yaml"}),
    ] {
        let store = Store::new(&json!({}));
        let file = json!({
            "base": "nowhere.gguf", "arms": all_arms["arms"],
            "profiles": {"mine": weights, "neutral": {"cheerful": 0, "talkative": 0, "plain": 0}},
            "hosts": {"ollama:llama3.2": entry},
        });
        store.configure(&file);
        let mut other = other.clone();
        for (name, weight) in &three.weights {
            other["arms"][name]["weight"] = json!(weight);
        }
        fs::write(store.at("other.yaml"), other.to_string()).expect("another file");
        let (text, talk) = store.text(&three, &["--strict"], 'a', &[]);
        assert_eq!((&text, after_the_note(&talk)), (&three.expected().text, WITH), "{entry}");
    }
}

#[test]
fn mistakes_under_hosts_are_reported_before_the_tool_starts() {
    let store = Store::new(&json!({}));
    let arm = |path: &str| json!({"arms": {"a": {"model": root().join(path)}}});
    for (file, problem) in [
        (json!({"hosts": {"ollama:llama3.2": {"arm": {}}}}), "unknown key \"arm\" in hosts.ollama:llama3.2"),
        (json!({"hosts": {"ollama:llama 3": cheerful()}}), "write ollama:NAME[:TAG]"),
        (json!({"hosts": {"ollama:llama3.2": {}}}), "hosts.ollama:llama3.2: guides nothing, as there are no ARMs"),
        (json!({"hosts": {"ollama:llama3.2": "no.yaml"}}), "no.yaml: cannot read the configuration: no such file"),
        (json!({"hosts": {"ollama:llama3.2": {"config": "p.yaml", "weights": {"a": 1}}}}), "stands alone"),
        (json!({"hosts": {"ollama:llama3.2": arm("models/no.gguf")}}), "models/no.gguf"),
        (
            json!({"hosts": {"ollama:llama3.2": arm("tests/models/stories260K.gguf")}}),
            "hosts.ollama:llama3.2: ARM \"a\"",
        ),
        (json!({"hosts": {"": cheerful()}}), "names no model"),
        (json!({"hosts": {"a\tb": cheerful()}}), "control character"),
    ] {
        store.configure(&file);
        let (code, _, talk) = store.run(&[], |command| command.args(["touch", "ran"]));
        assert_eq!((code, talk.lines().count(), store.at("ran").exists()), (Some(1), 1, false), "{file}: {talk}");
        assert!(talk.contains(problem), "{file}: {talk}");
    }
    store.configure(&json!({"hosts": {"ollama:llama3.2": cheerful(), "ollama:qwen3:4b": cheerful()}}));
    let (code, _, talk) = store.run(&["--weight", "grim=1"], |command| command.arg("true"));
    assert!(code == Some(2) && talk.contains("unknown ARM \"grim\""), "{talk}");
}

#[test]
fn a_weight_that_is_set_for_one_model_holds_in_its_running_server() {
    let mut entry = cheerful();
    entry["arms"]["cheerful"]["weight"] = json!(1.5);
    let store = Store::new(&json!({"ollama:llama3.2": entry, "ollama:qwen3:4b": cheerful()}));
    let case = case("greedy");
    let mut session = base_of(&case);
    let history = prompt(&case, &session).base;
    let row = genarm::Expert::advance(session.base(), &history, 1).expect("a row").to_vec();
    let mut command = store.genarm(&["--strict"]);
    command.arg(built().join("ollama")).arg(built().join("server")).arg(store.blob('a'));
    let mut program = Program::start(command.stderr(Stdio::null()));
    let mut guided = row.clone();
    program.guide(&history, &mut guided);
    assert!(guided != row);
    let genarm = |args: &[&str]| {
        let mut genarm = Command::new(env!("CARGO_BIN_EXE_genarm"));
        let (code, out, talk) = texts(&genarm.arg("weights").arg(store.config()).args(args).output().expect("it runs"));
        (code, out + &talk)
    };
    assert_eq!(genarm(&["--host", "ollama:llama3.2"]), (Some(0), "cheerful=1.5\n".into()));
    assert_eq!(genarm(&["--host", "ollama:llama3.2", "set", "cheerful=0"]), (Some(0), String::new()));
    assert_eq!(genarm(&["--host", "ollama:qwen3:4b"]), (Some(0), "cheerful=1\n".into()));
    let patience = Instant::now();
    while guided != row {
        assert!(patience.elapsed() < Duration::from_secs(60), "the weight does not reach the server");
        guided.clone_from(&row);
        program.guide(&[], &mut guided);
    }
    let (code, talk) = genarm(&["set", "cheerful=1"]);
    assert!(code == Some(2) && talk.contains("pass --host, one of: ollama:llama3.2, ollama:qwen3:4b"), "{talk}");
    let (code, talk) = genarm(&["--host", "ollama:llama3.3"]);
    assert!(code == Some(1) && talk.contains("did you mean \"ollama:llama3.2\""), "{talk}");
}
