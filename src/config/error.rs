//! What is wrong with a configuration, and where: one line each.

use std::fmt;
use std::path::{Path, PathBuf};

use super::positions::{Node, Position, join, position};
use crate::brief::{self, Short};
use crate::nearest::suggestion;

/// Characters of a message: a file may hold keys and values of any length.
const MAX_MESSAGE: usize = 1000;

/// A configuration that cannot be used.
///
/// Its text is one line: place, key, what is wrong, and where there is one, the nearest valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}{}", brief::message(&problem.to_string(), MAX_MESSAGE))]
pub struct ConfigError {
    /// Where the wrong thing was said.
    pub place: Place,
    /// What is wrong with it; boxed, because errors travel by value through every reader.
    pub problem: Box<Problem>,
}

impl ConfigError {
    /// Whether the command line is at fault and not the file: exit code 2 instead of 1.
    pub fn is_usage(&self) -> bool {
        self.place == Place::CommandLine && !matches!(*self.problem, Problem::NotHere { .. })
    }

    /// The name of a model that `genarm pull` can download, where that is what is missing.
    pub fn to_pull(&self) -> Option<&str> {
        match &*self.problem {
            Problem::NotHere { pull, .. } => pull.as_deref(),
            _ => None,
        }
    }

    pub(super) fn usage(problem: Problem) -> Self {
        Self { place: Place::CommandLine, problem: Box::new(problem) }
    }
}

/// Where a configuration says something.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// In a flag.
    CommandLine,
    /// In a file as a whole.
    File(PathBuf),
    /// At a line and a column of a file.
    Line(PathBuf, Position),
}

impl fmt::Display for Place {
    /// The start of an error line, with its separator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => Ok(()),
            Self::File(file) => write!(f, "{}: ", file.display()),
            Self::Line(file, (line, column)) => write!(f, "{}:{line}:{column}: ", file.display()),
        }
    }
}

/// What is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file cannot be read.
    #[error("cannot read the configuration: {0}")]
    Read(String),
    /// The text is not YAML.
    #[error("not valid YAML: {0}")]
    Syntax(String),
    /// A key that no mapping of this place has.
    #[error("unknown key \"{key}\"{}{suggestion}", of(parent))]
    UnknownKey {
        /// The key.
        key: String,
        /// Path of the mapping that it is in, empty at the top.
        parent: String,
        /// The end of the message: the nearest valid key, or all of them.
        suggestion: String,
    },
    /// A word that is not one of the choices.
    #[error("{key}: unknown value \"{value}\"{suggestion}")]
    UnknownValue {
        /// Path of the key.
        key: String,
        /// What it was set to.
        value: String,
        /// The end of the message: the nearest valid word, or all of them.
        suggestion: String,
    },
    /// A name that stands for nothing.
    #[error("{}unknown {what} \"{name}\"{suggestion}", before(key))]
    UnknownName {
        /// Path of the key or the flag, empty where the name itself was asked for.
        key: String,
        /// What it should name: "ARM", "profile".
        what: &'static str,
        /// The name.
        name: String,
        /// The end of the message: the nearest valid name, or all of them.
        suggestion: String,
    },
    /// A key that stands twice in one mapping.
    #[error("{}; the first one is on line {line}", duplicate(parent, key))]
    Duplicate {
        /// Path of the mapping, empty at the top.
        parent: String,
        /// The key.
        key: String,
        /// Where it stands first.
        line: u64,
    },
    /// A value of a wrong type or outside its range.
    #[error("{}{problem}", before(key))]
    Invalid {
        /// Path of the key or the flag.
        key: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A model by name that is not on this machine, or is damaged there.
    #[error("{}{problem}", before(key))]
    NotHere {
        /// Path of the key or the flag.
        key: String,
        /// What is missing, and what to do.
        problem: String,
        /// The name that `genarm pull` takes, if it can get the model.
        pull: Option<String>,
    },
    /// Nothing names the base model.
    #[error("no base model: {0}")]
    NoBase(&'static str),
}

fn of(parent: &str) -> String {
    if parent.is_empty() { String::new() } else { format!(" in {}", Short(parent)) }
}

fn before(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{}: ", Short(key)) }
}

fn duplicate(parent: &str, key: &str) -> String {
    match parent {
        "arms" => format!("duplicate ARM name \"{key}\""),
        "profiles" => format!("duplicate profile name \"{key}\""),
        _ => format!("duplicate key \"{key}\"{}", of(parent)),
    }
}

/// How the expectations of `short.rs` begin.
const OF_PATHS: &str = "a path";

/// A parsed file: what it is called and where everything in it stands.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub file: &'a Path,
    pub root: Node,
}

impl<'a> Source<'a> {
    /// Reads the positions of a text, and refuses what is wrong whatever the keys mean.
    pub(super) fn parse(text: &str, file: &'a Path) -> Result<Self, ConfigError> {
        let root = Node::parse(text).map_err(|error| syntax_error(&error, file))?;
        let source = Self { file, root };
        match source.root.duplicate() {
            Some(twice) => Err(source
                .at(twice.second, Problem::Duplicate { parent: twice.parent, key: twice.key, line: twice.first.0 })),
            None => Ok(source),
        }
    }

    fn at(&self, at: Position, problem: Problem) -> ConfigError {
        ConfigError { place: Place::Line(self.file.to_owned(), at), problem: Box::new(problem) }
    }

    /// An error at the value of `path`.
    pub(super) fn at_value(&self, path: &[&str], problem: Problem) -> ConfigError {
        self.at(self.root.position_of(path), problem)
    }

    /// An error at the key that ends `path`.
    pub(super) fn at_key(&self, path: &[&str], problem: Problem) -> ConfigError {
        self.at(self.root.position_of_key(path), problem)
    }

    /// Turns serde's error into ours: names the key, and says what a user needs instead of what a programmer needs.
    pub(super) fn wire_error(&self, error: &serde_saphyr::Error) -> ConfigError {
        use serde_saphyr::Error;
        let error = innermost(error);
        let Some(at) = error.location().map(position).filter(|(line, _)| *line > 0) else {
            return syntax_error(error, self.file);
        };
        // A reader of several kinds of value reports the key that stands before it.
        let at = match error {
            Error::SerdeInvalidType { expected, .. } if expected.starts_with(OF_PATHS) => {
                self.root.value_of_key_at(at).unwrap_or(at)
            }
            _ => at,
        };
        let key = || self.root.path_at(at).or_else(|| self.root.key_path_at(at)).unwrap_or_default();
        let got = || {
            let got = self.root.scalar_at(at).unwrap_or("a list or a mapping");
            // `{a: 0,7}` is two entries where any name may stand: the second has no value.
            let is_comma = got == "nothing" && self.root.name_at(at).is_some_and(is_number);
            let advice = if is_comma { DECIMAL_POINT.to_owned() } else { decimal_point(got) };
            format!("{}{advice}", Short(got))
        };
        let problem = match error {
            Error::SerdeUnknownField { field, expected, .. } => Problem::UnknownKey {
                key: field.clone(),
                parent: self.parent_of_key(at, field),
                suggestion: match is_number(field) {
                    // `{temp: 0,7}` is two entries.
                    true => DECIMAL_POINT.to_owned(),
                    false => suggestion(field, expected.iter().copied()),
                },
            },
            Error::SerdeUnknownVariant { variant, expected, .. } => Problem::UnknownValue {
                key: key(),
                value: variant.clone(),
                suggestion: suggestion(variant, expected.iter().copied()),
            },
            Error::SerdeMissingField { field, .. } => {
                Problem::Invalid { key: key(), problem: format!("missing key \"{field}\"") }
            }
            Error::InvalidScalar { ty, .. } => {
                Problem::Invalid { key: key(), problem: format!("expected {}, got {}", type_name(ty), got()) }
            }
            Error::InvalidBooleanStrict { .. } => {
                Problem::Invalid { key: key(), problem: format!("expected true or false, got {}", got()) }
            }
            Error::NullIntoString { .. } => {
                Problem::Invalid { key: key(), problem: "expected a text, got nothing".to_owned() }
            }
            Error::Unexpected { expected, .. } => {
                Problem::Invalid { key: key(), problem: format!("expected {}, got {}", kind_name(expected), got()) }
            }
            Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
                Problem::Invalid { key: key(), problem: format!("expected {}, got {}", kind_name(expected), got()) }
            }
            Error::Message { msg, .. } => Problem::Invalid { key: key(), problem: one_line(msg) },
            other => Problem::Invalid { key: key(), problem: message(other) },
        };
        self.at(at, problem)
    }

    /// The mapping that an unknown key is in.
    fn parent_of_key(&self, at: Position, key: &str) -> String {
        let path = self.root.key_path_at(at).unwrap_or_default();
        path.strip_suffix(key).map(|parent| parent.trim_end_matches('.').to_owned()).unwrap_or_default()
    }

    /// What a path of keys is called in messages.
    pub(super) fn key(&self, path: &[&str]) -> String {
        path.iter().fold(String::new(), |whole, part| join(&whole, part))
    }
}

fn syntax_error(error: &serde_saphyr::Error, file: &Path) -> ConfigError {
    let error = innermost(error);
    let file = file.to_owned();
    let place = match error.location().map(position).filter(|(line, _)| *line > 0) {
        Some(at) => Place::Line(file, at),
        None => Place::File(file),
    };
    ConfigError { place, problem: Box::new(Problem::Syntax(message(error))) }
}

fn innermost(error: &serde_saphyr::Error) -> &serde_saphyr::Error {
    match error.without_snippet() {
        serde_saphyr::Error::AliasError { error, .. } => innermost(error),
        other => other,
    }
}

/// serde-saphyr's own words for a user, without the location, which stands in front of the line already.
fn message(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::{MessageFormatter, UserMessageFormatter};
    one_line(&UserMessageFormatter.format_message(error))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

const DECIMAL_POINT: &str = "; write numbers with a decimal point, as in 0.7";

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Advice for a number with a decimal comma, as an error shows it: quoted, because YAML takes it for a text.
pub(crate) fn decimal_point(shown: &str) -> String {
    let text = shown.trim_matches('"');
    match text.split_once(',') {
        Some((whole, part)) if is_number(whole.trim_start_matches('-')) && is_number(part) => {
            format!("; write a decimal point: {whole}.{part}")
        }
        _ => String::new(),
    }
}

/// Rust's type names in a user's words.
fn type_name(ty: &str) -> &str {
    match ty {
        "f32" | "f64" | "float" | "floating point" => "a number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "bool" | "boolean" => "true or false",
        other => other,
    }
}

/// serde's container names in a user's words.
fn kind_name(expected: &str) -> String {
    match expected {
        e if e.starts_with(OF_PATHS) => e.to_owned(),
        e if e.starts_with("struct ") || e.contains("mapping") || e.contains("map") => {
            "a mapping (key: value)".to_owned()
        }
        e if e.contains("sequence") => "a list".to_owned(),
        e if e.contains("string scalar") || e == "a string" => "a text".to_owned(),
        e if e.contains("scalar") => "a single value".to_owned(),
        e => type_name(e).to_owned(),
    }
}
