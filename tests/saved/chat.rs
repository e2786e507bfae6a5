//! `genarm chat --session`, /save and /load: a conversation over several processes is that of one.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use genarm::session::Caches;
use serde_json::Value;

use super::{caches_of, names};
use crate::support::binary::{fed, genarm};

/// A chat on the demo, with room for 1,024 tokens.
fn command(args: &[&str]) -> Command {
    genarm(&[&["chat", "-f", &super::model("models/demo.yaml"), "--n-ctx", "1024", "--threads", "1"], args].concat())
}

/// What a chat with this input says on stdout and on stderr, and whether it ended well.
fn chat(args: &[&str], input: &str) -> (String, String, bool) {
    let output = fed(&mut command(args), input);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(output.stdout), text(output.stderr), output.status.success())
}

fn talk(args: &[&str], input: &str) -> (String, String) {
    let (text, said, ended_well) = chat(args, input);
    assert!(ended_well, "{said}");
    (text, said)
}

fn messages(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).expect("a conversation");
    let conversation: Value = serde_json::from_str(&text).expect("JSON");
    conversation["messages"].as_array().expect("messages").clone()
}

const MESSAGES: [&str; 3] = ["Tom had a ball.\n", "Lily saw a dog.\n", "They ran home.\n"];

#[test]
fn a_conversation_over_three_processes_is_that_of_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("talk.json");
    let name = file.display().to_string();
    for sampling in [
        &["--temp", "0"][..],
        &["--temp", "1", "--seed", "7"],
        &["--temp", "1", "--seed", "7", "--speculate", "backbone", "--weight", "plain=0.5"],
    ] {
        let args = [&["-n", "12", "--ignore-eos"], sampling].concat();
        let (expected, _) = talk(&args, &MESSAGES.concat());
        let kept = [&args[..], &["--session", &name]].concat();
        let mut found = String::new();
        for (i, message) in MESSAGES.iter().enumerate() {
            let (text, said) = talk(&kept, message);
            found += &text;
            assert!(said.contains("kept in") && !said.contains("warning"), "{said}");
            assert_eq!(said.contains("tokens in memory"), i > 0, "{said}");
        }
        assert_eq!(found, expected, "{sampling:?}");
        assert_eq!(messages(&file).len(), 6);
        assert_eq!(names(folder.path()), ["talk.json", "talk.json.cache"]);
        std::fs::remove_file(&file).expect("removed");
        std::fs::remove_file(caches_of(&file)).expect("removed");
    }
}

#[test]
fn caches_that_do_not_fit_cost_time_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("talk.json");
    let name = file.display().to_string();
    let args = ["-n", "8", "--ignore-eos", "--temp", "0", "--session", &name];
    talk(&args, MESSAGES[0]);
    let (text, caches) = (std::fs::read(&file).expect("a file"), std::fs::read(caches_of(&file)).expect("a file"));
    let (expected, _) = talk(&args, MESSAGES[1]);
    let mut damaged = caches.clone();
    damaged[caches.len() / 2] ^= 4;
    for (bytes, more, why) in [
        (damaged, &[][..], "checksum"),
        (caches[..caches.len() / 2].to_vec(), &[], "damaged"),
        (caches.clone(), &["--cache-type-k", "f32"], "--cache-type-k f16"),
    ] {
        std::fs::write(&file, &text).expect("written");
        std::fs::write(caches_of(&file), bytes).expect("written");
        let (found, said) = talk(&[&args, more].concat(), MESSAGES[1]);
        assert!(said.contains("talk.json.cache is not used") && said.contains(why), "{said}");
        assert!(said.contains("loaded 2 messages;"), "{said}");
        if more.is_empty() {
            assert_eq!(found, expected);
        }
        assert_eq!(messages(&file).len(), 4, "the text is kept, and the caches are those of now");
        assert!(talk(&[&args, more].concat(), "").1.contains("tokens in memory"));
    }
    // Without the cache it is a conversation as ever.
    std::fs::remove_file(caches_of(&file)).expect("removed");
    assert!(talk(&["--load", &name], "").1.contains("loaded 4 messages;"));
}

#[test]
fn nothing_but_a_conversation_and_its_caches_is_written_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for (name, other) in [("notes.txt", "Tom"), ("talk.json.cache", "Tom")] {
        std::fs::write(path(name), other).expect("written");
        let session = if name == "notes.txt" { path(name) } else { path("talk.json") };
        let (_, said, ended_well) = chat(&["--session", &session.display().to_string()], MESSAGES[0]);
        assert!(!ended_well && said.contains(name), "{said}");
        let (_, said, ended_well) = chat(&["-n", "1"], &format!("Hello.\n/save {}\n", session.display()));
        assert!(!ended_well && said.contains("choose another name"), "{said}");
        assert_eq!(std::fs::read_to_string(path(name)).expect("a file"), other);
    }
    let missing = path("missing/talk.json").display().to_string();
    let (_, said, ended_well) = chat(&["--session", &missing], MESSAGES[0]);
    assert!(!ended_well && said.contains("there is no folder"), "{said}");
    assert_eq!(names(folder.path()), ["notes.txt", "talk.json.cache"]);
}

#[test]
fn a_saved_conversation_is_loaded_in_another_chat_with_its_caches() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("talk.json").display().to_string();
    let (_, said) = talk(&["-n", "4", "--temp", "0"], &format!("{}/save {file}\n", MESSAGES[0]));
    assert!(said.contains("saved 2 messages to") && said.contains("with the caches of 2 models"), "{said}");
    let (_, said) = talk(&["-n", "4", "--temp", "0"], &format!("/load {file}\n{}", MESSAGES[1]));
    assert!(said.contains("loaded 2 messages,") && said.contains("tokens in memory"), "{said}");
}

#[test]
fn a_kill_in_the_middle_of_an_answer_leaves_the_question() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("talk.json");
    let name = file.display().to_string();
    let args = ["-n", "4", "--temp", "0", "--ignore-eos", "--session", &name];
    talk(&args, MESSAGES[0]);
    let before = std::fs::read(caches_of(&file)).expect("caches");
    let endless = ["--ignore-eos", "--session", &name];
    let mut child =
        command(&endless).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    child.stdin.as_mut().expect("a pipe").write_all(MESSAGES[1].as_bytes()).expect("written");
    child.stdout.as_mut().expect("a pipe").read_exact(&mut [0]).expect("an answer has begun");
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert_eq!(messages(&file)[2]["content"], MESSAGES[1].trim());
    assert!(std::fs::read(caches_of(&file)).expect("caches") == before);
    let (_, said) = talk(&args, "/retry\n");
    assert!(said.contains("loaded 3 messages,") && said.contains("/retry answers it"), "{said}");
    assert_eq!(messages(&file).len(), 4);
}

#[test]
fn a_kill_while_caches_are_written_leaves_the_old_ones_or_the_new() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("talk.json");
    let name = file.display().to_string();
    let args = ["-n", "60", "--ignore-eos", "--session", &name];
    for i in 0..6 {
        let mut child =
            command(&args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        child.stdin.take().expect("a pipe").write_all(MESSAGES[i % 3].as_bytes()).expect("written");
        let is_writing = || names(folder.path()).iter().any(|name| name.starts_with(".genarm-"));
        let has_answer = || file.exists() && messages(&file).len() == 2 * (i + 1);
        // The first time it may end, so that there is something to lose.
        while child.try_wait().expect("a status").is_none() {
            if i > 0 && has_answer() && is_writing() {
                child.kill().expect("killed");
                child.wait().expect("ended");
            }
        }
        // What was begun is left behind.
        for name in names(folder.path()).iter().filter(|name| name.starts_with(".genarm-")) {
            std::fs::remove_file(folder.path().join(name)).expect("removed");
        }
        assert_eq!(messages(&file).len(), 2 * (i + 1));
        Caches::read(&caches_of(&file)).expect("sound caches");
    }
    let (_, said) = talk(&["-n", "1", "--session", &name], MESSAGES[0]);
    assert!(said.contains("tokens in memory"), "{said}");
}

#[test]
fn two_chats_in_one_file_do_not_lose_what_the_other_wrote() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("talk.json");
    let name = file.display().to_string();
    let args = ["-n", "1", "--temp", "0", "--session", &name];
    talk(&args, MESSAGES[0]);
    let mut child =
        command(&args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    // From this message on it has read the file.
    let mut said = String::new();
    while !said.contains("loaded") {
        let mut byte = [0];
        child.stderr.as_mut().expect("a pipe").read_exact(&mut byte).expect("it talks");
        said.push(char::from(byte[0]));
    }
    talk(&args, MESSAGES[1]);
    let caches = std::fs::read(caches_of(&file)).expect("caches");
    child.stdin.take().expect("a pipe").write_all(MESSAGES[2].as_bytes()).expect("written");
    let output = child.wait_with_output().expect("output");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("changed by another program") && !said.contains("kept in"), "{said}");
    assert_eq!(messages(&file).len(), 4, "what the other wrote");
    assert!(std::fs::read(caches_of(&file)).expect("caches") == caches, "and the caches that belong to it");
}
