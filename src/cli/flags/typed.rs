//! Every word of a command line, before clap reads it: foreign flags become ours, words with one dash are flags as a
//! whole, and the file after `chat` and `serve` gets its flag.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::files;
use super::foreign::{Meaning, TOOLS, commands, elsewhere, flags, is_theirs, is_unfit, meaning};
use super::{called, find_long, subcommand, unknown, variables};

/// The command line in genarm's own words.
///
/// # Errors
///
/// One line that names the flag that is wrong.
pub fn rewrite(command: &clap::Command, args: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let of = subcommand(command, &args);
    let mut words = Words { of, out: Vec::new(), args: args.into_iter(), seen: Vec::new(), unfit: None };
    // The program's name, its own flags, and the command's name.
    let before = words.before_command(command);
    words.read()?;
    words.check_together()?;
    words.add_variables(before)?;
    Ok(words.out)
}

/// A command line that is being read.
struct Words<'a> {
    /// The command that it is for.
    of: &'a clap::Command,
    out: Vec<OsString>,
    args: std::vec::IntoIter<OsString>,
    /// The flags that were typed.
    seen: Vec<String>,
    /// `--fit off`, as it was typed.
    unfit: Option<String>,
}

impl Words<'_> {
    /// Takes the words up to the command's name; how many they are.
    fn before_command(&mut self, program: &clap::Command) -> usize {
        if std::ptr::eq(self.of, program) {
            self.out.extend(self.args.next());
        } else {
            for arg in self.args.by_ref() {
                let is_name = arg.to_str().is_some_and(|word| program.find_subcommand(word).is_some());
                self.out.push(arg);
                if is_name && self.out.len() > 1 {
                    break;
                }
            }
        }
        self.out.len()
    }

    fn read(&mut self) -> Result<(), String> {
        while let Some(arg) = self.args.next() {
            match arg.to_str() {
                Some("--") if self.takes_model() => {
                    let rest: Vec<_> = self.args.by_ref().collect();
                    rest.into_iter().for_each(|arg| self.positional(arg));
                }
                Some("--") => {
                    self.out.push(arg);
                    self.out.extend(self.args.by_ref());
                }
                Some(word) if word.starts_with('-') && word != "-" => self.flag(word)?,
                _ => self.positional(arg),
            }
        }
        Ok(())
    }

    /// Whether the command's argument is a model or a configuration.
    fn takes_model(&self) -> bool {
        matches!(self.of.get_name(), "chat" | "serve")
    }

    fn positional(&mut self, arg: OsString) {
        if self.takes_model() {
            let flag = if files::is_configuration(Path::new(&arg)) { "--config=" } else { "--base=" };
            self.out.push(joined(flag, &arg));
        } else {
            self.out.push(arg);
        }
    }

    /// A word with a dash, and its value.
    fn flag(&mut self, word: &str) -> Result<(), String> {
        let (flag, attached) = word.split_at(word.find('=').unwrap_or(word.len()));
        let flag = &*self.hyphenated(flag);
        let value = attached.strip_prefix('=');
        self.seen.push(flag.to_owned());
        if flag == "-f" && matches!(self.of.get_name(), "generate" | "chat") {
            return self.file(value);
        }
        match meaning(self.of.get_name(), flag, |own| self.has(own)) {
            Some(Meaning::File(own, _)) => {
                let path = self.value(flag, value)?;
                let text = files::read(Path::new(&path)).map_err(|problem| self.wrong(flag, &problem))?;
                self.out.push(joined(&format!("--{own}="), OsStr::new(&text)));
            }
            Some(Meaning::Value(_, read)) => {
                let value = self.value(flag, value)?;
                if is_unfit(flag, &value.to_string_lossy()) {
                    self.unfit = Some(flag.to_owned());
                }
                let own = read(&value.to_string_lossy()).map_err(|problem| self.wrong(flag, &problem))?;
                self.out.extend(own.into_iter().map(Into::into));
            }
            Some(Meaning::Optional(_, read)) => {
                let next = self.args.as_slice().first().and_then(|next| next.to_str());
                let own = match (value, next.map(read)) {
                    (Some(value), _) => read(value).map_err(|problem| self.wrong(flag, &problem))?,
                    (None, Some(Ok(own))) => {
                        self.args.next();
                        own
                    }
                    (None, _) => read("on").map_err(|problem| self.wrong(flag, &problem))?,
                };
                self.out.extend(own.into_iter().map(Into::into));
            }
            // A flag of the command's own is what its help says.
            _ if self.known(flag) => self.own(&format!("{flag}{attached}"), flag, value),
            Some(Meaning::Same(own)) => self.own(&format!("--{own}{attached}"), &format!("--{own}"), value),
            Some(Meaning::Words(_) | Meaning::Already(_)) if value.is_some() => {
                return Err(format!("{}: {flag} takes no value", called(self.of)));
            }
            Some(Meaning::Words(own)) => self.out.extend(own.iter().map(Into::into)),
            Some(Meaning::Already(_)) => {}
            Some(Meaning::Instead(advice)) => return Err(unknown::refused(self.of, flag, advice)),
            None if is_theirs(flag) => return Err(self.elsewhere(flag)),
            None => {
                if !flag.starts_with("--") {
                    one_dash(self.of, word, flag)?;
                }
                self.own(&format!("{flag}{attached}"), flag, value);
            }
        }
        Ok(())
    }

    /// A long flag as llama.cpp reads it: with `-` for `_`.
    fn hyphenated(&self, flag: &str) -> String {
        let hyphens = flag.replace('_', "-");
        if flag.starts_with("--") && (self.known(&hyphens) || is_theirs(&hyphens)) { hyphens } else { flag.to_owned() }
    }

    /// Whether the command has a flag of its own that is typed like this.
    fn known(&self, flag: &str) -> bool {
        self.arg(flag).is_some()
    }

    fn arg(&self, flag: &str) -> Option<&clap::Arg> {
        match flag.strip_prefix("--") {
            Some(long) => find_long(self.of, long),
            None => short(self.of, flag.strip_prefix('-')?),
        }
    }

    fn has(&self, long: &str) -> bool {
        find_long(self.of, long).is_some()
    }

    /// Takes one of genarm's own flags, and what follows it where that is its value: with a dash, where it is a number
    /// or where any text can be meant.
    fn own(&mut self, word: &str, flag: &str, value: Option<&str>) {
        let arg = self.arg(flag).filter(|_| value.is_none());
        let takes = |arg: &&clap::Arg| {
            arg.get_action().takes_values() && arg.get_num_args().is_some_and(|n| n.min_values() > 0)
        };
        let any_text = arg.filter(takes).map(clap::Arg::is_allow_hyphen_values_set);
        let is_value = |next: &OsString, any_text: bool| {
            let text = next.to_string_lossy();
            any_text || !text.starts_with('-') || text == "-" || text.parse::<f64>().is_ok()
        };
        let is_taken = |next: &&OsString| any_text.is_some_and(|any_text| is_value(next, any_text));
        let next = self.args.as_slice().first().filter(is_taken);
        match next.filter(|next| next.to_string_lossy().starts_with('-') && *next != "-") {
            // Apart, clap takes a number below 0 for a flag.
            Some(negative) => self.out.push(joined(&format!("{word}="), negative)),
            None => self.out.extend(std::iter::once(OsString::from(word)).chain(next.cloned())),
        }
        if next.is_some() {
            self.args.next();
        }
    }

    /// The value of a foreign flag: attached, or the next word.
    fn value(&mut self, flag: &str, attached: Option<&str>) -> Result<OsString, String> {
        let value = attached.map(Into::into).or_else(|| self.args.next());
        value.ok_or_else(|| format!("{}: {flag} needs a value", called(self.of)))
    }

    /// `-f`: a configuration, or the prompt's file as in llama.cpp.
    fn file(&mut self, attached: Option<&str>) -> Result<(), String> {
        let file = self.value("-f", attached)?;
        let flag = if files::is_prompt(Path::new(&file)) { "--file=" } else { "--config=" };
        self.out.push(joined(flag, &file));
        Ok(())
    }

    fn wrong(&self, flag: &str, problem: &str) -> String {
        format!("{}: {flag}: {problem}", called(self.of))
    }

    /// A flag that llama.cpp's tools have, and this command has not.
    fn elsewhere(&self, flag: &str) -> String {
        let advice = match elsewhere(flag) {
            Some("base") if self.has("backbone") => "did you mean --backbone?".to_owned(),
            Some(own) => unknown::owner(own).map_or_else(String::new, |owner| format!("it is a flag of {owner}")),
            None => format!("it is for genarm {}", commands(flag).join(", ")),
        };
        unknown::refused(self.of, flag, &advice)
    }

    /// Whether a flag of the command was typed, by the name of its field.
    fn names(&self, field: &str) -> bool {
        let arg = |word: &OsString| self.arg(word.to_str()?.split('=').next()?);
        self.out.iter().take_while(|word| *word != "--").filter_map(arg).any(|arg| arg.get_id() == field)
    }

    /// Refuses what has its meaning only beside other flags.
    fn check_together(&self) -> Result<(), String> {
        let is_seen = |any: &[&str]| self.seen.iter().find(|flag| any.contains(&flag.as_str()));
        if let Some(flag) = is_seen(&["-st", "--single-turn"])
            && self.of.get_name() == "generate"
            && !self.names("chat")
            && is_seen(&["-no-cnv", "--no-conversation"]).is_none()
        {
            return Err(unknown::refused(self.of, flag, "genarm generate --chat gives one answer"));
        }
        let is_said = |field, variable| self.names(field) || variables::value(variable).is_some();
        match &self.unfit {
            Some(flag)
                if !(is_said("n_gpu_layers", "LLAMA_ARG_N_GPU_LAYERS") && is_said("n_ctx", "LLAMA_ARG_CTX_SIZE")) =>
            {
                let advice = "name what to load with --n-gpu-layers N and --n-ctx N: what is named is never changed";
                Err(self.wrong(flag, advice))
            }
            _ => Ok(()),
        }
    }

    /// What variables of the environment say, where the command line does not: those of flags that clap never sees.
    fn add_variables(&mut self, at: usize) -> Result<(), String> {
        let command = self.of.get_name();
        if !TOOLS.contains(&command) {
            return Ok(());
        }
        for foreign in flags().filter(|foreign| foreign.is_of(command)) {
            let Some((variable, value)) = foreign.variable.and_then(|name| Some((name, variables::value(name)?)))
            else {
                continue;
            };
            let words = match foreign.meaning {
                Meaning::Value(_, read) => read(&value),
                // Without --chat a template is for nothing.
                Meaning::File("chat-template", _) if command == "generate" && !self.names("chat") => continue,
                Meaning::File(own, _) => files::read(Path::new(&value)).map(|text| vec![format!("--{own}={text}")]),
                _ => continue,
            };
            self.add(at, words.map_err(|problem| format!("{variable}: {problem}"))?);
        }
        for (_, off) in variables::OFF.iter().filter(|(name, _)| variables::switch(name) == Some(false)) {
            if self.known(off) {
                self.add(at, vec![(*off).to_owned()]);
            }
        }
        // clap reads a variable only where its flag is not there at all.
        if let Some(value) = variables::value("LLAMA_ARG_CHAT_TEMPLATE_KWARGS").filter(|_| self.names(KWARGS)) {
            self.add(at, vec![format!("--chat-template-kwargs={value}")]);
        }
        Ok(())
    }

    /// Adds words where their flags were not typed. Variables of chat templates add up, and the last of a name counts.
    fn add(&mut self, at: usize, words: Vec<String>) {
        let flag = |word: &str| word.split('=').next().unwrap_or(word).to_owned();
        let typed: Vec<_> = self.out.iter().filter_map(|arg| arg.to_str()).map(flag).collect();
        let adds_up = |flag: &str| self.arg(flag).is_some_and(|arg| arg.get_id() == KWARGS);
        let untyped: Vec<_> =
            words.into_iter().filter(|word| adds_up(&flag(word)) || !typed.contains(&flag(word))).collect();
        untyped.into_iter().for_each(|word| self.out.insert(at, word.into()));
    }
}

/// The field of `--chat-template-kwargs`.
const KWARGS: &str = "chat_template_kwargs";

fn joined(flag: &str, value: &OsStr) -> OsString {
    let mut word = OsString::from(flag);
    word.push(value);
    word
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
