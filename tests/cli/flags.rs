//! The command line means what was typed: each wrong flag is refused with its name, and no text is lost.

use std::process::Output;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{demo, fed, genarm, json, model, run};

const PROMPT: &str = "Once upon a time, there was a little girl named Lily.";

/// Runs a command with a text on standard input.
fn with_input(args: &[&str], input: &[u8]) -> Output {
    fed(&mut genarm(args), input)
}

/// Asserts that a command line is refused: exit code 2, nothing on standard output, one line that has all of `words`.
fn refused(args: &[&str], words: &[&str]) {
    let output = with_input(args, b"A text on standard input.\n");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {talk}");
    assert!(output.stdout.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    for word in words {
        assert!(talk.contains(word), "{args:?}: no {word:?} in {talk}");
    }
    assert!(talk.starts_with("error: ") && talk.trim_end().lines().count() == 1, "{args:?}: {talk}");
}

#[test]
fn each_wrong_flag_is_refused_with_its_name_and_the_right_one() {
    let (config, base) = (demo(), model("base.gguf"));
    let generate: &[(&[&str], &[&str])] = &[
        (&["--wieght=cheerful=2"], &["--wieght", "--weight", "after --"]),
        (&["--wieght", "cheerful=2"], &["--wieght", "--weight", "after --"]),
        (&["--nonsense"], &["--nonsense"]),
        (&["-x"], &["-x", "after --"]),
        (&["-5"], &["-5", "after --"]),
        (&["-temp", "0"], &["-temp", "--temp"]),
        (&["-cnv"], &["-cnv", "genarm chat", "--chat"]),
        (&["--grammar-file", "g.gbnf"], &["--grammar-file", "g.gbnf"]),
        (&["--no-ignore-eos"], &["--no-ignore-eos", "--ignore-eos=false"]),
        (&["--n_perdict", "12"], &["--n_perdict", "--n-predict"]),
        (&["-tx"], &["-tx"]),
        (&["-wcheerful"], &["-wcheerful"]),
        (&["-hv"], &["-hv"]),
        (&["--parallel", "2"], &["--parallel", "genarm serve"]),
        (&["--system", "Be kind."], &["--system", "--chat"]),
        (&["--chat-template", "chatml"], &["--chat-template", "--chat"]),
        (&["--draft-max", "4", "--seed", "1"], &["--draft-max", "seed"]),
        (&["--draft-max", "4", "--speculate", "off"], &["--draft-max", "off"]),
        (&["--rpc-timeout", "4"], &["--rpc-timeout", "--rpc"]),
        (&["--mirostat-tau", "4"], &["--mirostat-tau", "--mirostat 1"]),
        (&["--temp", "0,7"], &["--temp", "0.7"]),
        (&["-w", "cheerful=0,5"], &["--weight", "0.5"]),
    ];
    for (wrong, words) in generate {
        refused(&[&["generate", "-f", &config][..], wrong].concat(), words);
        refused(&[&["generate", "-f", &config, "-n", "4"][..], wrong, &["A prompt."]].concat(), words);
    }
    let others: &[(&[&str], &[&str])] = &[
        (&["generate", "-f", &config, "-n", "-3", "A prompt."], &["--n-predict", "-1"]),
        (&["-hf", "user/model"], &["-hf", "--base"]),
        (&["serve", "-f", &config, "--prot", "1"], &["--prot", "--port"]),
        (&["serve", "-f", &config, "-hf", "user"], &["hf:user", "hf:USER/REPO"]),
        (&["score", "-f", &config, "--temp", "1", "a", "b"], &["--temp", "no effect"]),
        (&["score", "-f", &config, "--seed", "1", "a", "b"], &["--seed", "no effect"]),
        (&["score", "-f", &config, "--system", "x", "a", "b"], &["--system", "--chat"]),
        (&["score", "-f", &config, "--speculate", "off", "a", "b"], &["--speculate", "no effect"]),
        (&["score", "-f", &config, "--josn", "a", "b"], &["--josn", "--json"]),
        (&["score", "-f", &config, "--show", "plain", "--json", "a", "b"], &["--show", "--json"]),
        (&["accuracy", "-f", &config, "--pairs", "p.jsonl", "--weight", "plain=1"], &["--weight", "no effect"]),
        (&["accuracy", "-f", &config, "--pairs", "p.jsonl", "--top-k", "1"], &["--top-k", "no effect"]),
        (&["sweep", "-f", &config, "--prompts", "p", "--grid", "plain=0,1", "-w", "plain=1"], &["--weight", "--grid"]),
        (&["sweep", "-f", &config, "--prompts", "p", "--grid", "plain=0,1", "--speculate", "off"], &["--speculate"]),
        (&["sweep", "-f", &config, "--prompts", "p", "--grid", "plain=0,1", "--judge-model", "x"], &["--judge-model"]),
        (
            &[
                "compare",
                "-f",
                &config,
                "--prompts",
                "p",
                "--a",
                "base",
                "--b",
                "guided",
                "--judge",
                "plain",
                "--system",
                "x",
            ],
            &["--system", "--chat"],
        ),
        (
            &[
                "compare",
                "-f",
                &config,
                "--prompts",
                "p",
                "--a",
                "base",
                "--b",
                "guided",
                "--judge",
                "plain",
                "--judge-jobs",
                "2",
            ],
            &["--judge-jobs"],
        ),
        (&["bench", "-f", &config, "--speculate", "lookup"], &["--speculate", "--drafters"]),
        (&["bench", "-f", &config, "--draft-max", "3"], &["--draft-max", "--drafters"]),
        (&["bench", "-f", &config, "--drafters", "lookup", "--n-prompt", "3"], &["--n-prompt", "--prompt"]),
        (&["bench", "-f", &config, "--keep-models", "x"], &["--keep-models", "--synthetic"]),
        (&["bench", "-f", &config, "--noise", "x", "--temp", "1"], &["--temp", "--noise"]),
        (&["inspect", "--temp", "1", &base], &["--temp", "no effect"]),
        (&["inspect", "--weight", "a=1", &base], &["--weight", "--plan"]),
        (&["inspect", "--plan", "--all", &base], &["--all", "no effect"]),
        (&["weights", "-f", &config, "--temp", "1"], &["--temp"]),
        (&["weights", &config, "-f", &config], &["--config", "no effect"]),
        (&["run", "-f", &config, "llama-cli"], &["llama-cli", "after --"]),
        (&["run", "-f", &config, "-m", "x.gguf", "--", "llama-cli"], &["-m"]),
        (&["train", "-m", "x.gguf"], &["-m", "--backbone"]),
        (&["train", "--backbon", "x.gguf"], &["--backbon", "--backbone"]),
        (&["devices", "--jsn"], &["--jsn", "--json"]),
        (&["generate", "-f", &config, "two", "words"], &["\"words\"", "quotes"]),
    ];
    for (args, words) in others {
        refused(args, words);
    }
}

#[test]
fn flags_of_llama_cpp_are_taken_where_genarm_has_the_same() {
    let base = model("base.gguf");
    let ours = ["generate", "--base", &base, "--seed", "3", "-n", "6", "--temp", "0.8", "--json", PROMPT];
    let theirs =
        ["generate", "-m", &base, "-s", "3", "-n6", "-ngl", "0", "-b", "512", "-fa", "auto", "--json", "-p", PROMPT];
    assert_eq!(json(&ours)["text"], json(&theirs)["text"]);
    let attached = ["generate", "--base", &base, "--seed=3", "-n=6", "--temp=0.8", "--json", PROMPT];
    assert_eq!(json(&ours)["text"], json(&attached)["text"]);
}

#[test]
fn a_file_after_f_is_the_configuration_or_the_prompt() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (base, config) = (model("base.gguf"), path("prefs.conf"));
    std::fs::write(&config, format!("base: {base}\nsampling: {{temp: 0}}\n")).expect("written");
    for text in ["Once upon a time", "Title: a story\nOnce upon a time", "- one\n- two\n", "{{ not yaml"] {
        let file = path("prompt.txt");
        std::fs::write(&file, text).expect("written");
        let common = ["generate", "-f", &config, "-n", "4", "--json"];
        let [theirs, ours] = ["-f", "--file"].map(|flag| json(&[&common[..], &[flag, &file]].concat()));
        assert_eq!((&theirs["text"], &theirs["usage"]), (&ours["text"], &ours["usage"]), "{text:?}");
        // Named as a configuration, it is refused as one.
        let output = run(&["generate", "-m", &base, "--config", &file, "Hi"]);
        let talk = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{text:?}");
        assert!(
            talk.contains("--config") && talk.contains("prompt.txt") && talk.contains("--file"),
            "{text:?}: {talk}"
        );
        assert_eq!(talk.trim_end().lines().count(), 1, "{talk}");
    }
    // A configuration with a slip is no prompt.
    for (name, text) in [("slip.yaml", "bose: x\n"), ("slip.conf", "base: x\narsm: {}\n")] {
        std::fs::write(path(name), text).expect("written");
        let output = run(&["generate", "-f", &path(name), "Hi"]);
        let talk = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && talk.contains(name) && talk.contains("did you mean"), "{talk}");
    }
    let missing = run(&["generate", "-f", &path("missing.txt")]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no such file"));
}

#[test]
fn version_is_one_line_and_with_v_says_what_the_program_is_made_of() {
    let short = super::stdout(&["--version"]);
    assert_eq!(short, format!("genarm {}\n", env!("CARGO_PKG_VERSION")));
    for args in [&["--version", "-v"][..], &["-v", "--version"], &["-V", "--verbose"]] {
        let long = super::stdout(args);
        assert!(long.starts_with(&short), "{long}");
        for word in ["llama.cpp", "ggml", "devices: ", "features: CPU"] {
            assert!(long.contains(word), "{word}: {long}");
        }
    }
}

#[test]
fn man_pages_and_completions_have_the_flags_that_help_shows() {
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("man/man1");
    super::stdout(&["man", &pages.display().to_string()]);
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).expect("a page");
    assert!(page("genarm.1").contains("genarm\\-chat(1)"));
    let chat = page("genarm-chat.1");
    for word in ["\\-\\-single\\-turn", "\\-\\-system\\-prompt\\-file", "LLAMA_ARG_CTX_SIZE", "\\-m, \\-\\-model"] {
        assert!(chat.contains(word), "{word}");
    }
    assert!(!pages.join("genarm-man.1").exists());
    let script = super::stdout(&["completions", "bash"]);
    for word in ["--single-turn", "--grammar-file", "--ctx-size", "--model"] {
        assert!(script.contains(word), "{word}");
    }
}

#[test]
fn a_prompt_that_begins_with_a_dash_comes_after_two_dashes_or_from_elsewhere() {
    let config = demo();
    let prompt = "--weight was the word.";
    let common = ["generate", "-f", &config, "--seed", "3", "-n", "6", "--json"];
    let typed = json(&[&common[..], &["--", prompt]].concat());
    let piped = with_input(&common, prompt.as_bytes());
    let piped: serde_json::Value = serde_json::from_slice(&piped.stdout).expect("JSON");
    assert_eq!((&typed["text"], &typed["usage"]), (&piped["text"], &piped["usage"]));
    assert!(typed["usage"]["prompt_tokens"].as_u64() > Some(4));
}

#[test]
fn a_text_on_standard_input_is_read_or_the_command_is_refused() {
    let config = demo();
    let common = ["generate", "-f", &config, "-n", "1", "--json"];
    let n_prompt = |output: &Output| {
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        value["usage"]["prompt_tokens"].as_u64().expect("a number")
    };
    let piped = with_input(&common, b"Once upon a time\n");
    let typed = run(&[&common[..], &["Once upon a time"]].concat());
    assert_eq!(n_prompt(&piped), n_prompt(&typed));
    refused(&[&common[..], &["Tom ran."]].concat(), &["standard input", "the prompt"]);
    refused(&[&common[..], &["--prompt-tokens", "5,6"]].concat(), &["standard input", "--prompt-tokens"]);
    refused(&["score", "-f", &config, "Tom", " ran."], &["standard input", "the prompt"]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("prompt.txt").display().to_string();
    std::fs::write(&file, "Tom ran.").expect("written");
    refused(&[&common[..], &["--file", &file]].concat(), &["standard input", "--file"]);
    // Nothing is lost where there is nothing.
    assert!(with_input(&[&common[..], &["Tom ran."]].concat(), b"").status.success());
}

#[test]
#[cfg(unix)]
fn a_loop_of_the_shell_over_a_file_of_prompts_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("prompts.txt").display().to_string();
    std::fs::write(&file, "Tom ran.\nLily sat.\nBen hid.\n").expect("written");
    let script = "while read -r line; do \"$0\" generate -f \"$1\" -n 1 --json \"$line\"; done < \"$2\"";
    let binary = env!("CARGO_BIN_EXE_genarm");
    let output =
        std::process::Command::new("sh").args(["-c", script, binary, &demo(), &file]).output().expect("a shell");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).lines().count(),
        3,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn generate_puts_the_prompt_through_the_chat_template_where_it_is_asked_to() {
    let base = model("base.gguf");
    let template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]";
    let n_prompt = |args: &[&str]| {
        let common = ["generate", "--base", &base, "-n", "1", "--json"];
        json(&[&common[..], args].concat())["usage"]["prompt_tokens"].as_u64().expect("a number")
    };
    let plain = n_prompt(&["Tom ran."]);
    let chat = n_prompt(&["--chat", "--chat-template", template, "Tom ran."]);
    let system = n_prompt(&["--chat", "--chat-template", template, "--system", "Be kind.", "Tom ran."]);
    assert_eq!(chat, n_prompt(&["[user] Tom ran.\n[assistant]"]));
    assert_eq!(system, n_prompt(&["[system] Be kind.\n[user] Tom ran.\n[assistant]"]));
    assert!(plain < chat && chat < system, "{plain} {chat} {system}");
    let output = run(&["generate", "--base", &base, "--chat", "Tom ran."]);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && talk.contains("--chat-template"), "{talk}");
    refused(&["generate", "--base", &base, "--chat", "--prompt-tokens", "1"], &["--chat"]);
}

/// Flags of llama.cpp, which are taken or refused for what they mean there.
fn theirs() -> Vec<String> {
    let list = include_str!("llama-flags.txt").lines().filter(|line| !line.starts_with('#'));
    list.flat_map(|line| line.split(['\t', ' '])).map(str::to_owned).collect()
}

/// Whether a command takes this flag; the property is about the others.
fn is_known(command: &str, flag: &str) -> bool {
    let help = super::stdout(&[command, "--help"]);
    theirs().iter().any(|name| name == flag) || help.split([' ', ',', '\n', '[', ']', '=']).any(|part| part == flag)
}

#[test]
fn a_random_unknown_flag_is_never_a_prompt_and_never_reaches_a_model() {
    let config = demo();
    let long = "--[a-z]{2,8}(-[a-z]{2,6})?";
    let short = "-[a-bd-eg-mo-su-vx-z][a-z0-9]{0,5}";
    let value = prop_oneof![Just(None), "[a-z0-9=.]{1,8}".prop_map(Some)];
    let flags = (prop_oneof![long, short], value, prop::sample::select(vec!["generate", "chat", "score"]));
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let property = |(flag, value, command): (String, Option<String>, &'static str)| {
        prop_assume!(!is_known(command, &flag));
        // The model does not exist: who gets as far as that says something else.
        let word = value.map_or(flag.clone(), |value| format!("{flag}={value}"));
        let output = with_input(&[command, "-f", &config, "--base", "no-such-model.gguf", &word], b"A text.\n");
        let talk = String::from_utf8_lossy(&output.stderr).into_owned();
        prop_assert_eq!(output.status.code(), Some(2), "{} {}: {}", command, word, talk);
        prop_assert!(talk.contains(&flag) || talk.contains("required"), "{} {}: {}", command, word, talk);
        prop_assert!(!talk.contains("no-such-model") && output.stdout.is_empty(), "{} {}: {}", command, word, talk);
        Ok(())
    };
    runner.run(&flags, property).expect("every flag is refused by name");
}
