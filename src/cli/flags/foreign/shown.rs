//! The table as docs/command-line.md shows it.

use std::fmt::Write as _;
use std::path::Path;

use super::flag::{Flag, Meaning};
use super::{draft, model, server, text};

const BEGIN: &str = "<!-- flags of llama.cpp: begin -->\n";
const END: &str = "<!-- flags of llama.cpp: end -->\n";

fn markdown() -> String {
    let parts = [("Models", model::FLAGS), ("Texts", text::FLAGS), ("Drafts", draft::FLAGS), ("Server", server::FLAGS)];
    let mut out = String::new();
    for (title, entries) in parts {
        let _ = write!(out, "\n**{title}**\n\n| llama.cpp | genarm |\n|---|---|\n");
        for (i, entry) in entries.iter().enumerate() {
            // The entry before it says it all.
            if i > 0
                && entry.of.is_empty()
                && matches!(entry.meaning, Meaning::Same(_))
                && entries[i - 1].names == entry.names
            {
                continue;
            }
            let names = entry.names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let _ = writeln!(out, "| {names} | {} |", meaning(entry));
        }
    }
    out
}

fn meaning(entry: &Flag) -> String {
    let what = match entry.meaning {
        Meaning::Same(own) | Meaning::File(own, _) if entry.names.contains(&&*format!("--{own}")) => {
            "the same".to_owned()
        }
        Meaning::Same(own) => format!("`--{own}`"),
        Meaning::File(own, _) => format!("`--{own}`, from a file"),
        Meaning::Words(own) => format!("`{}`", own.join(" ")),
        Meaning::Value(shown, _) | Meaning::Optional(shown, _) => shown.to_owned(),
        Meaning::Already(why) => format!("accepted: {why}"),
        Meaning::Instead(advice) => format!("refused: {advice}"),
    };
    let of = if entry.of.is_empty() || entry.of == super::TOOLS {
        String::new()
    } else {
        format!("{}: ", entry.of.join(", "))
    };
    let variable = entry.variable.map(|name| format!(" (`{name}`)")).unwrap_or_default();
    format!("{of}{}{variable}", what.replace('|', "\\|"))
}

#[test]
fn the_list_in_the_documents_is_the_table() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/command-line.md");
    let text = std::fs::read_to_string(&file).expect("the document");
    let (before, rest) = text.split_once(BEGIN).expect("the first marker");
    let (_, after) = rest.split_once(END).expect("the second marker");
    let expected = format!("{before}{BEGIN}{}\n{END}{after}", markdown());
    if std::env::var_os("GENARM_WRITE_SNAPSHOTS").is_some() {
        std::fs::write(&file, &expected).expect("written");
        return;
    }
    assert!(text == expected, "the list is not the table's; where this is meant, run make snapshots");
}

#[test]
fn no_flag_has_two_meanings_in_a_command() {
    let entries: Vec<_> = super::flags().collect();
    for command in super::TOOLS {
        let is_rest = |entry: &Flag| entry.of.is_empty() && matches!(entry.meaning, Meaning::Instead(_));
        // An entry for all commands applies where no earlier entry names the command.
        for (i, entry) in entries.iter().enumerate().filter(|(_, entry)| !is_rest(entry)) {
            // An entry that a command cannot follow leaves the flag to a later one.
            let decides =
                |entry: &Flag| matches!(entry.meaning, Meaning::Already(_) | Meaning::Words(_) | Meaning::Value(..));
            for name in entry.names.iter().filter(|name| entry.is_about(command, name)) {
                let earlier = entries[..i].iter().any(|earlier| earlier.is_about(command, name) && decides(earlier));
                assert!(!earlier, "{command} {name}");
            }
        }
    }
}
