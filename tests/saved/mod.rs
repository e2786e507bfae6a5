//! Saved conversations: the caches of all models go into a file, and a text goes on from it without being read again.

mod chat;
mod files;
mod session;
mod slots;

use std::path::{Path, PathBuf};

use genarm::config::{Config, Overrides};
use genarm::session::Session;

use crate::support::tokens;

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository, as it is written in YAML.
fn model(path: &str) -> String {
    root().join(path).display().to_string()
}

/// A session on a configuration in YAML.
fn open(yaml: &str) -> Session {
    let config = Config::parse(yaml, &root().join("prefs.yaml"), &Overrides::default()).expect("a configuration");
    Session::open(config, &mut |_, _| true).expect("a session")
}

/// The files in a folder, by name.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The file of a conversation's caches.
fn caches_of(conversation: &Path) -> PathBuf {
    conversation.with_file_name(format!("{}.cache", conversation.file_name().expect("a name").to_string_lossy()))
}
