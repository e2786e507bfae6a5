//! What only preference-conditioned ARMs have: objectives, and how preferences among them are drawn.

use super::betas::Beta;
use super::data::{PairsFile, is_objective_name};
use super::{ObjectiveName, Wire};
use crate::train::TrainError;
use crate::train::objective::Objective;
use std::path::PathBuf;

/// The objectives of a preference-conditioned ARM, in the order of its α.
#[derive(Debug, Clone, PartialEq)]
pub struct ParmSettings {
    /// Their names.
    pub names: Vec<String>,
    /// What is minimised for each.
    pub losses: Vec<Objective>,
    /// Concentration p of the Dirichlet(p, …, p) that α is drawn from.
    pub dirichlet: f64,
    /// Whether the ARM reads an α that has nothing to do with the one that weighs the losses: the control that an ARM
    /// must beat.
    pub shuffled: bool,
}

/// A data file, and the objectives that it has preferences for; none for a run with a single objective.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// The file.
    pub path: PathBuf,
    /// Places among the objectives.
    pub objectives: Vec<usize>,
}

/// The files of a run, and its objectives where it has several.
///
/// # Errors
///
/// [`TrainError::Setting`] for objectives without a name or a file.
pub(super) fn resolve(w: &Wire, loss: Objective) -> Result<(Vec<DataFile>, Option<ParmSettings>), TrainError> {
    let refuse = |message: String| Err(TrainError::Setting(message));
    let mut files = w.pairs.clone().unwrap_or_default();
    if files.is_empty() {
        return refuse("--pairs FILE is needed (or `pairs:` in the recipe)".into());
    }
    if w.objective != Some(ObjectiveName::Parm) {
        let file = files.remove(0);
        return match files.is_empty() {
            true => Ok((vec![DataFile { path: file.whole(), objectives: Vec::new() }], None)),
            false => {
                refuse("--pairs names several files; one is read, or one per objective with --objective parm".into())
            }
        };
    }
    let names = names(&files, w.prefer.as_deref())?;
    let mut losses = vec![loss; names.len()];
    for Beta(name, beta) in w.betas.iter().flatten() {
        let Some(at) = names.iter().position(|known| known == name) else {
            let near = crate::nearest::suggestion(name, names.iter().map(String::as_str));
            return refuse(format!("--betas: there is no objective \"{name}\"{near}"));
        };
        losses[at] = losses[at].with_beta(*beta);
    }
    let all: Vec<usize> = (0..names.len()).collect();
    let mut read: Vec<DataFile> = Vec::new();
    for (i, file) in files.into_iter().enumerate() {
        let objectives = if file.objective.is_some() { vec![i] } else { all.clone() };
        match read.iter_mut().find(|known| known.path == file.path) {
            Some(known) => known.objectives.extend(objectives),
            None => read.push(DataFile { path: file.path, objectives }),
        }
    }
    let (dirichlet, shuffled) = (w.dirichlet.unwrap_or(0.5), w.shuffle_preferences);
    Ok((read, Some(ParmSettings { names, losses, dirichlet, shuffled })))
}

/// The objectives in their order: those that files are for, or those that one file has labels of.
fn names(files: &[PairsFile], prefer: Option<&str>) -> Result<Vec<String>, TrainError> {
    let refuse = |message: String| Err(TrainError::Setting(message));
    let how = "give --pairs NAME=FILE for each objective, or one file with --prefer NAME,NAME,…";
    let of_files: Option<Vec<String>> = files.iter().map(|file| file.objective.clone()).collect();
    let names = match (of_files, prefer) {
        (Some(_), Some(_)) => {
            return refuse("--prefer has no effect on files that name their objectives; leave it out".into());
        }
        (Some(names), None) => names,
        (None, Some(prefer)) if files.len() == 1 => prefer.split(',').map(|name| name.trim().to_owned()).collect(),
        _ => return refuse(format!("--objective parm must know its objectives: {how}")),
    };
    if names.len() < 2 {
        return refuse(format!("--objective parm is for two objectives or more: {how}"));
    }
    if let Some(name) = names.iter().find(|name| !is_objective_name(name)) {
        return refuse(format!("an objective cannot be called \"{name}\"; use letters, digits, - and _"));
    }
    if let Some((i, name)) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
        return refuse(format!("the objective {name} is named twice (place {})", i + 1));
    }
    Ok(names)
}
