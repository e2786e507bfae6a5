//! The flags of llama.cpp's own list, `tests/cli/llama-flags.txt`, each in every command that does its tools' work.

use std::ffi::OsString;
use std::path::Path;

use super::foreign::{Meaning, TOOLS, flags, meaning};
use super::{Refusal, command, find_long, parse, read};

/// A line of the list: the names of a flag, what its value is called, and its variable.
struct Listed {
    names: Vec<String>,
    value: Option<String>,
    variable: Option<String>,
}

fn list() -> Vec<Listed> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/llama-flags.txt");
    let text = std::fs::read_to_string(file).expect("the list; scripts/llama-flags makes it");
    let given = |text: &str| Some(text.to_owned()).filter(|text| text != "-");
    let read = |line: &str| {
        let [names, value, variable] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("three columns: {line}")
        };
        Listed { names: names.split(' ').map(str::to_owned).collect(), value: given(value), variable: given(variable) }
    };
    text.lines().filter(|line| !line.starts_with('#')).map(read).collect()
}

/// What becomes of `genarm COMMAND FLAG [VALUE]`: nothing where it is taken, else the line.
fn parsed(program: &clap::Command, command: &str, flag: &str, value: Option<&str>) -> Option<String> {
    let words = ["genarm", command, flag].into_iter().chain(value).map(OsString::from).collect();
    match read(program.clone(), words) {
        Err(Refusal::Line(line)) => Some(line),
        Err(Refusal::Help(_) | Refusal::Version(_)) | Ok(_) => None,
    }
}

#[test]
fn every_flag_of_llama_cpp_is_taken_or_refused_by_name_with_what_to_do() {
    let list = list();
    assert!(list.len() > 200, "{} flags", list.len());
    let (mut n_taken, program) = (0, command());
    for (flag, Listed { names, value, .. }) in list.iter().flat_map(|row| row.names.iter().map(move |name| (name, row)))
    {
        for command in TOOLS {
            let Some(line) = parsed(&program, command, flag, value.as_ref().map(|_| "1")) else {
                n_taken += 1;
                continue;
            };
            let refused = line.strip_prefix(&format!("genarm {command} does not take {flag}: "));
            let wrong_value = line.strip_prefix(&format!("genarm {command}: {flag}: "));
            // A value that clap refuses, or a flag that needs another: it is known, under genarm's name for it.
            let known = line.starts_with("invalid value '1' for '--") || line.contains(" has no effect: ");
            // A part of another flag, which is named.
            let known = known || line.contains("needs the repository too: -hf");
            let advice = refused.or(wrong_value).unwrap_or_default();
            assert!(advice.len() > 10 || known, "{command} {flag} ({names:?}): {line}");
        }
    }
    assert!(n_taken > 300, "{n_taken} are taken");
}

#[test]
fn every_flag_of_llama_cpp_that_a_command_takes_is_in_its_help() {
    let mut program = command();
    program.build();
    for command in TOOLS {
        let sub = program.find_subcommand_mut(command).expect("a command");
        let help = sub.render_long_help().to_string();
        let words: Vec<_> = help.split(|c: char| c.is_whitespace() || ",[]".contains(c)).collect();
        for entry in flags().filter(|entry| entry.is_of(command)) {
            let is_shown = match meaning(command, entry.names[0], |own| find_long(sub, own).is_some()) {
                // The command's own flags are in its help.
                None | Some(Meaning::Instead(_) | Meaning::Same(_)) => continue,
                Some(_) => entry.names.iter().any(|name| words.contains(name)),
            };
            assert!(is_shown, "{command}: {:?}", entry.names);
        }
    }
}

#[test]
fn minus_one_is_a_value_and_no_flag() {
    let (list, program) = (list(), command());
    for (flag, command) in list
        .iter()
        .filter(|row| row.value.is_some())
        .flat_map(|row| &row.names)
        .flat_map(|flag| TOOLS.iter().map(move |command| (flag, command)))
    {
        let line = parsed(&program, command, flag, Some("-1")).unwrap_or_default();
        assert!(!line.contains("has no flag -1"), "{command} {flag}: {line}");
    }
    for (command, flags) in [
        ("generate", &["-t", "-tb", "-n", "-s", "-ngl", "--repeat-last-n", "--dry-penalty-last-n", "--top-nsigma"][..]),
        ("serve", &["-np", "-n", "-t", "-tb", "--sleep-idle-seconds", "--reasoning-budget", "--adaptive-target"]),
    ] {
        for flag in flags {
            assert_eq!(parsed(&program, command, flag, Some("-1")), None, "{command} {flag}");
        }
    }
}

#[test]
fn variables_of_llama_cpp_belong_to_the_flag_that_they_have_there() {
    let list = list();
    for row in super::foreign::flags() {
        let Some(variable) = row.variable else { continue };
        let of = list.iter().find(|listed| listed.variable.as_deref() == Some(variable));
        let of = of.unwrap_or_else(|| panic!("llama.cpp has no {variable}"));
        assert!(of.names.iter().any(|name| row.names.contains(&&**name)), "{variable} is that of {:?}", of.names);
    }
}

#[test]
fn a_foreign_flag_with_a_wrong_value_or_none_says_so() {
    let line = |words: &[&str]| match parse(words.iter().map(OsString::from).collect()) {
        Err(Refusal::Line(line)) => line,
        _ => panic!("{words:?} is taken"),
    };
    for (words, parts) in [
        (&["genarm", "generate", "-md"][..], &["-md", "needs a value"][..]),
        (&["genarm", "chat", "--jinja=1"], &["--jinja", "no value"]),
        (&["genarm", "generate", "--lora-scaled", "a.gguf", "0.5"], &["--lora-scaled", "a.gguf:0.5"]),
        (&["genarm", "serve", "--reasoning-budget", "100"], &["--reasoning-budget", "0 turns them off"]),
        (&["genarm", "generate", "--grammar-file", "missing.gbnf"], &["--grammar-file", "missing.gbnf"]),
        (&["genarm", "chat", "a.gguf", "b.gguf"], &["--base", "multiple"]),
        (&["genarm", "chat", "-m", "a.gguf", "--", "b.gguf"], &["--base", "multiple"]),
        (&["genarm", "score", "--jinja", "a", "b"], &["genarm score", "--jinja", "genarm generate"]),
        (&["genarm", "sweep", "-np", "4"], &[]),
    ] {
        let line = line(words);
        assert!(parts.iter().all(|part| line.contains(part)), "{words:?}: {line}");
    }
}

#[test]
fn the_two_halves_of_a_hub_name_belong_together_however_they_are_written() {
    let program = command();
    for line in ["chat --hf_repo a/b --hf_file c.gguf", "chat --hf-repo=a/b -hff c.gguf", "pull --hf_repo a/b"] {
        let words = line.split(' ').map(OsString::from);
        let rewritten = super::hub::rewrite(&program, [OsString::from("genarm")].into_iter().chain(words).collect());
        let words = rewritten.unwrap_or_else(|problem| panic!("{line}: {problem}"));
        let name = if line.starts_with("pull") { "hf:a/b" } else { "hf:a/b/c.gguf" };
        assert_eq!(words.last().and_then(|word| word.to_str()), Some(name), "{line}");
    }
}
