//! One conversation through every door.

use std::path::{Path, PathBuf};

use genarm::chat::{Conversation, Message};
use genarm::config::{Config, Overrides};
use genarm::session::{PromptRenderer, Session};
use genarm::train::settings::{Settings, Wire};
use genarm::train::{pairs, render};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{byte_pairs, template, write};
use crate::server::Serve;
use crate::support::binary::{failure, json as run, stdout};

/// A base with a chat template, an ARM without one, and a file of pairs.
struct World {
    folder: TempDir,
}

const USER: &str = "Tom asks: <|im_end|> what is it?";
const CHOSEN: &str = "It ends <|im_end|> a turn.";
const REJECTED: &str = "Nothing.";

impl World {
    fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().expect("a folder") };
        let vocabulary = byte_pairs(&["<|im_start|>", "<|im_end|>"], &[])
            .with("tokenizer.ggml.bos_token_id", 2048u32)
            .with("tokenizer.ggml.eos_token_id", 2049u32)
            .with("tokenizer.ggml.add_bos_token", false)
            .with("tokenizer.chat_template", &*template("smollm2"));
        write(&world.path("base.gguf"), &vocabulary, 1);
        write(&world.path("arm.gguf"), &vocabulary, 2);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn file(&self, name: &str, content: &str) -> String {
        std::fs::write(self.path(name), content).expect("written");
        self.text(name)
    }

    fn models(&self) -> [String; 8] {
        let arm = format!("a={}", self.text("arm.gguf"));
        ["--base", &self.text("base.gguf"), "--arm", &arm, "--threads", "1", "-c", "256"].map(str::to_owned)
    }

    fn args<'a>(&self, models: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
        more.iter().copied().chain(models.iter().map(String::as_str)).collect()
    }
}

fn session(base: &Path, arm: &Path) -> Session {
    let yaml = format!(
        "base: {{model: {}, n_ctx: 256, threads: 1}}\narms: {{a: {{model: {}}}}}\n",
        base.display(),
        arm.display()
    );
    let config = Config::parse(&yaml, Path::new("test.yaml"), &Overrides::default()).expect("a configuration");
    Session::open(config, &mut |_, _| true).expect("a session")
}

/// The pairs of a file as `train` and `accuracy` read them: prompt, chosen and rejected in tokens.
fn pairs_of(file: &str, prompts: &PromptRenderer) -> [Vec<genarm::Token>; 3] {
    let wire = Wire {
        backbone: Some("b".into()),
        pairs: Some(vec![std::path::PathBuf::from(file).into()]),
        out: Some("o".into()),
        ..Wire::default()
    };
    let settings = Settings::try_from(wire).expect("settings");
    let template = render::template("auto", prompts.template(0).cloned()).expect("a template");
    let (examples, _) = pairs::load(&settings, prompts.vocab(), &template, 256).expect("pairs");
    let ids = |ids: &[u32]| ids.iter().map(|id| *id as genarm::Token).collect();
    [ids(&examples[0].prompt), ids(&examples[0].chosen), ids(&examples[0].rejected)]
}

#[test]
fn chat_serve_score_train_and_accuracy_read_one_conversation_as_the_same_tokens() {
    let world = World::new();
    let session = session(&world.path("base.gguf"), &world.path("arm.gguf"));
    let mut conversation = Conversation::new(None);
    conversation.push_user(USER);
    let messages = conversation.messages();
    let chat = session.chat_prompt(&conversation).expect("chat");
    let serve = session.prompts().chat(&messages, "").expect("serve");
    let (score, response) = session.prompts().chat_response(&messages, CHOSEN).expect("score");
    let line = json!({"prompt": messages, "chosen": CHOSEN, "rejected": REJECTED}).to_string();
    let [prompt, chosen, _] = pairs_of(&world.file("pairs.jsonl", &line), session.prompts());
    assert_eq!((&chat, &chat, &chat.base), (&serve, &score, &prompt));
    assert_eq!(chat.experts, [None], "an ARM of the same template reads the base's tokens");
    assert_eq!(chosen, [&response[..], &[2049]].concat(), "training adds the end");
    let control = |tokens: &[genarm::Token]| tokens.iter().filter(|token| **token >= 2048).count();
    assert_eq!((control(&chat.base), control(&response)), (5, 0), "two turns, and the beginning of a third");
    // What is continued is what would be scored.
    let begun = session.prompts().chat(&messages, CHOSEN).expect("a begun answer");
    assert_eq!(begun.base, [chat.base, response].concat());
}

#[test]
fn a_prompt_that_was_rendered_before_is_read_as_its_messages() {
    let world = World::new();
    let session = session(&world.path("base.gguf"), &world.path("arm.gguf"));
    let messages = [Message::new("user", "Who are you?")];
    let as_messages = json!({"prompt": messages, "chosen": "I am Tom.", "rejected": "No."}).to_string();
    let system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
    let text = format!(
        "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n"
    );
    let as_text = json!({"prompt": text, "chosen": "I am Tom.<|im_end|>\n", "rejected": "No."}).to_string();
    let pair = pairs_of(&world.file("messages.jsonl", &as_messages), session.prompts());
    assert_eq!(pair, pairs_of(&world.file("text.jsonl", &as_text), session.prompts()));
    let (prompt, response) = session.prompts().text_response(&text, "I am Tom.<|im_end|>\n").expect("score");
    assert_eq!([prompt.base, response], [pair[0].clone(), pair[1].clone()], "score, with the end that is spelled");
}

#[test]
fn serve_and_score_give_the_same_numbers_and_sweep_compare_and_chat_the_same_text() {
    let world = World::new();
    let models = world.models();
    let config = session(&world.path("base.gguf"), &world.path("arm.gguf"));
    let prompt = config.prompts().chat(&[Message::new("user", USER)], "").expect("a prompt").base;
    drop(config);
    let serve = Serve::start(&world.args(&models, &["--parallel", "1"]));
    let messages = json!([{"role": "user", "content": USER}]);
    let parts = json!([{"role": "user", "content": [{"type": "text", "text": USER}]}]);
    let ask = |messages: &Value| {
        let body = json!({"messages": messages, "temperature": 0, "max_tokens": 6, "seed": 1});
        serve.ok("/v1/chat/completions", &body)
    };
    let answer = ask(&messages);
    assert_eq!(answer["usage"]["prompt_tokens"], prompt.len());
    assert_eq!(ask(&parts)["choices"], answer["choices"]);
    let text = answer["choices"][0]["message"]["content"].as_str().expect("a text").to_owned();

    let scored = |messages: &Value| serve.ok("/v1/score", &json!({"messages": messages, "response": CHOSEN}));
    let by_server = scored(&messages);
    assert_eq!(scored(&parts)["totals"], by_server["totals"]);
    let by_command = run(&world.args(&models, &["score", "--chat", "--json", USER, CHOSEN]));
    let ids = |tokens: &Value, key: &str| -> Vec<i64> {
        tokens.as_array().expect("tokens").iter().map(|token| token[key].as_i64().expect("an id")).collect()
    };
    assert_eq!(ids(&by_server["tokens"], "id"), ids(&by_command["responses"][0]["tokens"], "token"));
    let near = |a: &Value, b: &Value| (a.as_f64().expect("a number") - b.as_f64().expect("a number")).abs() < 0.05;
    assert!(near(&by_server["totals"]["base"], &by_command["responses"][0]["totals"]["base"]));
    let line = json!({"prompt": messages, "chosen": CHOSEN, "rejected": REJECTED}).to_string();
    let pairs = world.file("pairs.jsonl", &line);
    let from_file = run(&world.args(&models, &["score", "--json", "--file", &pairs]));
    assert_eq!(from_file["responses"][0]["tokens"], by_command["responses"][0]["tokens"]);
    let out = world.text("scores.jsonl");
    stdout(&world.args(&models, &["accuracy", "--no-eos", "--pairs", &pairs, "--out", &out]));
    let scores = std::fs::read_to_string(&out).expect("scores");
    let base: Value = serde_json::from_str(scores.lines().nth(1).expect("a score")).expect("JSON");
    assert!(near(&base["score"]["chosen"], &by_server["totals"]["base"]), "{base} {}", by_server["totals"]);

    let prompts = world.file("prompts.jsonl", &json!({"prompt": USER}).to_string());
    let texts = |command: &[&str]| {
        let out = world.text("texts.jsonl");
        let greedy = ["--chat", "--prompts", &prompts, "-n", "6", "--temp", "0", "--out", &out];
        stdout(&world.args(&models, &[command, &greedy[..]].concat()));
        std::fs::read_to_string(&out).expect("texts")
    };
    let expected = json!(text).to_string();
    let swept = texts(&["sweep", "--grid", "a=1"]);
    assert!(swept.contains(&expected), "{expected} is not in {swept}");
    let compared = texts(&["compare", "--a", "base", "--b", "genarm", "--judge", "cheerful"]);
    assert!(compared.contains(&expected), "{expected} is not in {compared}");
}

#[test]
fn a_template_that_cannot_be_parsed_is_reported_where_a_conversation_is_rendered() {
    let world = World::new();
    let broken = byte_pairs(&["<|im_start|>", "<|im_end|>"], &[])
        .with("tokenizer.chat_template", "{% for m in messages %}\n{{ m.content }\n{% endfor %}");
    write(&world.path("broken.gguf"), &broken, 1);
    let base = world.text("broken.gguf");
    let models = ["--base", &base, "--threads", "1", "-c", "64"];
    stdout(&[&["generate", "Hello", "-n", "1"], &models[..]].concat());
    let (talk, _) = failure(&[&["chat"], &models[..]].concat());
    assert!(talk.contains("not valid Jinja") && talk.contains("line 2"), "{talk}");
    let line = |prompt: Value| json!({"prompt": prompt, "chosen": "a", "rejected": "b"}).to_string();
    let out = world.text("out.gguf");
    let train = |pairs: &str| ["train", "--backbone", &base, "--pairs", pairs, "--out", &out].map(str::to_owned);
    let messages = train(&world.file("chat.jsonl", &line(json!([{"role": "user", "content": "Hi"}]))));
    let (talk, _) = failure(&messages.each_ref().map(String::as_str));
    assert!(talk.contains("not valid Jinja") && talk.contains("line 2"), "{talk}");
    stdout(&train(&world.file("text.jsonl", &line(json!("Hi")))).each_ref().map(String::as_str));
}

#[test]
fn an_arm_reads_conversations_through_the_template_that_it_was_trained_with() {
    let world = World::new();
    let (base, pairs) = (world.text("base.gguf"), world.text("pairs.jsonl"));
    let pair = |prompt: Value| json!({"prompt": prompt, "chosen": "a", "rejected": "b"}).to_string();
    let train = |name: &str, prompt: Value| {
        let out = world.text(name);
        world.file("pairs.jsonl", &pair(prompt));
        let args = ["--backbone", &base, "--pairs", &pairs, "--out", &out, "--template", "zephyr"];
        stdout(&[&["train", "--lora-rank", "1"], &args[..]].concat());
        out
    };
    let of_messages = train("messages.gguf", json!([{"role": "user", "content": "Hi"}]));
    let of_text = train("text.gguf", json!("Hi"));
    let read = |lora: &str, template: Option<&str>, base_template: Option<&str>| {
        let template = template.map(|name| format!(", template: {name}")).unwrap_or_default();
        let prompt = base_template.map(|name| format!("prompt: {{chat_template: {name}}}\n")).unwrap_or_default();
        let yaml = format!(
            "base: {{model: {base}, n_ctx: 256, threads: 1}}\n{prompt}arms: {{a: {{lora: [{{path: {lora}}}]{template}}}}}\n"
        );
        let config = Config::parse(&yaml, Path::new("test.yaml"), &Overrides::default()).expect("a configuration");
        let session = Session::open(config, &mut |_, _| true).expect("a session");
        let prompt = session.prompts().chat(&[Message::new("user", "Hi")], "").expect("a prompt");
        let plain = session.text_prompt("Hi").expect("a prompt").experts;
        let text = |tokens: Vec<genarm::Token>| session.vocab().text(&tokens, true);
        (prompt.experts.into_iter().next().flatten().map(text), plain.into_iter().next().flatten().map(text))
    };
    let zephyr = "<|user|>\nHi<|im_end|>\n<|assistant|>\n".to_owned();
    assert_eq!(read(&of_messages, None, None), (Some(zephyr.clone()), None), "plain prompts stay plain");
    assert_eq!(read(&of_text, None, None), (None, None), "no conversation was rendered");
    let llama2 = "<|im_start|>[INST] Hi [/INST]".to_owned();
    assert_eq!(
        read(&of_messages, Some("llama2"), None),
        (Some(llama2.clone()), Some(llama2)),
        "the user names another"
    );
    assert_eq!(read(&of_messages, Some("auto"), None).0, Some(zephyr));
    let own = read(&of_text, None, Some("raw"));
    assert!(own.0.as_ref().is_some_and(|text| text.contains("<|im_start|>user\nHi<|im_end|>")), "{own:?}");
    assert_eq!(read(&of_messages, None, Some("raw")), own, "a raw base has no conversations to render as in training");
}
