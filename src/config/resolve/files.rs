//! Files: models by name, and paths that a shell would have expanded.

use std::path::{Path, PathBuf};

use crate::config::error::Problem;
use crate::stores::{FindError, ModelName, Stores};

/// Why a file cannot be named.
pub(super) enum Fault {
    /// What was written is wrong.
    Invalid(String),
    /// The name is right, and the model is not here.
    NotHere {
        problem: String,
        /// The name that `genarm pull` takes, if it can get it.
        pull: Option<String>,
    },
}

impl Fault {
    /// What a configuration says about it.
    pub(super) fn under(self, key: String) -> Problem {
        match self {
            Self::Invalid(problem) => Problem::Invalid { key, problem },
            Self::NotHere { problem, pull } => Problem::NotHere { key, problem, pull },
        }
    }
}

impl From<String> for Fault {
    fn from(problem: String) -> Self {
        Self::Invalid(problem)
    }
}

impl From<&str> for Fault {
    fn from(problem: &str) -> Self {
        Self::Invalid(problem.to_owned())
    }
}

impl From<FindError> for Fault {
    fn from(error: FindError) -> Self {
        let problem = error.to_string();
        match error {
            FindError::Name { .. } => Self::Invalid(problem),
            FindError::NotHere { name, can_pull, .. } => Self::NotHere { problem, pull: can_pull.then_some(name) },
            FindError::Damaged { .. } | FindError::Closed { .. } => Self::NotHere { problem, pull: None },
        }
    }
}

/// How names become files.
#[derive(Debug, Clone)]
pub(super) enum Locator {
    /// By what is on this machine.
    Stores,
    /// Not at all, for commands that open no model.
    Nothing,
}

impl Locator {
    /// The file of a name, or a path with the home folder in place of its `~`.
    pub(super) fn file(&self, path: &Path) -> Result<PathBuf, Fault> {
        let name = path.to_str().and_then(ModelName::parse);
        match (name, self) {
            (None, _) => at_home(path),
            (Some(name), Self::Stores) => Ok(Stores::here().find(&name?)?),
            (Some(name), Self::Nothing) => Ok(name?.to_string().into()),
        }
    }
}

/// A path that begins with `~/`, which only a shell replaces, in the home folder.
fn at_home(path: &Path) -> Result<PathBuf, Fault> {
    let mut parts = path.components();
    let first = parts.next().map(|part| part.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
    match first.strip_prefix('~') {
        None => Ok(path.to_owned()),
        Some("") => match std::env::home_dir().filter(|home| !home.as_os_str().is_empty()) {
            Some(home) => Ok(home.join(parts.as_path())),
            None => Err("~ stands for the home folder, and there is none; write the whole path".into()),
        },
        Some(_) if path.exists() => Ok(path.to_owned()),
        Some(_) => Err(format!("{first} is not replaced by a user's home folder; write the whole path").into()),
    }
}
