//! Which column decides, for the single objective of a run or for each of several.

use super::prefer::{Pair, Preference};
use crate::train::settings::{DataFile, Settings};
use serde_json::Value;

/// How the pair of a row is found.
pub(super) enum Rule {
    /// It says `chosen` and `rejected`.
    Chosen,
    /// By a label or score.
    By(Preference),
    /// For an objective: by a label or score, or by `chosen` and `rejected` in a file of its own.
    For { objective: usize, by: Preference, own: bool },
}

impl Rule {
    /// The rules of a file, one for each of its objectives.
    pub fn of(file: &DataFile, settings: &Settings) -> Vec<Self> {
        let Some(parm) = &settings.parm else {
            return vec![settings.prefer.as_deref().map_or(Self::Chosen, |by| Self::By(Preference::new(by)))];
        };
        let own = file.objectives.len() == 1;
        let rule = |i: &usize| Self::For { objective: *i, by: Preference::new(&parm.names[*i]), own };
        file.objectives.iter().map(rule).collect()
    }

    /// The pair that is complete with the row at `line`, if any.
    ///
    /// # Errors
    ///
    /// What is wrong with the row, by the names of its columns.
    pub fn pair(&mut self, line: usize, row: Value) -> Result<Option<Pair>, String> {
        match self {
            Self::Chosen => Ok(Some((line, row))),
            Self::For { by, own: true, .. } => by.push_own(line, row),
            Self::By(by) | Self::For { by, .. } => by.push(line, row),
        }
    }

    /// The pair of the last rows, and how many rows prefer nothing.
    pub fn finish(&mut self) -> (Option<Pair>, usize) {
        match self {
            Self::Chosen => (None, 0),
            Self::By(by) | Self::For { by, .. } => (by.finish(), by.ties),
        }
    }

    /// The objective that the pairs are for, where there are several.
    pub fn objective(&self) -> Option<usize> {
        match self {
            Self::For { objective, .. } => Some(*objective),
            Self::Chosen | Self::By(_) => None,
        }
    }
}
