//! The flags of llama.cpp's tools, in one table. What is accepted and refused, the help, the completions, the man pages
//! and the list in docs/command-line.md all come from it.

mod draft;
mod flag;
mod model;
mod server;
#[cfg(test)]
mod shown;
mod text;
mod values;

pub use flag::{Flag, Meaning, TOOLS};
pub use values::{is_unfit, switched};

/// The table, in its order in the documents.
pub fn flags() -> impl Iterator<Item = &'static Flag> {
    [model::FLAGS, text::FLAGS, draft::FLAGS, server::FLAGS].into_iter().flatten()
}

/// What a flag of llama.cpp means in a command, where it has flags of these long names. Of two entries about it the
/// first that can be followed counts.
pub fn meaning(command: &str, flag: &str, has: impl Fn(&str) -> bool) -> Option<Meaning> {
    let can = |meaning: &Meaning| match meaning {
        Meaning::Same(own) | Meaning::File(own, _) => has(own),
        Meaning::Words(own) => own.iter().all(|word| word.trim_start_matches("--").split('=').next().is_some_and(&has)),
        _ => true,
    };
    flags().filter(|entry| entry.is_about(command, flag)).map(|entry| entry.meaning).find(can)
}

/// The long name under which another command has this flag.
pub fn elsewhere(flag: &str) -> Option<&'static str> {
    let own = |entry: &Flag| match entry.meaning {
        Meaning::Same(own) | Meaning::File(own, _) => Some(own),
        _ => None,
    };
    flags().filter(|entry| entry.names.contains(&flag)).find_map(own)
}

/// The commands in which this flag has a meaning.
pub fn commands(flag: &str) -> &'static [&'static str] {
    flags()
        .find(|entry| entry.names.contains(&flag))
        .map_or(TOOLS, |entry| if entry.of.is_empty() { TOOLS } else { entry.of })
}

/// Whether llama.cpp's tools have this flag.
pub fn is_theirs(flag: &str) -> bool {
    flags().any(|entry| entry.names.contains(&flag))
}
