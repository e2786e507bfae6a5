//! Training data: read one example at a time, tokenised, filtered and counted.

mod forms;
mod limits;
mod prefer;
mod read;
mod tables;

pub use super::render::TrainingPrompt;
pub use forms::parse;
pub use limits::LINE_MAX;

use super::TrainError;
use super::render::{Raw, Renderer};
use super::settings::{Overlong, Settings};
use crate::chat::{ChatTemplate, Tokenize};
use indexmap::IndexMap;
use prefer::Preference;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::path::Path;

/// A tokenised example. Training on plain text leaves `rejected` empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The prompt, with what the vocabulary wants at the beginning. Not scored.
    pub prompt: Vec<u32>,
    /// The preferred response (or the text).
    pub chosen: Vec<u32>,
    /// The other response.
    pub rejected: Vec<u32>,
    /// The first token that is read with the adapter.
    pub adapted_from: usize,
}

impl Example {
    /// Tokens read for this example.
    pub fn n_tokens(&self) -> usize {
        let rejected = if self.rejected.is_empty() { 0 } else { self.prompt.len() + self.rejected.len() };
        self.prompt.len() + self.chosen.len() + rejected
    }
}

/// What became of the lines of a data file.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Examples kept.
    pub used: usize,
    /// Left out: an empty prompt and response, or an empty response.
    pub empty: usize,
    /// Left out: both responses alike.
    pub identical: usize,
    /// Left out: seen before.
    pub duplicate: usize,
    /// Left out: longer than allowed.
    pub overlong: usize,
    /// Kept, shortened.
    pub truncated: usize,
    /// Left out: malformed.
    pub bad: usize,
    /// Left out: `--prefer` names a label or score that prefers neither response.
    pub tied: usize,
    /// Of those read: conversations, which the template has rendered.
    pub conversations: usize,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} used, {} truncated; left out: {} overlong, {} duplicate, {} identical, {} empty, {} bad",
            self.used, self.truncated, self.overlong, self.duplicate, self.identical, self.empty, self.bad
        )?;
        if self.tied > 0 { write!(f, ", {} tied", self.tied) } else { Ok(()) }
    }
}

/// Reads a data file whole, one example at a time in memory as text, all of them as tokens.
///
/// # Errors
///
/// [`TrainError::Data`] for a malformed line (unless `skip_bad`), [`TrainError::NoData`] when nothing is left.
pub fn load(
    settings: &Settings,
    words: &dyn Tokenize,
    template: &ChatTemplate,
    max_len: usize,
) -> Result<(Vec<Example>, Counts), TrainError> {
    let path = settings.pairs.as_path();
    let data = |line, reason| TrainError::Data { path: path.into(), line, reason };
    let pairs = settings.objective != super::Objective::Sft;
    let mut loader = Loader {
        settings,
        renderer: Renderer { template, words, eos: settings.eos },
        max_len,
        seen: HashSet::new(),
        out: Vec::new(),
        counts: Counts::default(),
    };
    let mut preference = settings.prefer.as_deref().map(Preference::new);
    let mut take = |line: usize, pair: Result<Option<prefer::Pair>, String>| {
        // A pair of several rows is named by its first one.
        let at = pair.as_ref().ok().and_then(Option::as_ref).map_or(line, |(first, _)| *first);
        match pair.and_then(|pair| pair.map_or(Ok(()), |(_, row)| loader.add(parse(&row, pairs)?))) {
            Ok(()) => Ok(()),
            Err(_) if settings.skip_bad => {
                loader.counts.bad += 1;
                Ok(())
            }
            Err(reason) => Err(data(at, reason)),
        }
    };
    read::each_value(path, &mut |line, value| {
        let row = value.and_then(|value| renamed(value, &settings.columns));
        let pair = match &mut preference {
            Some(preference) => row.and_then(|row| preference.push(line, row)),
            None => row.map(|row| Some((line, row))),
        };
        take(line, pair)
    })?;
    if let Some(preference) = &mut preference {
        take(0, Ok(preference.finish()))?;
        loader.counts.tied = preference.ties;
    }
    if loader.out.is_empty() {
        return Err(TrainError::NoData { path: path.into(), counts: loader.counts.to_string() });
    }
    loader.counts.used = loader.out.len();
    Ok((loader.out, loader.counts))
}

/// The first `n` prompts of a data file of any form that training reads, with or without responses.
///
/// # Errors
///
/// As [`load`]'s.
pub fn prompts(path: &Path, n: usize) -> Result<Vec<TrainingPrompt>, TrainError> {
    let mut all = Vec::new();
    read::each_value(path, &mut |line, value| {
        if all.len() < n {
            let prompt = value.and_then(|value| forms::prompt(&value));
            all.push(prompt.map_err(|reason| TrainError::Data { path: path.into(), line, reason })?);
        }
        Ok(())
    })?;
    Ok(all)
}

/// Gives columns the names that [`parse`] knows: `columns` has theirs by ours.
fn renamed(value: Value, columns: &IndexMap<String, String>) -> Result<Value, String> {
    let Value::Object(mut row) = value else { return Ok(value) };
    for (ours, theirs) in columns {
        let Some(cell) = row.get(theirs).cloned() else {
            let names = row.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            return Err(format!("--columns {ours}={theirs}: there is no such column; the row has {names}"));
        };
        row.insert(ours.clone(), cell);
    }
    Ok(Value::Object(row))
}

struct Loader<'a> {
    settings: &'a Settings,
    renderer: Renderer<'a>,
    max_len: usize,
    seen: HashSet<[u8; 32]>,
    out: Vec<Example>,
    counts: Counts,
}

impl Loader<'_> {
    fn add(&mut self, raw: Raw) -> Result<(), String> {
        if raw.chosen.is_empty() || raw.rejected.as_ref().is_some_and(String::is_empty) {
            self.counts.empty += 1;
            return Ok(());
        }
        if raw.rejected.as_ref() == Some(&raw.chosen) {
            self.counts.identical += 1;
            return Ok(());
        }
        if !self.seen.insert(Sha256::digest(format!("{raw:?}")).into()) {
            self.counts.duplicate += 1;
            return Ok(());
        }
        let tokens = self.renderer.tokens(&raw)?;
        // A response may have been nothing but the end of text that it spells.
        if tokens.chosen.is_empty() || (raw.rejected.is_some() && tokens.rejected.is_empty()) {
            self.counts.empty += 1;
            return Ok(());
        }
        if raw.rejected.is_some() && tokens.chosen == tokens.rejected {
            self.counts.identical += 1;
            return Ok(());
        }
        self.counts.conversations += usize::from(matches!(raw.prompt, TrainingPrompt::Chat(_)));
        let example =
            Example { prompt: tokens.prompt, chosen: tokens.chosen, rejected: tokens.rejected, adapted_from: 0 };
        self.fit(example, raw.is_plain())
    }

    /// Applies the length rule. Plain text (no prompt, no pair) is cut into pieces; an example is dropped, or
    /// keeps the end of its prompt (after BOS) and the beginning of its responses.
    fn fit(&mut self, mut e: Example, plain: bool) -> Result<(), String> {
        if e.prompt.is_empty() {
            // Without BOS the first token has nothing to be predicted from.
            let Some(&first) = e.chosen.first() else { return Ok(()) };
            if plain {
                e.prompt = vec![first];
                e.chosen.remove(0);
            } else {
                return Err("an empty prompt needs a vocabulary with a BOS token".into());
            }
        }
        let longest = e.prompt.len() + e.chosen.len().max(e.rejected.len());
        if plain {
            for piece in e.chosen.chunks(self.max_len.saturating_sub(e.prompt.len()).max(1)) {
                self.out.push(Example {
                    prompt: e.prompt.clone(),
                    chosen: piece.to_vec(),
                    rejected: Vec::new(),
                    adapted_from: 0,
                });
            }
            return Ok(());
        }
        let max_prompt = self.settings.max_prompt.min(self.max_len - 1);
        if e.prompt.len() > max_prompt || longest > self.max_len {
            if self.settings.overlong == Overlong::Drop {
                self.counts.overlong += 1;
                return Ok(());
            }
            self.counts.truncated += 1;
            // The first token is BOS, where the vocabulary has one.
            let extra = e.prompt.len().saturating_sub(max_prompt.max(1));
            e.prompt.drain(1..=extra);
            let room = self.max_len - e.prompt.len();
            e.chosen.truncate(room);
            e.rejected.truncate(room);
            if e.chosen == e.rejected {
                self.counts.truncated -= 1;
                self.counts.overlong += 1;
                return Ok(());
            }
        }
        self.out.push(e);
        Ok(())
    }
}
