//! What variables of the environment say, in place of the command line.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::foreign::{Meaning, flags, switched};
use super::hub;

/// Switches of llama.cpp with a variable, and the value that asks for what is so already.
const SO_ALREADY: &[(&str, bool)] = &[
    ("LLAMA_ARG_JINJA", true),
    ("LLAMA_ARG_CONT_BATCHING", true),
    ("LLAMA_ARG_CACHE_PROMPT", true),
    ("LLAMA_ARG_PREFILL_ASSISTANT", true),
    ("LLAMA_ARG_KV_OFFLOAD", true),
    ("LLAMA_ARG_REPACK", true),
    ("LLAMA_ARG_KV_UNIFIED", false),
    ("LLAMA_ARG_CONTEXT_SHIFT", false),
    ("LLAMA_ARG_CACHE_IDLE_SLOTS", false),
    ("LLAMA_ARG_PERF", false),
    ("LLAMA_ARG_SHOW_TIMINGS", false),
    ("LLAMA_ARG_LOG_JSONL", false),
    ("LLAMA_ARG_AGENT", false),
    ("LLAMA_ARG_UI_MCP_PROXY", false),
];

/// Switches that are on, and what turns them off in `genarm serve`.
pub const OFF: &[(&str, &str)] = &[("LLAMA_ARG_UI", "--no-ui"), ("LLAMA_ARG_ENDPOINT_SLOTS", "--no-slots")];

/// Variables that are read where the flag's are not: by the hub, and here.
const ELSEWHERE: &[&str] = &["LLAMA_ARG_OFFLINE", REPO, FILE];

const REPO: &str = "LLAMA_ARG_HF_REPO";
const FILE: &str = "LLAMA_ARG_HF_FILE";

/// The flags that a variable gave a value to, by the names of their fields.
#[derive(Debug, Clone, Default)]
pub struct Variables(BTreeSet<String>);

impl Variables {
    /// Those of a command.
    pub fn of(matches: &ArgMatches) -> Self {
        let is_said = |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::EnvVariable);
        Self(matches.ids().filter(is_said).map(ToString::to_string).collect())
    }

    /// Whether a variable says it, and not the command line.
    pub fn say(&self, field: &str) -> bool {
        self.0.contains(field)
    }

    /// The model on the hub that variables name.
    pub fn hub_base() -> Option<PathBuf> {
        let repo = value(REPO)?;
        hub::model(Some(repo), value(FILE)).ok().flatten().map(PathBuf::from)
    }
}

/// What a variable says; one that is empty says nothing.
pub fn value(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

/// What a variable says of a switch. As in llama.cpp, `LLAMA_ARG_NO_…` turns it off, whatever its value.
pub fn switch(variable: &str) -> Option<bool> {
    let negative = variable.replace("LLAMA_ARG_", "LLAMA_ARG_NO_");
    if std::env::var_os(negative).is_some() {
        return Some(false);
    }
    switched(&value(variable)?)
}

/// The variables of llama.cpp's tools that are set and have no effect here.
pub fn unread() -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let names = names.filter(|(name, value)| name.starts_with("LLAMA_ARG_") && !value.is_empty());
    let mut unread: Vec<_> = names.map(|(name, _)| name).filter(|name| !is_read(name)).collect();
    unread.sort();
    unread
}

fn is_read(name: &str) -> bool {
    let positive = name.replace("LLAMA_ARG_NO_", "LLAMA_ARG_");
    let of_flag = || {
        let read = |meaning| matches!(meaning, Meaning::Same(_) | Meaning::File(..) | Meaning::Value(..));
        flags().any(|flag| flag.variable == Some(name) && read(flag.meaning))
    };
    ELSEWHERE.contains(&name)
        || OFF.iter().any(|(switch, _)| *switch == positive)
        || SO_ALREADY.iter().any(|(variable, so)| *variable == positive && switch(variable) == Some(*so))
        || of_flag()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_read_by_its_flag_or_as_a_switch_and_else_named() {
        for name in
            ["LLAMA_ARG_MODEL", "LLAMA_ARG_HF_REPO", "LLAMA_ARG_NO_UI", "LLAMA_ARG_SPEC_TYPE", "LLAMA_ARG_OFFLINE"]
        {
            assert!(is_read(name), "{name}");
        }
        for name in ["LLAMA_ARG_CPU_MOE", "LLAMA_ARG_NO_MODEL", "LLAMA_ARG_EMBEDDINGS", "LLAMA_ARG_OF_TOMORROW"] {
            assert!(!is_read(name), "{name}");
        }
    }
}
