//! What is said about a flag that a command does not have.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};

use super::{called, find_long, longs, subcommand};
use crate::nearest::nearest;

/// One line about the word that clap does not know; `None` where it names none.
pub fn line(command: &clap::Command, args: &[OsString], error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else { return None };
    let of = subcommand(command, args);
    // clap shows the value too, where it is attached.
    let word = if word.starts_with('-') { word.split('=').next().unwrap_or(word) } else { word };
    if !word.starts_with('-') {
        return Some(stray(of, word));
    }
    let advice = word.strip_prefix("--").map(|long| advice(command, of, long)).unwrap_or_default();
    Some(flag(of, word, &advice))
}

/// One line about a flag that a command does not have.
pub fn flag(of: &clap::Command, flag: &str, advice: &str) -> String {
    let texts = of.get_positionals().any(|arg| matches!(arg.get_id().as_str(), "prompt" | "responses"));
    let dash = if texts { " (a text that begins with a dash comes after --)" } else { "" };
    let list = if advice.is_empty() { format!("; {} --help lists them", called(of)) } else { String::new() };
    format!("{} has no flag {}{advice}{list}{dash}", called(of), shortened(flag))
}

/// One line about a flag of llama.cpp's tools that a command does not take.
pub fn refused(of: &clap::Command, flag: &str, advice: &str) -> String {
    format!("{} does not take {}: {advice}", called(of), shortened(flag))
}

/// The command that has a long flag.
pub fn owner(long: &str) -> Option<String> {
    super::command().get_subcommands().find(|other| find_long(other, long).is_some()).map(called)
}

/// What may have been meant by a long flag.
fn advice(command: &clap::Command, of: &clap::Command, long: &str) -> String {
    if let Some(arg) = long.strip_prefix("no-").and_then(|positive| find_long(of, positive)) {
        let name = arg.get_long().unwrap_or_default();
        return format!("; write --{name}=false");
    }
    let others: Vec<_> = command.get_subcommands().filter(|other| find_long(other, long).is_some()).collect();
    if let [first, ..] = others[..] {
        return format!("; it is a flag of {}", called(first));
    }
    let names = || of.get_arguments().flat_map(longs);
    nearest(long, names()).map(|name| format!("; did you mean --{name}?")).unwrap_or_default()
}

/// One line about a word too many.
fn stray(of: &clap::Command, word: &str) -> String {
    let word = shortened(word);
    match of.get_name() {
        "generate" => format!("\"{word}\" is one argument too many; put quotes around a prompt of several words"),
        "run" => format!("\"{word}\" is unexpected; the tool and its own flags come after --"),
        _ => format!("{} does not take the argument \"{word}\"", called(of)),
    }
}

/// An argument may be a whole text.
fn shortened(word: &str) -> String {
    const MAX: usize = 40;
    let line: String = word.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() <= MAX { line } else { line.chars().take(MAX).chain(['…']).collect() }
}
