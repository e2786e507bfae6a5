//! `genarm train --dry-run`: what would be read, and nothing else.

use super::pairs;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn dry(folder: &Path, pairs: &Path, arguments: &[&str]) -> Output {
    let backbone = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/small.gguf");
    let mut command = Command::new(env!("CARGO_BIN_EXE_genarm"));
    command.current_dir(folder).args(["train", "--dry-run", "--backbone"]).arg(backbone).arg("--pairs").arg(pairs);
    command.args(arguments).output().expect("genarm runs")
}

fn shown(folder: &Path, pairs: &Path, arguments: &[&str]) -> String {
    let output = dry(folder, pairs, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/train/cases").join(name)
}

/// Everything but the first line, which names the file.
fn examples(text: &str) -> &str {
    text.find("\nexample 1 ").map_or_else(|| panic!("no example: {text}"), |at| &text[at..])
}

#[test]
fn the_first_examples_are_shown_with_their_tokens_and_what_is_scored() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = pairs(folder.path());
    let text = shown(folder.path(), &path, &["--batch", "4"]);
    assert!(text.contains("30 used") && text.contains("held out") && text.contains("steps"), "{text}");
    assert_eq!(text.matches("\nexample ").count(), 3, "{text}");
    assert_eq!(text.matches("prompt: ").count(), 3, "{text}");
    assert!(text.contains("Tom was\n") && text.contains("│  happy."), "{text}");
    let tokens = |heading: &str| {
        let after = text.split_once(heading).expect(heading).1;
        after.lines().skip(1).find(|line| !line.contains('│')).expect("tokens").trim().to_owned()
    };
    assert!(!tokens("prompt: ").contains('['), "{text}");
    assert!(tokens("chosen: ").split("] ").all(|token| token.starts_with('[')), "{text}");
    let names: Vec<_> =
        fs::read_dir(folder.path()).expect("a folder").map(|f| f.expect("a file").file_name()).collect();
    assert_eq!(names, ["pairs.jsonl"], "nothing is written");
    assert!(!text.contains('\u{1b}'), "no colours in a file");
}

#[test]
fn a_pair_that_several_objectives_judge_is_shown_once_with_what_each_prefers() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("both.jsonl");
    let row = r#"{"prompt":"Tom was","a":" sad.","b":" happy.","preferred":{"kind":"b","short":"a"}}"#;
    fs::write(&path, format!("{row}\n{}\n", row.replace("Tom", "Lily").replace("\"short\":\"a\"", "\"short\":null")))
        .expect("the pairs");
    let text = shown(folder.path(), &path, &["--objective", "parm", "--prefer", "kind,short"]);
    assert!(text.contains("2 used") && text.contains("; 2 for kind; 1 for short"), "{text}");
    // Responses are shown in the order of their texts.
    assert!(text.contains("│  happy.") && text.contains("preferred: kind response 1, short response 2"), "{text}");
    assert!(text.contains("preferred: kind response 1\n") && !text.contains("chosen"), "{text}");
    let files = format!("short={}", path.display());
    let twice = shown(folder.path(), Path::new(&format!("kind={}", path.display())), &[&files, "--objective", "parm"]);
    assert_eq!(examples(&text), examples(&twice), "a file may serve several objectives");
}

#[test]
fn a_preview_is_refused_what_a_run_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = pairs(folder.path());
    for arguments in [&["--lr", "nan"][..], &["--out", "pairs.jsonl"], &["--max-len", "2", "--max-prompt", "1"]] {
        let output = dry(folder.path(), &path, arguments);
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn texts_cannot_command_the_terminal() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pairs.jsonl");
    fs::write(&path, r#"{"prompt":"a\u001b[2Jb","chosen":"c\u0007","rejected":"d"}"#).expect("a file");
    let text = shown(folder.path(), &path, &[]);
    assert!(text.contains("\\u{1b}[2Jb") && text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
}

#[test]
fn the_case_files_give_the_right_prompts() {
    let folder = tempfile::tempdir().expect("a folder");
    let show = |name: &str, arguments: &[&str]| shown(folder.path(), &case(name), arguments);
    let hh = ["--template", "hh"];
    assert_eq!(examples(&show("hhmsg.jsonl", &hh)), examples(&show("hhtext.jsonl", &hh)));
    assert!(show("uf.jsonl", &hh).contains("8 used"));
    assert!(show("orca.jsonl", &hh).contains("s\n    │ \n    │ Human: q0\n"));
    assert!(show("sysfield.jsonl", &hh).contains("You are a pirate.\n"));
    assert!(show("bom.jsonl", &[]).contains("Tom went to the park.\n"));
    assert!(show("three.jsonl", &[]).contains("3 used"));
}
