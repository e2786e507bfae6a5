//! From what was typed to [`Cli`]: a wrong flag is refused with its name, before anything is read or loaded.
//!
//! clap alone reads too much into a word: `-hf` would be `-h -f`, and `-cnv` a context of "nv" tokens.

mod effect;
mod foreign;
mod typed;
mod unknown;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};

use super::{Cli, MAX_MESSAGE};
use crate::brief;

pub use effect::check_config;

/// A command line that is not carried out: help was asked for, or something in it is wrong.
pub enum Refusal {
    /// One line about a flag.
    Line(String),
    /// `--version`.
    Version,
    /// clap's own words: help, a value that does not fit.
    Clap(Box<clap::Error>),
}

impl Refusal {
    /// Says it, and gives the exit code.
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Line(line) => {
                // A flag may hold a text of any length.
                eprintln!("error: {}", brief::message(line, MAX_MESSAGE));
                ExitCode::from(2)
            }
            Self::Version => {
                // A closed pipe is no reason to panic.
                let _ = crate::cli::generate::print(&super::version::text());
                ExitCode::SUCCESS
            }
            Self::Clap(error) => {
                let _ = error.print();
                ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
            }
        }
    }
}

/// Reads a command line, the program's name first.
pub fn parse(args: Vec<OsString>) -> Result<Cli, Refusal> {
    let mut command = Cli::command();
    command.build();
    let args = typed::rewrite(&command, args).map_err(Refusal::Line)?;
    let matches = command.clone().try_get_matches_from(&args).map_err(|error| match error.kind() {
        ErrorKind::UnknownArgument => match unknown::line(&command, &args, &error) {
            Some(line) => Refusal::Line(line),
            None => Refusal::Clap(Box::new(error)),
        },
        ErrorKind::DisplayVersion => Refusal::Version,
        _ => Refusal::Clap(Box::new(error)),
    })?;
    if let Some((name, of_sub)) = matches.subcommand() {
        effect::check(name, command.find_subcommand(name), of_sub).map_err(Refusal::Line)?;
    }
    Cli::from_arg_matches(&matches).map_err(|error| Refusal::Clap(Box::new(error)))
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
