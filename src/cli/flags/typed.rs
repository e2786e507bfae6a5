//! Every word that begins with a dash, before clap reads it: foreign flags become ours, and words with one dash are
//! flags as a whole.

use std::ffi::OsString;
use std::path::Path;

use super::foreign::{Foreign, meaning};
use super::{called, find_long, subcommand, unknown};

/// The command line in genarm's own words.
///
/// # Errors
///
/// One line that names the flag that is wrong.
pub fn rewrite(command: &clap::Command, args: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let of = subcommand(command, &args).clone();
    let mut out = Vec::with_capacity(args.len());
    let mut args = args.into_iter();
    out.extend(args.next());
    while let Some(arg) = args.next() {
        let Some(word) = arg.to_str().filter(|word| word.starts_with('-') && *word != "-") else {
            out.push(arg);
            continue;
        };
        if word == "--" {
            out.push(arg);
            out.extend(args);
            break;
        }
        let word = ours(&of, word)?;
        // What follows such a flag is its value, dash or not.
        let takes_next = !word.contains('=')
            && word
                .strip_prefix("--")
                .and_then(|long| find_long(&of, long))
                .is_some_and(clap::Arg::is_allow_hyphen_values_set);
        out.push(word.into());
        if takes_next {
            out.extend(args.next());
        }
    }
    Ok(out)
}

/// A word with a dash, as this command knows it.
fn ours(of: &clap::Command, word: &str) -> Result<String, String> {
    let (flag, value) = word.split_at(word.find('=').unwrap_or(word.len()));
    let long = flag.strip_prefix("--");
    let known = match long {
        Some(long) => find_long(of, long).is_some(),
        None => flag.strip_prefix('-').is_some_and(|rest| short(of, rest).is_some()),
    };
    if !known {
        match meaning(flag) {
            Some(Foreign::Same(own)) if find_long(of, own).is_some() => return Ok(format!("--{own}{value}")),
            Some(Foreign::Same("base")) if find_long(of, "backbone").is_some() => {
                return Err(unknown::flag(of, flag, "; did you mean --backbone?"));
            }
            Some(Foreign::Instead(advice)) => return Err(unknown::flag(of, flag, &format!("; {advice}"))),
            _ => {}
        }
    }
    if long.is_none() {
        one_dash(of, word, flag)?;
    }
    Ok(word.to_owned())
}

/// The flag of one letter.
fn short<'a>(of: &'a clap::Command, letter: &str) -> Option<&'a clap::Arg> {
    let mut letters = letter.chars();
    let (first, None) = (letters.next()?, letters.next()) else { return None };
    of.get_arguments().find(|arg| arg.get_short() == Some(first))
}

/// Refuses a word with one dash that is neither a flag of one letter, nor one with its value attached (`-n12`), nor
/// `-vv`.
fn one_dash(of: &clap::Command, word: &str, flag: &str) -> Result<(), String> {
    let name = &flag[1..];
    if word.parse::<f64>().is_ok() || name.chars().count() == 1 {
        return Ok(());
    }
    if find_long(of, name).is_some() {
        return Err(format!("{} has no flag {flag}; with two dashes it is --{name}", called(of)));
    }
    let letters = &word[1..];
    for (at, letter) in letters.char_indices() {
        let wrong = || Err(unknown::flag(of, flag, ""));
        let Some(arg) = short(of, &letter.to_string()) else { return wrong() };
        if arg.get_action().takes_values() {
            let value = &letters[at + letter.len_utf8()..];
            return if is_meant(arg, value) { Ok(()) } else { wrong() };
        }
        // Help among other letters is a slip: it would end the program as if all were well.
        if !matches!(arg.get_action(), clap::ArgAction::Count) {
            return wrong();
        }
    }
    Ok(())
}

/// Whether what is attached to a flag of one letter can be its value.
fn is_meant(arg: &clap::Arg, value: &str) -> bool {
    match arg.get_id().as_str() {
        // With an equals sign nothing else can be meant, and the value speaks for itself where it is wrong.
        _ if value.is_empty() || value.starts_with('=') => true,
        "config" => value.contains(['.', '/', '\\']) || Path::new(value).exists(),
        "weights" => value.contains('='),
        _ => value.parse::<f64>().is_ok(),
    }
}
