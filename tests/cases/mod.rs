//! One table of cases, `tests/cases/*.yaml`, through every door: the text of a case is the same whichever way it is
//! asked for.
//!
//! A case is a configuration, a prompt and the text that comes out; [`Case`] lists its fields. A new case is a new
//! file, and `make snapshots` records its text.

mod doors;
mod hosts;
#[cfg(target_os = "linux")]
pub mod ollama;

use std::path::{Path, PathBuf};

use genarm::chat::Message;
use genarm::config::{Config, Overrides};
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// Logits that differ by this must not change a text: batches of other sizes and other processors round that
/// differently.
const ROUNDING: f32 = 0.01;

/// One file of `tests/cases`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    #[serde(skip)]
    file: PathBuf,
    /// What it shows.
    #[serde(rename = "about")]
    _about: String,
    /// The configuration that it begins with, from the root of the repository.
    #[serde(default = "demo")]
    from: PathBuf,
    /// What is merged into that configuration: mappings are merged, null removes a key. Paths are relative to `from`.
    #[serde(default)]
    config: Map<String, Value>,
    /// Profile and weights by ARM, in the words of each door.
    profile: Option<String>,
    #[serde(default)]
    weights: IndexMap<String, f32>,
    /// As in a configuration. Temperature and seed are passed in the words of each door, the rest in the configuration.
    #[serde(default)]
    sampling: Map<String, Value>,
    /// A plain text, or else a conversation.
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
    /// Most tokens.
    n: usize,
    #[serde(default)]
    stop: Vec<String>,
    /// What must come out. Recorded, and the last key of the file.
    expected: Option<Outcome>,
}

/// What comes out of a door.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    text: String,
    /// As OpenAI's API has it: `length`, or `stop` for a stop string or the model's end.
    finish: String,
}

fn demo() -> PathBuf {
    "models/demo.yaml".into()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

fn yaml<T: serde::de::DeserializeOwned>(file: &Path) -> T {
    serde_saphyr::from_str(&read(file)).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// Every case, by name.
fn all() -> Vec<Case> {
    let folder = std::fs::read_dir(root().join("tests/cases")).expect("the folder of the cases");
    let mut files: Vec<_> = folder.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files.into_iter().map(|file| Case { file: file.clone(), ..yaml(&file) }).collect()
}

/// Merges as RFC 7396 does: mappings are merged, null removes, all else replaces.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().expect("an object");
    for (key, value) in patch {
        match value {
            Value::Null => drop(target.shift_remove(key)),
            value => merge(target.entry(key).or_insert(Value::Null), value),
        }
    }
}

/// Makes the paths under `model:` and `path:` absolute.
fn absolute(value: &mut Value, folder: &Path) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(path) if key == "model" || key == "path" => {
                        *path = folder.join(&path).display().to_string();
                    }
                    value => absolute(value, folder),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| absolute(item, folder)),
        _ => {}
    }
}

impl Case {
    fn name(&self) -> String {
        self.file.file_stem().expect("a name").to_string_lossy().into_owned()
    }

    /// Its configuration, with `more` merged into it. Temperature and seed are left to the door.
    fn yaml(&self, more: &Value) -> Value {
        let from = root().join(&self.from);
        let mut config: Value = yaml(&from);
        // Threads gain nothing on models this small, and lose much where others compute too.
        let sampling = self.sampling.iter().filter(|(key, _)| !["temp", "seed"].contains(&key.as_str()));
        let sampling: Map<_, _> = sampling.map(|(key, value)| (key.clone(), value.clone())).collect();
        for patch in [&json!({"base": {"threads": 1}, "sampling": sampling}), &json!(self.config), more] {
            merge(&mut config, patch);
        }
        absolute(&mut config, from.parent().expect("a folder"));
        config
    }

    /// The same as a file.
    fn file(&self, more: &Value) -> (TempDir, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(format!("{}.yaml", self.name()));
        std::fs::write(&file, self.yaml(more).to_string()).expect("the configuration is written");
        let path = file.display().to_string();
        (folder, path)
    }

    /// The same resolved, with temperature and seed.
    fn config(&self, more: &Value) -> Config {
        let mut all = self.yaml(more);
        merge(&mut all, &json!({"sampling": self.sampling}));
        let profile = self.profile.clone().filter(|_| !all["arms"].is_null());
        Config::parse(&all.to_string(), &self.file, &Overrides { profile, ..Overrides::default() })
            .unwrap_or_else(|e| panic!("{e}"))
    }

    /// The weights as the C interface takes them.
    fn weights(&self) -> String {
        let weights: Vec<_> = self.weights.iter().map(|(name, weight)| format!("{name}={weight}")).collect();
        weights.join(",")
    }

    /// Profile and weights as command lines take them.
    fn flags(&self) -> Vec<String> {
        let weights = self.weights.iter().map(|(name, weight)| format!("--weight={name}={weight}"));
        self.profile.iter().map(|name| format!("--profile={name}")).chain(weights).collect()
    }

    /// Whether all is drawn from one seed, by one number per token. A draft is judged by draws of its own, so that such
    /// a text keeps its distribution and not its words.
    fn is_drawn(&self) -> bool {
        self.sampling.get("temp").and_then(Value::as_f64) != Some(0.0)
    }

    /// Writes what must come out, in place of what the file has.
    fn record(&self, outcome: &Outcome) {
        let text = read(&self.file);
        let kept = text.split("\nexpected:").next().expect("a beginning").trim_end();
        let (text, finish) = (json!(outcome.text), &outcome.finish);
        let whole = format!("{kept}\nexpected:\n  text: {text}\n  finish: {finish}\n");
        std::fs::write(&self.file, whole).expect("the case is written");
    }

    fn expected(&self) -> &Outcome {
        let name = self.name();
        self.expected.as_ref().unwrap_or_else(|| panic!("{name}: its text is not recorded; run make snapshots"))
    }
}

/// Asks for every case; `ask` gives what comes out by the names of the ways that it went, or nothing where the door has
/// no words for a case.
fn through(ask: impl Fn(&Case) -> Vec<(String, Outcome)>) {
    let mut wrong = Vec::new();
    let mut n = 0;
    for case in all() {
        for (way, outcome) in ask(&case) {
            n += 1;
            let expected = case.expected();
            if outcome != *expected {
                wrong.push(format!("{}, {way}:\n  expected {expected:?}\n  found    {outcome:?}", case.name()));
            }
        }
    }
    assert!(n > 0, "no case came through");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A host gives tokens only: an ARM with a system prompt or a template of its own reads a conversation in other words
/// there.
fn in_hosts(case: &Case, ask: impl Fn(&Case) -> Outcome, way: &str) -> Vec<(String, Outcome)> {
    let mut arms = case.config.get("arms").and_then(Value::as_object).into_iter().flat_map(Map::values);
    let rendered = case.messages.is_some() && arms.any(|arm| !arm["system"].is_null() || !arm["template"].is_null());
    if rendered { vec![] } else { one(way, ask(case)) }
}

fn one(way: &str, outcome: Outcome) -> Vec<(String, Outcome)> {
    vec![(way.to_owned(), outcome)]
}

#[test]
fn every_case_has_a_text_that_no_rounding_changes() {
    let write = std::env::var_os("GENARM_WRITE_SNAPSHOTS").is_some();
    let mut wrong = Vec::new();
    for case in all() {
        let outcome = doors::library(&case, &json!({"share_batch": "off"})).expect("a text").0;
        let rounded = doors::hook(&case, &[Some(0), Some(1), Some(2), Some(3), Some(4), Some(5)]);
        if let Some(other) = rounded.into_iter().find(|rounded| *rounded != outcome) {
            let advice = "a rounding changes its text; give it another seed or prompt";
            wrong.push(format!("{}: {advice}\n  {outcome:?}\n  {other:?}", case.name()));
        } else if write {
            case.record(&outcome);
        } else if outcome != *case.expected() {
            wrong.push(format!("{}: {outcome:?}; where this is meant, run make snapshots", case.name()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_case_comes_through_a_shared_batch() {
    through(|case| {
        let session = doors::library(case, &json!({"share_batch": "on"})).expect("a text");
        if session.1.shares { one("shared batch", session.0) } else { vec![] }
    });
}

#[test]
fn every_case_comes_through_every_drafter() {
    let draft = format!("draft:{}", root().join("models/small.gguf").display());
    for word in ["lookup", "base", "backbone", "arm", "auto", &draft] {
        let drafted = std::cell::Cell::new(0);
        through(|case| {
            let speculate = json!({"speculate": word});
            let found = (!case.is_drawn()).then(|| doors::library(case, &speculate)).flatten();
            let Some((outcome, did)) = found else { return vec![] };
            drafted.set(drafted.get() + did.drafted);
            one(word, outcome)
        });
        assert!(word == "auto" || drafted.get() > 0, "{word} has drafted nothing");
    }
}

#[test]
fn every_case_comes_through_the_raw_hook_in_a_chain_of_llama_cpp() {
    through(|case| doors::hook(case, &[None]).into_iter().map(|outcome| ("hook".to_owned(), outcome)).collect());
}

#[test]
fn every_case_comes_through_the_command_line() {
    through(|case| doors::command(case).map_or_else(Vec::new, |outcome| one("genarm generate", outcome)));
}

#[test]
fn every_case_comes_through_the_server() {
    through(doors::server);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "the hosts are built as on Linux")]
fn every_case_comes_through_the_c_interface() {
    through(|case| in_hosts(case, hosts::api, "genarm.h"));
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "the hosts are built as on Linux")]
fn every_case_comes_through_the_preload_in_a_tool_that_knows_nothing_of_it() {
    through(|case| in_hosts(case, hosts::preload, "genarm run"));
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "the hosts are built as on Linux")]
fn every_case_comes_through_the_python_package() {
    let numpy = root().join("target/test-tools/python/numpy");
    let python = root().join("target/test-tools/python/bin/python");
    if crate::support::tool(&numpy, "numpy").is_some() {
        through(|case| in_hosts(case, |case| hosts::python(case, &python), "python"));
    }
}
