//! The commands with all flags that they take: those of the program, and llama.cpp's names, files and variables for
//! them.

use std::ffi::OsStr;

use clap::builder::{FalseyValueParser, Resettable};
use clap::{Arg, ArgAction, Args as _, Command, CommandFactory};

use super::foreign::{Flag, Meaning, TOOLS, flags};
use super::{find_long, longs};
use crate::cli::Cli;
use crate::config::Overrides;

/// The program as help, completions and man pages show it.
pub fn command() -> Command {
    let mut command = Cli::command();
    let shared = Overrides::augment_args(Command::new("shared"));
    let names: Vec<_> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        command = command.mut_subcommand(name, |sub| without_empty_variables(with_foreign(sub, &shared)));
    }
    command
}

/// The same, where no variable says anything of one flag of a command, if the command has it.
pub fn without_variable(command: Command, name: &str, long: &str) -> Command {
    command.mut_subcommand(name, |sub| match find_long(&sub, long).map(|arg| arg.get_id().to_string()) {
        Some(id) => sub.mut_arg(id, |arg| arg.env(Resettable::Reset)),
        None => sub,
    })
}

/// `shared` has the flags that all commands with a configuration have.
fn with_foreign(mut sub: Command, shared: &Command) -> Command {
    let name = sub.get_name().to_owned();
    for foreign in flags().filter(|foreign| foreign.is_of(&name)) {
        let own = match foreign.meaning {
            Meaning::Same(own) | Meaning::File(own, _) => own,
            _ => continue,
        };
        let Some(arg) = find_long(&sub, own) else { continue };
        sub = match foreign.meaning {
            Meaning::File(_, help) => sub.arg(of_file(foreign, own, help)),
            _ => {
                let id = arg.get_id().to_string();
                let free = free_names(&sub, foreign);
                let variable = foreign
                    .variable
                    .filter(|_| TOOLS.contains(&&*name) || shared.get_arguments().any(|arg| arg.get_id() == &*id));
                sub.mut_arg(id, |arg| with_names(arg, &free, variable))
            }
        };
    }
    if matches!(&*name, "chat" | "serve") {
        let help = "Base model, a GGUF file, or a configuration: short for --base FILE and --config FILE";
        sub = sub.next_help_heading(Resettable::Reset).arg(Arg::new("file_to_open").value_name("FILE").help(help));
    }
    match accepted(&sub).join(", ") {
        names if names.is_empty() => sub,
        names => sub.after_long_help(format!("{ACCEPTED} {names}")),
    }
}

const ACCEPTED: &str = "Accepted for llama.cpp's command lines (docs/command-line.md says what each does):";

/// What a command takes of llama.cpp's flags and has no entry for in its help: of each its first long name.
fn accepted(sub: &Command) -> Vec<&'static str> {
    let is_rewritten = |foreign: &&Flag| {
        matches!(foreign.meaning, Meaning::Already(_) | Meaning::Words(_) | Meaning::Value(..) | Meaning::Optional(..))
    };
    let of_command = flags().filter(|foreign| TOOLS.contains(&sub.get_name()) && foreign.is_of(sub.get_name()));
    let name = |foreign: &Flag| foreign.names.iter().copied().find(|name| name.starts_with("--"));
    of_command.filter(is_rewritten).filter_map(name).filter(|name| find_long(sub, &name[2..]).is_none()).collect()
}

/// The flag of a file that holds another flag's value. It never reaches clap, but its help does.
fn of_file(foreign: &Flag, own: &str, help: &'static str) -> Arg {
    let heading = if matches!(own, "grammar" | "json-schema") { "Sampling" } else { "Prompt" };
    let long = foreign.names.iter().find_map(|name| name.strip_prefix("--")).unwrap_or_default();
    let arg = Arg::new(long).long(long).value_name("FILE").help(help).help_heading(heading);
    let words: Vec<_> = foreign.names.iter().copied().filter(|name| !name.starts_with("--")).collect();
    with_words(arg, &words)
}

/// The names of a llama.cpp flag that no flag of the command has yet.
fn free_names(sub: &Command, foreign: &Flag) -> Vec<&'static str> {
    let taken = |name: &str| match name.strip_prefix("--") {
        Some(long) => find_long(sub, long).is_some(),
        None => {
            let letter = name.chars().nth(1);
            name.chars().count() == 2
                && (matches!(letter, Some('h' | 'v')) || sub.get_arguments().any(|arg| arg.get_short() == letter))
        }
    };
    foreign.names.iter().copied().filter(|name| !taken(name)).collect()
}

fn with_names(mut arg: Arg, names: &[&'static str], variable: Option<&'static str>) -> Arg {
    let mut words = Vec::new();
    for name in names {
        match (name.strip_prefix("--"), name.chars().nth(1)) {
            (Some(long), _) => arg = arg.visible_alias(long),
            (None, Some(letter)) if name.chars().count() == 2 => arg = arg.visible_short_alias(letter),
            _ => words.push(*name),
        }
    }
    if let Some(variable) = variable {
        arg = arg.env(variable);
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            arg = arg.value_parser(FalseyValueParser::new());
        }
    }
    with_words(arg, &words)
}

/// Words with one dash and several letters, which clap cannot show.
fn with_words(arg: Arg, words: &[&str]) -> Arg {
    if words.is_empty() {
        return arg;
    }
    let also = format!(" [also: {}]", words.join(", "));
    let (short, long) = (arg.get_help().map(ToString::to_string), arg.get_long_help().map(ToString::to_string));
    let arg = match short {
        Some(help) => arg.help(help + &also),
        None => arg,
    };
    match long {
        Some(help) => arg.long_help(help + &also),
        None => arg,
    }
}

/// A variable that is empty says nothing; and help never shows what one says, which may be a key.
fn without_empty_variables(sub: Command) -> Command {
    sub.mut_args(|arg| match arg.get_env() {
        Some(name) if is_empty(name) => arg.env(Resettable::Reset),
        Some(_) => arg.hide_env_values(true),
        None => arg,
    })
}

fn is_empty(variable: &OsStr) -> bool {
    std::env::var_os(variable).is_some_and(|value| value.is_empty())
}

/// The variable that a wrong value comes from, where the command line does not say it.
pub fn variable_of(of: &Command, flag: &str, typed: &[std::ffi::OsString]) -> Option<String> {
    let long = flag.split([' ', '[', '=']).next()?.strip_prefix("--")?;
    let arg = find_long(of, long)?;
    let is_typed = |word: &str| longs(arg).any(|long| word.strip_prefix("--") == Some(long));
    let mut words = typed.iter().filter_map(|word| word.to_str()?.split('=').next());
    let short = arg.get_short().map(|letter| format!("-{letter}"));
    if words.any(|word| is_typed(word) || short.as_deref().is_some_and(|short| word.starts_with(short))) {
        return None;
    }
    let variable = arg.get_env().filter(|name| std::env::var_os(name).is_some())?;
    Some(variable.to_string_lossy().into_owned())
}
