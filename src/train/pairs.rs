//! Training data: read one example at a time, tokenised, filtered and counted.

mod forms;
mod limits;
mod prefer;
mod read;
mod rule;
mod tables;

pub use super::render::TrainingPrompt;
pub use forms::parse;
pub use limits::LINE_MAX;

use super::TrainError;
use super::render::{Raw, Renderer};
use super::settings::{DataFile, Overlong, Settings};
use crate::chat::{ChatTemplate, Tokenize};
use indexmap::IndexMap;
use rule::Rule;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
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
    /// Of each objective of a preference-conditioned ARM: 1 where it prefers `chosen`, −1 where it prefers `rejected`, 0
    /// where neither; empty for other objectives.
    pub signs: Vec<i8>,
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
    /// Examples with a preference of each objective, of a preference-conditioned ARM.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub labelled: IndexMap<String, usize>,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} used, {} truncated; left out: {} overlong, {} duplicate, {} identical, {} empty, {} bad",
            self.used, self.truncated, self.overlong, self.duplicate, self.identical, self.empty, self.bad
        )?;
        if self.tied > 0 {
            write!(f, ", {} tied", self.tied)?;
        }
        self.labelled.iter().try_for_each(|(name, n)| write!(f, "; {n} for {name}"))
    }
}

/// Reads the data files whole, one example at a time in memory as text, all of them as tokens.
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
    let mut loader = Loader {
        settings,
        renderer: Renderer { template, words, eos: settings.eos },
        max_len,
        seen: HashMap::new(),
        out: Vec::new(),
        counts: Counts::default(),
    };
    for file in &settings.pairs {
        loader.read(file)?;
    }
    let path = settings.pairs.first().map(|file| file.path.clone()).unwrap_or_default();
    let nothing = |counts: String| Err(TrainError::NoData { path: path.clone(), counts });
    if loader.out.is_empty() {
        return nothing(loader.counts.to_string());
    }
    loader.counts.used = loader.out.len();
    for (i, name) in settings.parm.iter().flat_map(|parm| &parm.names).enumerate() {
        let n = loader.out.iter().filter(|example| example.signs[i] != 0).count();
        loader.counts.labelled.insert(name.clone(), n);
        if n == 0 {
            return nothing(format!("none has a preference for the objective {name}; {}", loader.counts));
        }
    }
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
    /// Every example that was read, and its place in `out` where it was not left out.
    seen: HashMap<[u8; 32], Option<usize>>,
    out: Vec<Example>,
    counts: Counts,
}

impl Loader<'_> {
    fn read(&mut self, file: &DataFile) -> Result<(), TrainError> {
        let (path, settings) = (file.path.as_path(), self.settings);
        let mut rules = Rule::of(file, settings);
        read::each_value(path, &mut |line, value| match value.and_then(|value| renamed(value, &settings.columns)) {
            Ok(row) => {
                for rule in &mut rules {
                    let pair = rule.pair(line, row.clone());
                    if !self.take(path, line, pair, rule.objective())? {
                        break;
                    }
                }
                Ok(())
            }
            Err(reason) => self.take(path, line, Err(reason), None).map(|_| ()),
        })?;
        for rule in &mut rules {
            let (pair, ties) = rule.finish();
            self.take(path, 0, Ok(pair), rule.objective())?;
            self.counts.tied += ties;
        }
        Ok(())
    }

    /// Adds the pair of a row, and returns whether the row is sound.
    fn take(
        &mut self,
        path: &Path,
        line: usize,
        pair: Result<Option<prefer::Pair>, String>,
        objective: Option<usize>,
    ) -> Result<bool, TrainError> {
        // A pair of several rows is named by its first one.
        let line = pair.as_ref().ok().and_then(Option::as_ref).map_or(line, |(first, _)| *first);
        let pairs = self.settings.objective != super::Objective::Sft;
        match pair.and_then(|pair| pair.map_or(Ok(()), |(_, row)| self.add(parse(&row, pairs)?, objective))) {
            Ok(()) => Ok(true),
            Err(_) if self.settings.skip_bad => {
                self.counts.bad += 1;
                Ok(false)
            }
            Err(reason) => Err(TrainError::Data { path: path.into(), line, reason }),
        }
    }

    fn add(&mut self, mut raw: Raw, objective: Option<usize>) -> Result<(), String> {
        if raw.chosen.is_empty() || raw.rejected.as_ref().is_some_and(String::is_empty) {
            self.counts.empty += 1;
            return Ok(());
        }
        if raw.rejected.as_ref() == Some(&raw.chosen) {
            self.counts.identical += 1;
            return Ok(());
        }
        // Objectives that judge the same two responses share an example, whichever of the two they prefer.
        let sign = if objective.is_some() && raw.put_in_order() { -1 } else { 1 };
        let key = Sha256::digest(format!("{raw:?}")).into();
        match (self.seen.get(&key), objective) {
            (None, _) => {}
            (Some(None), Some(_)) => return Ok(()),
            (Some(Some(at)), Some(i)) if self.out[*at].signs[i] == 0 => {
                self.out[*at].signs[i] = sign;
                return Ok(());
            }
            (Some(_), _) => {
                self.counts.duplicate += 1;
                return Ok(());
            }
        }
        let before = self.out.len();
        self.keep(&raw)?;
        let place = (self.out.len() > before).then_some(before);
        self.seen.insert(key, place);
        if let (Some(i), Some(parm), Some(at)) = (objective, &self.settings.parm, place) {
            self.out[at].signs = vec![0; parm.names.len()];
            self.out[at].signs[i] = sign;
        }
        Ok(())
    }

    /// Adds a sound example in tokens, if it fits.
    fn keep(&mut self, raw: &Raw) -> Result<(), String> {
        let tokens = self.renderer.tokens(raw)?;
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
        let example = Example {
            prompt: tokens.prompt,
            chosen: tokens.chosen,
            rejected: tokens.rejected,
            adapted_from: 0,
            signs: Vec::new(),
        };
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
                    signs: Vec::new(),
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
