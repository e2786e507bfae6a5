//! Shells, Python and services as parents, and who reports what.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::super::root;
use super::{Store, WITH, WITHOUT, after_the_note, cheerful};
use crate::capi::{built, tokens_of};

#[test]
fn a_shell_and_python_that_start_the_server_are_not_taken_for_programs_that_were_not_guided() {
    let store = Store::new(&json!({"ollama:llama3.2": cheerful()}));
    let everywhere = Store::new(&json!({}));
    everywhere.configure(&json!({"base": store.blob('a'), "arms": cheerful()["arms"]}));
    let parents = [
        ["bash", "-c", r#""$0" --model "$1"; "$0" --model "$2"; true"#],
        [
            "python3",
            "-c",
            "import subprocess, sys; [subprocess.run([sys.argv[1], '--model', m]) for m in sys.argv[2:]]",
        ],
    ];
    for parent in parents {
        let run = |store: &Store, models: &Store| {
            store.run(&["--strict"], |command| {
                command.args(parent).arg(built().join("server")).arg(models.blob('a')).arg(models.blob('b'))
            })
        };
        let (code, out, talk) = run(&store, &store);
        assert_eq!(out, "chain: logits -> genarm -> top-k\nchain: logits -> top-k\n", "{talk}");
        assert_eq!((code, after_the_note(&talk)), (Some(0), &*format!("{WITH}{WITHOUT}")), "{parent:?}");
        // Without `hosts:` every tool is guided.
        let (code, out, talk) = run(&everywhere, &store);
        assert_eq!(out, "chain: logits -> genarm -> top-k\n".repeat(2), "{talk}");
        assert_eq!((code, talk), (Some(0), WITH.repeat(2)), "{parent:?}");
    }
}

#[test]
fn a_program_with_llama_cpp_inside_says_that_it_was_not_guided_where_it_should_have_been() {
    let store = Store::new(&json!({"ollama:llama3.2": cheerful()}));
    let server = built().join("static-server");
    let run = |options: &[&str], letter: char| {
        let script = r#""$0" --model "$1"; echo "ended with $?" >&2"#;
        store.run(options, |command| command.args(["bash", "-c", script]).arg(&server).arg(store.blob(letter)))
    };
    let (_, out, talk) = run(&[], 'a');
    assert_eq!(out, "chain: logits -> top-k\n");
    let told = "static-server runs ollama:llama3.2 and shares no llama.cpp library that genarm could enter";
    assert!(
        after_the_note(&talk).starts_with(&format!("genarm: {told}")) && talk.matches("genarm: ").count() == 2,
        "{talk}"
    );
    let (_, out, talk) = run(&["--strict"], 'a');
    assert!(out.is_empty() && talk.ends_with("ended with 1\n") && talk.contains(told), "{talk}");
    let (_, out, talk) = run(&["--strict"], 'b');
    assert_eq!(
        (out.as_str(), after_the_note(&talk)),
        ("chain: logits -> top-k\n", "without libgenarm\nended with 0\n")
    );
    // Without `hosts:`, when it has ended.
    store.configure(&json!({"base": store.blob('a'), "arms": cheerful()["arms"]}));
    let (_, _, talk) = run(&[], 'b');
    assert!(talk.contains("genarm: this program was not guided: static-server shares no llama.cpp library"), "{talk}");
}

#[test]
fn strict_ends_what_should_have_been_guided_and_nothing_else() {
    let store = Store::new(&json!({"ollama:llama3.2": cheerful()}));
    let tokens =
        tokens_of(&root().join("models/base.gguf"), store.folder.path(), |tokens| tokens[300].1 = b"else".to_vec());
    for letter in ['a', 'b'] {
        fs::copy(&tokens, store.blob(letter).with_extension("tokens")).expect("other tokens");
    }
    let run = |options: &[&str]| {
        let script = r#""$0" --model "$1"; echo $?; "$0" --model "$2"; echo $?"#;
        store.run(options, |command| {
            let both = ['a', 'b'].map(|letter| store.blob(letter));
            command.args(["bash", "-c", script]).arg(built().join("server")).args(both)
        })
    };
    let (_, out, talk) = run(&["--strict"]);
    assert_eq!(out, "1\nchain: logits -> top-k\n0\n", "{talk}");
    assert!(talk.contains("genarm: error: ") && talk.contains("token 300") && talk.ends_with(WITHOUT), "{talk}");
    let (_, out, talk) = run(&[]);
    assert_eq!(out, "chain: logits -> top-k\n0\nchain: logits -> top-k\n0\n", "{talk}");
    assert_eq!(talk.matches("going on without guidance").count(), 1, "{talk}");
}

#[test]
fn a_drop_in_starts_the_service_through_genarm_run() {
    let store = Store::new(&json!({"ollama:llama3.2": cheerful(), "ollama:later": cheerful()}));
    fs::set_permissions(store.config(), fs::Permissions::from_mode(0o600)).expect("permissions");
    let (code, out, talk) = store.run(&["--systemd-drop-in", "--strict", "-w", "cheerful=2"], |command| {
        command.args(["sh", "-c", "echo 100% \"$HOME\""])
    });
    let (start, line) = out.rsplit_once("ExecStart=").expect("a line");
    assert!(
        code == Some(0) && start.ends_with("[Service]\n# In place of the unit's own command.\nExecStart=\n"),
        "{out}"
    );
    assert!(start.contains("/etc/systemd/system/sh.service.d/genarm.conf"), "{out}");
    let config = store.config();
    let words = format!(
        "{} run --config {} --weight cheerful=2 --strict -- {} -c \"echo 100%% \\\"$$HOME\\\"\"\n",
        env!("CARGO_BIN_EXE_genarm"),
        config.display(),
        which("sh").display(),
    );
    assert_eq!(line, words);
    assert!(talk.contains("hosts.ollama:later: this model is not on this machine"), "{talk}");
    assert!(talk.contains(&format!("genarm: {} cannot be read by every user", config.display())), "{talk}");
}

fn which(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("a path");
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| Path::new(name).to_owned())
}
