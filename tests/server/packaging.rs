//! The files for systemd and containers, as their own tools read them.

use std::process::Command;

use super::root;
use crate::support::program;

#[test]
fn the_systemd_unit_passes_systemd_analyze() {
    let text = std::fs::read_to_string(root().join("packaging/genarm.service")).expect("a unit");
    let start = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    // The command is one that the binary understands; --help answers before anything is loaded.
    let args: Vec<_> = start.split_whitespace().skip(1).chain(["--help"]).collect();
    assert!(Command::new(env!("CARGO_BIN_EXE_genarm")).args(args).output().expect("runs").status.success());
    // A copy whose binary is this one: systemd-analyze looks for it.
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("genarm.service");
    std::fs::write(&copy, text.replace("/usr/local/bin/genarm", env!("CARGO_BIN_EXE_genarm"))).expect("written");
    let Some(analyze) = program(&["systemd-analyze"], &[], "systemd-analyze") else { return };
    let output = Command::new(analyze).arg("verify").arg("--man=no").arg(&copy).output().expect("it runs");
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    // Only what it says about this unit counts: on a machine without systemd running it complains about others.
    let about: Vec<_> = talk.lines().filter(|line| line.contains("genarm.service")).collect();
    assert!(about.is_empty(), "{about:?}");
}

#[test]
fn the_containerfile_has_instructions_only_and_a_command_that_exists() {
    let text = std::fs::read_to_string(root().join("packaging/Containerfile")).expect("a file");
    let joined = text.replace("\\\n", " ");
    let lines: Vec<_> = joined.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).collect();
    let known = ["FROM", "RUN", "ADD", "WORKDIR", "COPY", "ENV", "USER", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"];
    assert!(lines[0].starts_with("FROM "));
    for line in &lines {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        assert!(known.contains(&word) && !rest.trim().is_empty(), "{line}");
    }
    let list = |word: &str| -> Vec<String> {
        let line = lines.iter().rev().find_map(|line| line.strip_prefix(word)).expect("an instruction");
        serde_json::from_str(line).expect("a JSON list")
    };
    let args: Vec<_> = list("ENTRYPOINT ").into_iter().skip(1).chain(list("CMD ")).chain(["--help".into()]).collect();
    let output = Command::new(env!("CARGO_BIN_EXE_genarm")).args(&args).output().expect("runs");
    assert!(output.status.success(), "{args:?}");
    for line in lines.iter().filter(|line| line.starts_with("RUN ")) {
        let check = Command::new("sh").args(["-n", "-c", &line[4..]]).status().expect("sh");
        assert!(check.success(), "{line}");
    }
}
