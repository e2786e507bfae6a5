//! The documents: what they name exists, and they keep the writing rules of CONTRIBUTING.md. The sources keep its rules
//! of names and imports.

mod circles;
mod names;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::binary::stdout;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document of the repository, with its path from the root.
fn documents() -> Vec<(PathBuf, String)> {
    let folders = ["", "docs", "models", "benches", "vendor", "vendor/llama-sampler-abi", "python/genarm"];
    let mut found = Vec::new();
    for folder in folders {
        for entry in fs::read_dir(root().join(folder)).expect("a folder with documents").flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).expect("a document in UTF-8");
                found.push((path.strip_prefix(root()).expect("within the repository").to_owned(), text));
            }
        }
    }
    assert!(found.len() > 15, "{} documents", found.len());
    found
}

/// The text without its code blocks.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// The anchor that GitHub gives to a heading.
fn anchor(heading: &str) -> String {
    let keep = |c: char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.trim().to_lowercase().chars().filter(|c| keep(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = |line: &str| line.starts_with('#').then(|| anchor(line.trim_start_matches('#')));
    prose(text).lines().filter_map(headings).collect()
}

/// The targets of the links in a text.
fn links(text: &str) -> Vec<&str> {
    let starts = text.match_indices("](").map(|(at, _)| &text[at + 2..]);
    starts.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

/// The words of a text that look like paths of Rust files.
fn rust_files(text: &str) -> BTreeSet<&str> {
    let of_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/' | '.');
    let words = text.split(|c: char| !of_path(c)).filter(|word| word.ends_with(".rs") && word.len() > 3);
    words.filter(|word| !word.starts_with("//")).collect() // the rest of a web address
}

#[test]
fn every_link_between_documents_leads_to_a_file_and_a_heading() {
    for (path, text) in documents() {
        for target in links(&text).into_iter().filter(|target| !target.starts_with("http")) {
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let folder = root().join(&path).parent().expect("a folder").to_owned();
            let file = if file.is_empty() { root().join(&path) } else { folder.join(file) };
            assert!(file.exists(), "{}: {target} leads nowhere", path.display());
            if !heading.is_empty() {
                let there = anchors(&fs::read_to_string(&file).expect("a document"));
                assert!(there.contains(heading), "{}: {target} names no heading; there are {there:?}", path.display());
            }
        }
    }
}

#[test]
fn every_source_file_that_a_document_names_exists() {
    for (path, text) in documents() {
        for file in rust_files(&text) {
            let places = ["", "src", "tests"].map(|folder| root().join(folder).join(file));
            assert!(places.iter().any(|place| place.exists()), "{} names {file}, which is gone", path.display());
        }
    }
}

#[test]
fn the_readme_lists_every_command_and_no_other() {
    let help = stdout(&["--help"]);
    let commands = help.split("Commands:\n").nth(1).expect("a list of commands");
    let commands = commands.lines().take_while(|line| line.starts_with("  "));
    let names = commands.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    let there: BTreeSet<_> = names.filter(|name| *name != "help").collect();
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `genarm "));
    let listed: BTreeSet<_> = rows.filter_map(|row| row.split([' ', '`']).next()).collect();
    assert_eq!(listed, there);
}

#[test]
fn the_changelog_begins_with_what_is_unreleased_under_the_usual_headings() {
    let text = fs::read_to_string(root().join("CHANGELOG.md")).expect("the changelog");
    let first = text.lines().find(|line| line.starts_with("## "));
    assert_eq!(first, Some("## [Unreleased]"));
    for heading in text.lines().filter_map(|line| line.strip_prefix("### ")) {
        let usual = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
        assert!(usual.contains(&heading), "{heading}");
    }
}

/// CONTRIBUTING.md gives such phrases as examples of what not to write.
#[test]
fn the_documents_do_not_speak_of_code_as_of_people() {
    let phrases = ["nobody", "somebody", "everybody", "whoever", "is told", "has said", " hears ", "is heard"];
    for (path, text) in documents().into_iter().filter(|(path, _)| path != Path::new("CONTRIBUTING.md")) {
        let text = prose(&text).to_lowercase();
        for phrase in phrases {
            assert!(!text.contains(phrase), "{} says \"{phrase}\"", path.display());
        }
    }
}
