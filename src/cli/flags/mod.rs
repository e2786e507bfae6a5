//! From what was typed to [`Cli`]: a wrong flag is refused with its name, before anything is read or loaded.
//!
//! clap alone reads too much into a word: `-hf` would be `-h -f`, and `-cnv` a context of "nv" tokens.

mod effect;
mod files;
mod foreign;
mod hub;
mod known;
#[cfg(test)]
mod tests;
mod typed;
mod unknown;
mod variables;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::FromArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{Cli, MAX_MESSAGE};
use crate::brief;
use crate::config::decimal_point;

pub use effect::check_config;
pub use files::{has_keys, is_model_name, is_yaml};
pub use known::command;
pub use variables::{Variables, unread};

/// A command line that is not carried out: help was asked for, or something in it is wrong.
pub enum Refusal {
    /// One line about a flag.
    Line(String),
    /// `--version`, and whether `-v` stands beside it.
    Version(bool),
    /// Help, in clap's own words.
    Help(Box<clap::Error>),
}

impl Refusal {
    /// clap's words on one line, without the usage below them; help as it is.
    fn of(error: clap::Error) -> Self {
        if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return Self::Help(Box::new(error));
        }
        let text = error.render().to_string();
        let paragraphs = text.split("\n\n").filter(|part| !part.starts_with("Usage:") && !part.starts_with("For more"));
        let words = paragraphs.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
        Self::Line(words.trim_start_matches("error: ").to_owned())
    }

    /// Says it, and gives the exit code.
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Line(line) => {
                // A flag may hold a text of any length.
                eprintln!("error: {}", brief::message(line, MAX_MESSAGE));
                ExitCode::from(2)
            }
            Self::Version(verbose) => {
                // A closed pipe is no reason to panic.
                let _ = crate::cli::output::print(&super::version::text(*verbose));
                ExitCode::SUCCESS
            }
            Self::Help(error) => {
                let _ = error.print();
                ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
            }
        }
    }
}

/// Reads a command line, the program's name first.
pub fn parse(args: Vec<OsString>) -> Result<Cli, Refusal> {
    read(command(), args)
}

/// The same for these commands.
fn read(mut command: clap::Command, args: Vec<OsString>) -> Result<Cli, Refusal> {
    let mut built = command.clone();
    built.build();
    let args = hub::rewrite(&built, args).and_then(|args| typed::rewrite(&built, args)).map_err(Refusal::Line)?;
    let name = subcommand(&built, &args).get_name();
    // The command line wins over what it contradicts.
    if name == "serve" && args.iter().any(|arg| arg == "--no-api-key") {
        for long in ["api-key", "api-key-file"] {
            command = known::without_variable(command, name, long);
        }
    }
    let matches = command.try_get_matches_from(&args).map_err(|error| refusal(&built, &args, error))?;
    if let Some((name, of_sub)) = matches.subcommand() {
        effect::check(name, built.find_subcommand(name), of_sub).map_err(Refusal::Line)?;
    }
    Cli::from_arg_matches(&matches).map_err(Refusal::of)
}

/// What clap refuses, in our words where they say more.
fn refusal(command: &clap::Command, args: &[OsString], error: clap::Error) -> Refusal {
    match error.kind() {
        ErrorKind::UnknownArgument => match unknown::line(command, args, &error) {
            Some(line) => Refusal::Line(line),
            None => Refusal::of(error),
        },
        ErrorKind::DisplayVersion => {
            let verbose = |word: &OsString| word == "--verbose" || word.to_str().is_some_and(|w| w.starts_with("-v"));
            Refusal::Version(args.iter().skip(1).any(verbose))
        }
        _ => {
            let said = |kind| match error.get(kind) {
                Some(ContextValue::String(text)) => text.clone(),
                _ => String::new(),
            };
            let (flag, value) = (said(ContextKind::InvalidArg), said(ContextKind::InvalidValue));
            let variable = known::variable_of(subcommand(command, args), &flag, args);
            let variable = variable.map(|name| format!("; the value is that of {name}")).unwrap_or_default();
            let number = value.rsplit(['=', ':']).next().map(decimal_point).unwrap_or_default();
            match Refusal::of(error) {
                Refusal::Line(line) => Refusal::Line(line + &number + &variable),
                other => other,
            }
        }
    }
}

/// The subcommand that a command line names, else the program itself.
fn subcommand<'a>(command: &'a clap::Command, args: &[OsString]) -> &'a clap::Command {
    let words = args.iter().skip(1).filter_map(|arg| arg.to_str());
    let name = words.take_while(|word| *word != "--").find(|word| !word.starts_with('-'));
    name.and_then(|name| command.find_subcommand(name)).unwrap_or(command)
}

/// What a command is called in a message.
fn called(command: &clap::Command) -> String {
    match command.get_name() {
        "genarm" => "genarm".to_owned(),
        name => format!("genarm {name}"),
    }
}

/// A long flag of a command: by its name or by another that it goes by.
fn find_long<'a>(command: &'a clap::Command, long: &str) -> Option<&'a clap::Arg> {
    command.get_arguments().find(|arg| longs(arg).any(|name| name == long))
}

/// The long names of a flag, its own one first.
fn longs(arg: &clap::Arg) -> impl Iterator<Item = &str> {
    arg.get_long().into_iter().chain(arg.get_all_aliases().into_iter().flatten())
}
