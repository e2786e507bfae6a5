//! An entry of the table: flags of llama.cpp's tools that mean one thing, and what becomes of them.

/// The commands that do what llama-cli and llama-server do.
pub const TOOLS: &[&str] = &["generate", "chat", "serve"];
pub const GENERATE: &[&str] = &["generate"];
pub const CHAT: &[&str] = &["chat"];
pub const SERVE: &[&str] = &["serve"];
/// The commands that may talk.
pub const TALKERS: &[&str] = &["chat", "serve"];
/// The commands of one user.
pub const CLI: &[&str] = &["generate", "chat"];

/// genarm's words for a value; an error says what to do instead.
pub type Read = fn(&str) -> Result<Vec<String>, String>;

/// What becomes of a flag.
#[derive(Clone, Copy)]
#[cfg_attr(not(test), expect(dead_code, reason = "some words are for the documents alone"))]
pub enum Meaning {
    /// genarm has the same under this long name.
    Same(&'static str),
    /// The value names a file with the value of this long flag; its help.
    File(&'static str, &'static str),
    /// A switch that is these words here.
    Words(&'static [&'static str]),
    /// A flag with a value, which is other words here: for the table, and for one value.
    Value(&'static str, Read),
    /// The same, where the value may be left out: `on` is meant then.
    Optional(&'static str, Read),
    /// A switch that asks for what is so already; why.
    Already(&'static str),
    /// It is refused; what to do instead.
    Instead(&'static str),
}

use Meaning::{Already, File, Instead, Optional, Same, Value, Words};

/// Flags that mean one thing in some commands.
#[derive(Clone, Copy)]
pub struct Flag {
    /// As they are typed.
    pub names: &'static [&'static str],
    /// The commands, or none for all.
    pub of: &'static [&'static str],
    /// llama.cpp's variable, where it is read.
    pub variable: Option<&'static str>,
    pub meaning: Meaning,
}

impl Flag {
    /// The same, in these commands only.
    pub const fn of(self, of: &'static [&'static str]) -> Self {
        Self { of, ..self }
    }

    /// The same, with a variable of the environment.
    pub const fn variable(self, name: &'static str) -> Self {
        Self { variable: Some(name), ..self }
    }

    /// Whether it is for this command.
    pub fn is_of(&self, command: &str) -> bool {
        self.of.is_empty() || self.of.contains(&command)
    }

    /// Whether it is about this flag of this command.
    pub fn is_about(&self, command: &str, flag: &str) -> bool {
        self.is_of(command) && self.names.contains(&flag)
    }
}

const fn flag(names: &'static [&'static str], of: &'static [&'static str], meaning: Meaning) -> Flag {
    Flag { names, of, variable: None, meaning }
}

pub const fn same(names: &'static [&'static str], own: &'static str) -> Flag {
    flag(names, &[], Same(own))
}

pub const fn file(names: &'static [&'static str], own: &'static str, help: &'static str) -> Flag {
    flag(names, &[], File(own, help))
}

pub const fn words(names: &'static [&'static str], own: &'static [&'static str]) -> Flag {
    flag(names, &[], Words(own))
}

pub const fn value(names: &'static [&'static str], shown: &'static str, read: Read) -> Flag {
    flag(names, TOOLS, Value(shown, read))
}

pub const fn optional(names: &'static [&'static str], shown: &'static str, read: Read) -> Flag {
    flag(names, TOOLS, Optional(shown, read))
}

pub const fn already(names: &'static [&'static str], why: &'static str) -> Flag {
    flag(names, TOOLS, Already(why))
}

pub const fn instead(names: &'static [&'static str], advice: &'static str) -> Flag {
    flag(names, &[], Instead(advice))
}
