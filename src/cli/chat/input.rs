//! What the user types: lines, messages of several lines, history and completion.

use std::io::BufRead;
use std::path::PathBuf;

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Editor, Helper};

use super::commands::COMMANDS;
use crate::cli::load::colours;

/// What came next.
pub enum Line {
    /// A message or a command, whole.
    Said(String),
    /// Ctrl-C.
    Interrupted,
    /// The end of the input.
    End,
}

/// Where lines come from.
pub enum Input {
    /// A terminal, with an editor.
    Terminal(Box<Editor<Words, FileHistory>>, Option<PathBuf>),
    /// A pipe or a file.
    Pipe,
}

impl Input {
    /// The terminal's editor, which completes these names of ARMs and profiles, or a pipe.
    pub fn new(terminal: bool, arms: Vec<String>, profiles: Vec<String>) -> anyhow::Result<Self> {
        if !terminal {
            return Ok(Self::Pipe);
        }
        let mut editor = Editor::<Words, FileHistory>::new()?;
        editor.set_helper(Some(Words { arms, profiles, files: FilenameCompleter::new() }));
        let history = history_file();
        if let Some(file) = &history {
            // The first time there is none.
            let _ = editor.load_history(file);
        }
        Ok(Self::Terminal(Box::new(editor), history))
    }

    /// The next message or command.
    pub fn read(&mut self) -> anyhow::Result<Line> {
        let Self::Terminal(editor, history) = self else { return piped(&mut std::io::stdin().lock()) };
        let mark = if colours(&std::io::stdout()) { "\x1b[1m> \x1b[0m" } else { "> " };
        match editor.readline(mark) {
            Ok(text) => {
                let _ = editor.add_history_entry(&text);
                if let Some(file) = history {
                    // A history that cannot be kept is no reason to end a conversation.
                    let _ = editor.append_history(file);
                }
                Ok(Line::Said(joined(&text)))
            }
            Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(error) => Err(error.into()),
        }
    }
}

/// The next message of a pipe. One that is not closed ends with the input.
fn piped(input: &mut impl BufRead) -> anyhow::Result<Line> {
    let mut text = String::new();
    loop {
        let n = input.read_line(&mut text)?;
        // Of this line alone: an empty line of a message stays.
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        if n == 0 && text.is_empty() {
            return Ok(Line::End);
        }
        if n == 0 || is_whole(&text) {
            return Ok(Line::Said(joined(&text)));
        }
        text.push('\n');
    }
}

const QUOTES: &str = "\"\"\"";

/// Whether a message is finished: no line end was masked by `\`, and `"""` is closed.
fn is_whole(text: &str) -> bool {
    match text.trim_start().strip_prefix(QUOTES) {
        Some(inside) => inside.trim_end().ends_with(QUOTES),
        None => !text.ends_with('\\'),
    }
}

/// The message without the signs that made it one.
fn joined(text: &str) -> String {
    match text.trim_start().strip_prefix(QUOTES) {
        Some(inside) => {
            let inside = inside.trim_end();
            inside.strip_suffix(QUOTES).unwrap_or(inside).trim_matches('\n').to_owned()
        }
        None => {
            let text = text.replace("\\\n", "\n");
            text.strip_suffix('\\').map(str::to_owned).unwrap_or(text)
        }
    }
}

/// Beside the state of other programs; `None` where the system names no such folder.
fn history_file() -> Option<PathBuf> {
    let folder = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")));
    let folder = state.or_else(|| folder("LOCALAPPDATA"))?.join("genarm");
    std::fs::create_dir_all(&folder).ok()?;
    Some(folder.join("chat-history"))
}

/// What the editor completes.
pub struct Words {
    arms: Vec<String>,
    profiles: Vec<String>,
    files: FilenameCompleter,
}

impl Words {
    /// What may stand at the end of a command, and where that begins; `None` asks for a file.
    fn choices(&self, line: &str) -> Option<(usize, Vec<String>)> {
        if !line.starts_with('/') {
            return Some((0, Vec::new()));
        }
        let Some((command, rest)) = line.split_once(' ') else {
            return Some((0, COMMANDS.iter().map(|name| format!("/{name} ")).collect()));
        };
        let start = line.len() - rest.len();
        match command {
            "/weight" | "/weights" => Some((start, self.arms.iter().map(|arm| format!("{arm}=")).collect())),
            "/profile" => Some((start, self.profiles.clone())),
            "/save" | "/load" => None,
            _ => Some((start, Vec::new())),
        }
    }
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, context: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = line.get(..pos).unwrap_or(line);
        let Some((start, choices)) = self.choices(typed) else { return self.files.complete(line, pos, context) };
        let fitting = choices.into_iter().filter(|choice| choice.starts_with(&typed[start..]));
        Ok((start, fitting.map(|choice| Pair { display: choice.clone(), replacement: choice }).collect()))
    }
}

impl Validator for Words {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let whole = is_whole(context.input());
        Ok(if whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}

impl Helper for Words {}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(mut input: &[u8]) -> Vec<String> {
        let mut all = Vec::new();
        while let Line::Said(text) = piped(&mut input).unwrap() {
            all.push(text);
        }
        all
    }

    #[test]
    fn a_message_has_several_lines_after_a_backslash_or_between_quotes() {
        assert_eq!(said(b"one\\\ntwo\nthree\n"), ["one\ntwo", "three"]);
        assert_eq!(said(b"\"\"\"\none\n\n  two\n\"\"\"\nthree"), ["one\n\n  two", "three"]);
        assert_eq!(said(b"\"\"\"one\"\"\"\n\"\"\"a\nb\"\"\"\r\nc\r\n"), ["one", "a\nb", "c"]);
    }

    #[test]
    fn what_is_not_closed_ends_with_the_input_and_is_not_lost() {
        assert_eq!(said(b"\"\"\"one\ntwo"), ["one\ntwo"]);
        assert_eq!(said(b"one\\"), ["one"]);
        assert_eq!(said(b"a\\b \"\"\" c\n\n"), ["a\\b \"\"\" c", ""]);
    }

    #[test]
    fn commands_arms_and_profiles_are_completed() {
        let words = Words {
            arms: vec!["cheerful".into(), "plain".into()],
            profiles: vec!["happy".into()],
            files: FilenameCompleter::new(),
        };
        let history = FileHistory::new();
        let complete = |line: &str| {
            let (start, pairs) = words.complete(line, line.len(), &Context::new(&history)).unwrap();
            pairs.into_iter().map(|pair| format!("{}{}", &line[..start], pair.replacement)).collect::<Vec<_>>()
        };
        assert_eq!(complete("/ret"), ["/retry "]);
        assert_eq!(complete("/weight ch"), ["/weight cheerful="]);
        assert_eq!(complete("/profile "), ["/profile happy"]);
        assert!(complete("once /ret").is_empty());
        assert!(complete("/").len() >= COMMANDS.len());
    }
}
