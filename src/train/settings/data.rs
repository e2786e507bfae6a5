//! The files that `--pairs` names.

use serde::{Deserialize, Deserializer, Serialize};
use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

/// A file of training data, and the objective that its preferences are for: `helpful=help.jsonl`, or `help.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairsFile {
    /// The objective, where one is named.
    pub objective: Option<String>,
    /// The file.
    pub path: PathBuf,
}

impl PairsFile {
    /// The path of a file that no objective belongs to: there a `=` is a part of the path.
    pub(super) fn whole(self) -> PathBuf {
        match self.objective {
            None => self.path,
            Some(name) => {
                let mut whole = std::ffi::OsString::from(name + "=");
                whole.push(self.path);
                whole.into()
            }
        }
    }
}

impl From<PathBuf> for PairsFile {
    fn from(path: PathBuf) -> Self {
        Self { objective: None, path }
    }
}

impl FromStr for PairsFile {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.split_once('=') {
            Some((name, path)) if is_objective_name(name) => Self { objective: Some(name.into()), path: path.into() },
            _ => PathBuf::from(text).into(),
        })
    }
}

/// Whether an objective may be called so: letters, digits, `-` and `_`.
pub(in crate::train) fn is_objective_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
}

/// A recipe's spelling: a file, or a mapping of objectives to files.
pub(super) fn pairs_files<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<PairsFile>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a file, or a mapping of objectives to files")]
    enum Files {
        One(PathBuf),
        PerObjective(indexmap::IndexMap<String, PathBuf>),
    }
    Ok(Option::<Files>::deserialize(deserializer)?.map(|files| match files {
        Files::One(path) => vec![path.into()],
        Files::PerObjective(files) => {
            files.into_iter().map(|(name, path)| PairsFile { objective: Some(name), path }).collect()
        }
    }))
}
