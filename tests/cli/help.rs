//! The help texts, `tests/cli/help/*.txt`: what `--help` prints, and in `*.short.txt` what `-h` prints where it is
//! another text. `make snapshots` records them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::genarm;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/help")
}

/// The help for these arguments, at a fixed width.
fn help(args: &[&str]) -> String {
    let output = genarm(args).env("COLUMNS", "100").output().expect("the binary runs");
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The commands that the program lists.
fn commands() -> Vec<String> {
    let text = help(&["--help"]);
    let list = text.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("a list of commands");
    // A description that goes on in the next line is indented further.
    let names = list.lines().filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// All texts by the names of their files.
fn texts() -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for command in std::iter::once(None).chain(commands().into_iter().map(Some)) {
        let ask = |flag: &str| help(&command.as_deref().into_iter().chain([flag]).collect::<Vec<_>>());
        let (name, long, short) = (command.as_deref().unwrap_or("genarm"), ask("--help"), ask("-h"));
        if short != long {
            texts.insert(format!("{name}.short.txt"), short);
        }
        texts.insert(format!("{name}.txt"), long);
    }
    texts
}

fn recorded() -> BTreeMap<String, String> {
    let files = std::fs::read_dir(folder()).expect("the folder").map(|entry| entry.expect("an entry"));
    let read = |file: std::fs::DirEntry| {
        (file.file_name().into_string().expect("UTF-8"), std::fs::read_to_string(file.path()).expect("a text"))
    };
    files.map(read).collect()
}

#[test]
#[cfg_attr(windows, ignore = "Windows has no rpc-server, and the name of the program ends in .exe")]
fn the_help_of_every_command_is_what_was_recorded() {
    let found = texts();
    assert!(found.len() > 16, "every command has a text: {:?}", found.keys());
    if std::env::var_os("GENARM_WRITE_SNAPSHOTS").is_some() {
        let gone = recorded().into_keys().filter(|name| !found.contains_key(name));
        gone.for_each(|name| std::fs::remove_file(folder().join(name)).expect("removed"));
        found.iter().for_each(|(name, text)| std::fs::write(folder().join(name), text).expect("written"));
    }
    let recorded = recorded();
    let names = |texts: &BTreeMap<String, String>| texts.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&recorded), "where this is meant, run make snapshots");
    for (name, text) in found {
        assert_eq!(text, recorded[&name], "{name}; where this is meant, run make snapshots");
    }
}
