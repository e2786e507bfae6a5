//! Which experts of a configuration are rows of one context.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::params::model_params;
use super::{SessionError, cache};
use crate::config::{ExpertSpec, LoraSpec, Switch};
use crate::engine::llama::{ContextParams, Model};
use crate::engine::share::{Costs, Probe, ShareError, apart, together_with_spares};
use crate::engine::{Scaled, Sequence, threads};

/// An expert that is about to get its sequences.
pub(super) struct Member<'a> {
    /// "base", or an ARM's name in quotes.
    pub who: String,
    pub model: Arc<Model>,
    pub spec: &'a ExpertSpec,
    pub params: ContextParams,
    /// Whether only some texts use it.
    pub is_spare: bool,
}

/// Experts on the same weights, and whether they share batches.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shared {
    /// Who they are.
    pub experts: Vec<String>,
    /// Whether they are rows of one batch.
    pub shared: bool,
    /// Why they are not, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
    /// What a token costs them, if it was measured, now or before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub costs: Option<Costs>,
}

/// A shared batch must save this much to be chosen: below it, noise decides.
const GAIN: f64 = 1.03;

impl Member<'_> {
    fn adapters(&self) -> Vec<Scaled<'_>> {
        self.spec.lora.iter().map(|lora| (lora.path.as_path(), lora.scale)).collect()
    }

    fn can_share_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.model, &other.model) && self.params == other.params
    }
}

/// Makes every member's sequences, one a slot: `sequences[member][slot]`.
pub(super) fn sequences(
    members: &[Member<'_>],
    switch: Switch,
    n_slots: usize,
) -> Result<(Vec<Vec<Sequence>>, Vec<Shared>), SessionError> {
    let mut made: Vec<Vec<Sequence>> = members.iter().map(|_| Vec::new()).collect();
    let mut report = Vec::new();
    for group in groups(members) {
        let experts: Vec<_> = group.iter().map(|i| &members[*i]).collect();
        let shared = match experts.len() {
            1 => None,
            _ => {
                let (rows, shared) = share(&experts, switch, n_slots);
                report.push(shared);
                rows
            }
        };
        match shared {
            Some(rows) => group.iter().zip(rows).for_each(|(i, rows)| made[*i] = rows),
            None => {
                for i in group {
                    let Member { who, model, params, .. } = &members[i];
                    let slots = apart(model, &members[i].adapters(), params, n_slots);
                    made[i] = slots.map_err(|source| SessionError::Sequence { who: who.clone(), source })?;
                }
            }
        }
    }
    Ok((made, report))
}

/// Members that could share a context, each with those like it; in the order of the first.
fn groups(members: &[Member<'_>]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (i, member) in members.iter().enumerate() {
        match groups.iter_mut().find(|group| members[group[0]].can_share_with(member)) {
            Some(group) => group.push(i),
            None => groups.push(vec![i]),
        }
    }
    groups
}

/// The rows of one context, or the reason why there are none.
fn share(experts: &[&Member<'_>], switch: Switch, n_slots: usize) -> (Option<Vec<Vec<Sequence>>>, Shared) {
    let names = experts.iter().map(|expert| expert.who.clone()).collect();
    let mut report = Shared { experts: names, shared: false, why_not: None, costs: None };
    if switch == Switch::Off {
        report.why_not = Some("turned off".into());
        return (None, report);
    }
    match try_share(experts, switch, n_slots, &mut report) {
        Ok(rows) => {
            report.shared = rows.is_some();
            (rows, report)
        }
        Err(error) => {
            let who = report.experts.join(", ");
            // What cannot be read in a context of its own either ends the start with the same words.
            if !matches!(error, ShareError::Apart(_)) {
                tracing::warn!("{who} do not share a batch, and run in contexts of their own: {error}");
            }
            report.why_not = Some(error.to_string());
            (None, report)
        }
    }
}

fn try_share(
    experts: &[&Member<'_>],
    switch: Switch,
    n_slots: usize,
    report: &mut Shared,
) -> Result<Option<Vec<Vec<Sequence>>>, ShareError> {
    let (model, params) = (&experts[0].model, &experts[0].params);
    let adapters: Vec<_> = experts.iter().map(|expert| expert.adapters()).collect();
    let key = key(experts);
    let known = recall(&key);
    let is_auto = switch == Switch::Auto;
    report.costs = known.and_then(|known| known.costs).filter(|_| is_auto);
    if known.is_none() || is_auto && report.costs.is_none() {
        let mut probe = Probe::new(model, &adapters, params)?;
        if known.is_none() {
            probe.check()?;
        }
        let n_reduced = threads::n_reduced();
        report.costs = if is_auto { Some(probe.measure()?) } else { None };
        // What holds on fewer threads need not hold on all.
        let found = Passed { costs: report.costs.filter(|_| threads::n_reduced() == n_reduced) };
        if known != Some(found) {
            remember(key, found);
        }
    }
    if report.costs.is_some_and(|costs| costs.apart < costs.together * GAIN) {
        report.why_not = Some("it does not pay on this machine".into());
        return Ok(None);
    }
    let spares: Vec<_> = (0..experts.len()).filter(|i| experts[*i].is_spare).collect();
    together_with_spares(model, &adapters, &spares, params, n_slots).map(Some)
}

/// What it depends on whether these experts give the same in a shared batch, and what that costs.
fn key(experts: &[&Member<'_>]) -> String {
    let stamp = |path: &Path| {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let about = fs::metadata(&path).ok();
        let changed = about.as_ref().and_then(|about| about.modified().ok());
        let since = changed.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
        format!("{}@{}.{:09}+{}", path.display(), since.as_secs(), since.subsec_nanos(), about.map_or(0, |a| a.len()))
    };
    let lora = |lora: &LoraSpec| format!("{}*{}", stamp(&lora.path), lora.scale);
    let expert = |member: &&Member<'_>| member.spec.lora.iter().map(lora).collect::<Vec<_>>().join("+");
    let host = sysinfo::System::host_name().unwrap_or_default();
    let adapters: Vec<_> = experts.iter().map(expert).collect();
    let (model, settings) = (stamp(&experts[0].spec.model), (&experts[0].params, model_params(experts[0].spec)));
    format!("{} {host} {model} [{}] {settings:?}", env!("CARGO_PKG_VERSION"), adapters.join(","))
}

/// Where what was found is kept.
fn file() -> Option<PathBuf> {
    Some(cache::folder()?.join("share-batch.json"))
}

/// Experts that give the same in a shared batch as in contexts of their own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Passed {
    /// What a token costs them, where it was measured on all threads.
    costs: Option<Costs>,
}

type Cache = BTreeMap<String, Passed>;

fn read(path: &Path) -> Cache {
    fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn recall(key: &str) -> Option<Passed> {
    read(&file()?).remove(key)
}

/// Keeps what was found; a cache that cannot be written only means trying again.
fn remember(key: String, found: Passed) {
    let write = || -> Option<()> {
        let path = file()?;
        let folder = path.parent()?;
        fs::create_dir_all(folder).ok()?;
        let mut all = read(&path);
        all.insert(key, found);
        let mut file = tempfile::NamedTempFile::new_in(folder).ok()?;
        file.write_all(&serde_json::to_vec_pretty(&all).ok()?).ok()?;
        file.persist(&path).ok().map(|_| ())
    };
    if write().is_none() {
        tracing::debug!("what was found of a shared batch cannot be kept");
    }
}
