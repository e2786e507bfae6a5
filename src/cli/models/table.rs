//! The list as text.

use std::fmt::Write as _;

use indicatif::HumanBytes;

use super::catalogue::{Catalogue, Listed};
use crate::brief::Short;

/// Digits of a vocabulary's hash that are shown.
const HASH: usize = 8;

/// The models, then which can steer which.
pub fn text(catalogue: &Catalogue) -> String {
    let mut out = String::new();
    let (sound, broken): (Vec<_>, Vec<_>) = catalogue.all.iter().partition(|model| model.problem.is_none());
    list(&mut out, &sound);
    groups(&mut out, &sound);
    section(
        &mut out,
        "Same tokens, but other special ones: they cannot steer each other",
        catalogue.nearly.iter().cloned(),
    );
    tuned(&mut out, &sound);
    adapters(&mut out, &sound);
    translated(&mut out, &sound);
    section(
        &mut out,
        "Cannot be used",
        broken.iter().map(|model| {
            let problem = model.problem.as_deref().unwrap_or_default();
            if problem.contains(&model.name) { problem.to_owned() } else { format!("{}: {problem}", model.name) }
        }),
    );
    out
}

fn list(out: &mut String, models: &[&Listed]) {
    let what = |model: &Listed| match (model.is_model(), model.objective.as_deref()) {
        (true, Some("arm")) => "ARM".to_owned(),
        (true, _) => "model".to_owned(),
        _ => model.kind.clone().unwrap_or_default(),
    };
    let vocabulary = |model: &Listed| match (&model.vocabulary, model.n_vocab) {
        (Some(hash), Some(n)) => format!("{} ({n})", hash.get(..HASH).unwrap_or(hash)),
        (Some(hash), None) => hash.get(..HASH).unwrap_or(hash).to_owned(),
        _ => "-".to_owned(),
    };
    let row = |model: &&Listed| {
        let size = HumanBytes(model.bytes).to_string();
        let architecture = model.architecture.as_deref().map_or("-".to_owned(), |name| Short(name).to_string());
        let quantisation = model.quantisation.unwrap_or("-").to_owned();
        [model.name.clone(), size, what(model), architecture, quantisation, vocabulary(model)]
    };
    if models.is_empty() {
        return;
    }
    let header = ["NAME", "SIZE", "WHAT", "ARCHITECTURE", "TYPE", "VOCABULARY"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(header).chain(models.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..5).map(width).collect();
    for (row, also) in rows.iter().zip(std::iter::once(&Vec::new()).chain(models.iter().map(|model| &model.also))) {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(out, "{cell:<width$}  ");
        }
        let _ = writeln!(out, "{}", row[5]);
        for name in also {
            let _ = writeln!(out, "  = {name}");
        }
    }
}

/// Models of which each can steer each other one.
fn groups(out: &mut String, models: &[&Listed]) {
    let mut groups: Vec<Vec<&Listed>> = Vec::new();
    let steer = |a: &Listed, b: &Listed| a.can_steer.iter().any(|steered| steered.name == b.name);
    for model in models.iter().filter(|model| model.is_model()) {
        match groups.iter_mut().find(|group| group.iter().all(|other| steer(model, other))) {
            Some(group) => group.push(model),
            None => groups.push(vec![model]),
        }
    }
    let padded = |model: &Listed, first: &Listed| {
        let is_padded = first.can_steer.iter().any(|steered| steered.name == model.name && steered.padded);
        if is_padded { " (padded)" } else { "" }
    };
    let line = |group: &Vec<&Listed>| {
        let names = group.iter().map(|model| format!("{}{}", model.name, padded(model, group[0])));
        names.collect::<Vec<_>>().join("\n    ")
    };
    let shared = groups.iter().filter(|group| group.len() > 1).map(line);
    section(out, "Can steer each other (one vocabulary)", shared);
}

fn tuned(out: &mut String, models: &[&Listed]) {
    let line = |model: &&Listed| Some(format!("{}, with reference {}", model.name, model.tuned_from.as_ref()?));
    section(
        out,
        "Tuned models with what they were tuned from (genarm models --pairs BASE writes the recipe)",
        models.iter().filter_map(line),
    );
}

fn adapters(out: &mut String, models: &[&Listed]) {
    let line = |model: &&Listed| match &model.fits[..] {
        [] => format!("{}: no model here", model.name),
        fits => format!("{}: {}", model.name, fits.join(", ")),
    };
    section(out, "Adapters, and the models that they fit", models.iter().filter(|model| model.is_adapter()).map(line));
}

/// Trained ARMs only: any model would steer any other.
fn translated(out: &mut String, models: &[&Listed]) {
    let arms =
        models.iter().filter(|model| model.objective.as_deref() == Some("arm") && !model.can_translate.is_empty());
    let line = |arm: &&Listed| format!("{}: {}", arm.name, arm.can_translate.join(", "));
    section(out, "ARMs that can steer models of other vocabularies (vocabulary: translate)", arms.map(line));
}

fn section(out: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        return;
    }
    let gap = if out.is_empty() { "" } else { "\n" };
    let _ = writeln!(out, "{gap}{title}:");
    for line in lines {
        let _ = writeln!(out, "  - {line}");
    }
}
