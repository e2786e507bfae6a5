//! docs/models.md: the matrix as a table. `make snapshots` writes it.

use std::path::Path;

use genarm::engine::llama::build;

use super::conversations::{EDITED, RETRIED, ROLLBACK, SAVED};
use super::drafts::DRAFTS;
use super::logits::{GUIDED, LOGITS};
use super::others::{TRAINING, TRANSLATED, TRANSLATES};
use super::shared::{MATRICES, SHARED};
use super::{Check, Found};

/// What stands around the table in the document.
const MARKS: [&str; 2] = ["<!-- written by tests/families/table.rs -->\n", "<!-- end -->\n"];

const COLUMNS: [(&str, &Check); 12] = [
    ("logits", &LOGITS),
    ("guided", &GUIDED),
    ("shared batch", &SHARED),
    ("LoRA matrices", &MATRICES),
    ("drafts", &DRAFTS),
    ("rollback", &ROLLBACK),
    ("retry", &RETRIED),
    ("edit", &EDITED),
    ("saved", &SAVED),
    ("training", &TRAINING),
    ("translated ARM", &TRANSLATED),
    ("as translated ARM", &TRANSLATES),
];

/// The table, and below it what its numbers stand for.
fn table() -> String {
    let mut notes: Vec<String> = Vec::new();
    let mut cell = |found: &Found| {
        let (sign, note) = match found {
            Found::Works => return "yes".to_owned(),
            Found::At(note) => ("yes", note),
            Found::Refused(note) => ("no", note),
        };
        let at = notes.iter().position(|other| other == note).unwrap_or_else(|| {
            notes.push(note.clone());
            notes.len() - 1
        });
        format!("{sign} ({})", at + 1)
    };
    let found: Vec<_> = COLUMNS.iter().map(|(_, check)| check.run()).collect();
    let mut rows = Vec::new();
    for (at, (family, _)) in found[0].iter().enumerate() {
        let cells: Vec<_> = found.iter().map(|column| cell(&column[at].1)).collect();
        rows.push(format!("| {family} | {} |", cells.join(" | ")));
    }
    let names = COLUMNS.map(|(name, _)| name).join(" | ");
    let line = "|---".repeat(COLUMNS.len() + 1);
    let notes: Vec<_> = notes.iter().enumerate().map(|(at, note)| format!("{}. {note}", at + 1)).collect();
    format!(
        "With llama.cpp {}:\n\n| family | {names} |\n{line}|\n{}\n\n{}\n",
        build().llama,
        rows.join("\n"),
        notes.join("\n")
    )
}

#[test]
fn the_table_of_the_document_is_what_the_matrix_finds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/models.md");
    let document = std::fs::read_to_string(&path).expect("the document");
    let (head, rest) = document.split_once(MARKS[0]).expect("the beginning of the table");
    let (recorded, tail) = rest.split_once(MARKS[1]).expect("the end of the table");
    let found = format!("\n{}\n", table());
    if std::env::var_os("GENARM_WRITE_SNAPSHOTS").is_some() {
        std::fs::write(&path, format!("{head}{}{found}{}{tail}", MARKS[0], MARKS[1])).expect("written");
        return;
    }
    assert_eq!(recorded, found, "where this is meant, run make snapshots");
}
