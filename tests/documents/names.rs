//! One word, one meaning: names of types that were given up for the glossary's.

use std::path::{Path, PathBuf};

/// The name that was given up, and what it is called now.
const GIVEN_UP: [(&str, &str); 16] = [
    ("Rows", "SharedContext"),
    ("RowStore", "LogitsCache"),
    ("Lane", "Slot"),
    ("Studio", "TextGenerator"),
    ("SessionStudio", "SessionGenerator"),
    ("Recipe", "Strategy"),
    ("Pieces", "Detokenizer"),
    ("TargetChain", "GuidedChain"),
    ("Plan", "MemoryPlan, Placement or DraftPlan"),
    ("Share", "Acceptance or Proportion"),
    ("Row", "NoiseRow, DrafterRow, ModelRow or LogitsFn"),
    ("Prompts", "PromptRenderer or ScoredPrompts"),
    ("Parts", "MemoryParts or DrafterParts"),
    ("Report", "StepReport or TrainingReport"),
    ("Request", "TextRequest, ModelRequest, FromFields or RequestLabels"),
    ("State", "what it is the state of: HookState, QueueState"),
];

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The type that a line declares, if it declares one.
fn declared(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let line = line.strip_prefix("pub").map_or(line, |rest| match rest.strip_prefix('(') {
        Some(scope) => scope.split_once(')').map_or("", |(_, rest)| rest).trim_start(),
        None => rest.trim_start(),
    });
    let rest = ["struct ", "enum ", "trait ", "type ", "union "].iter().find_map(|kind| line.strip_prefix(kind))?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

#[test]
fn the_type_of_a_declaration_is_found() {
    for line in
        ["struct Lane {", "    pub struct Lane<'a>(u8);", "pub(super) enum Lane", "pub(in crate::x) type Lane = u8;"]
    {
        assert_eq!(declared(line), Some("Lane"), "{line}");
    }
    assert_eq!(declared("let lane = Lane::new();"), None);
}

/// Names that once had several meanings: one type has each, the one in this file.
const ONE_TYPE: [(&str, &str); 5] = [
    ("Text", "src/decode/text.rs"),
    ("Candidates", "src/sampling/vtable.rs"),
    ("Slot", "src/session/slot.rs"),
    ("OnError", "src/config/settings.rs"),
    ("Prompt", "src/session/prompt.rs"),
];

#[test]
fn no_type_has_a_name_that_was_given_up() {
    let mut all = Vec::new();
    for folder in ["src", "tests", "examples"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut all);
    }
    assert!(all.len() > 200, "the sources are there");
    for path in all {
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        for (n, name) in text.lines().enumerate().filter_map(|(n, line)| Some((n + 1, declared(line)?))) {
            let given_up = GIVEN_UP.iter().find(|(old, _)| *old == name);
            let now = given_up.map_or("", |(_, now)| now);
            assert!(given_up.is_none(), "{}:{n}: {name} is called {now}, see the glossary", path.display());
            let owner = ONE_TYPE.iter().find(|(one, _)| *one == name).map(|(_, owner)| *owner);
            let is_owner = owner.is_none_or(|owner| path.ends_with(owner));
            assert!(is_owner, "{}:{n}: {name} is the type of {}", path.display(), owner.unwrap_or_default());
        }
    }
}
