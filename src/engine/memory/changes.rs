//! What to change where experts do not fit.

use super::plan::{DeviceMemory, ExpertRequest, Layers, Placement};
use crate::engine::llama::{CacheType, FlashAttention};

/// A change of settings with which everything fits.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The flags that make it, or what to do in words.
    pub text: String,
    /// How much it hurts, from 0 (nothing is lost) to 1.
    pub cost: f64,
}

/// A change with what it makes of the requests.
type Candidate = (Change, Vec<ExpertRequest>);

/// The changes that make `requests` fit `devices`, each by itself, the cheapest first; at most three.
pub fn changes(requests: &[ExpertRequest], devices: &[DeviceMemory]) -> Vec<Change> {
    let fits = |requests: &[ExpertRequest]| Placement::of(requests, devices).shortage().is_none();
    let mut found: Vec<Change> = Vec::new();
    let mut take = |(change, changed): Candidate| {
        let fit = fits(&changed);
        if fit {
            found.push(change);
        }
        fit
    };
    if let Some(candidate) = shared(requests) {
        take(candidate);
    }
    take(one_batch(requests));
    let _ = [256, 128, 64, 32].into_iter().any(|n| ubatch(requests, n).is_some_and(&mut take));
    let small_cache = cache(requests);
    let cache_alone = small_cache.clone().is_some_and(&mut take);
    let _ = n_ctxs(requests).any(|n| take(context(requests, n)));
    if let Some((change, smaller)) = small_cache.filter(|_| !cache_alone) {
        let both = |n| {
            let (ctx, changed) = context(&smaller, n);
            (Change { text: format!("{} {}", change.text, ctx.text), cost: ctx.cost + change.cost }, changed)
        };
        let _ = n_ctxs(requests).any(|n| take(both(n)));
    }
    let most = requests.iter().filter(|r| !r.devices.is_empty()).map(ExpertRequest::n_layers).max().unwrap_or(0);
    let _ = (0..most).rev().any(|n| take(gpu_layers(requests, n, most)));
    if let Some(candidate) = without_lightest(requests) {
        take(candidate);
    }
    found.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    found.truncate(3);
    found
}

/// One placement for experts of one file, so that they share its weights.
fn shared(requests: &[ExpertRequest]) -> Option<Candidate> {
    let mut changed = requests.to_vec();
    let mut name = None;
    for i in 1..changed.len() {
        let twin = (0..i).find(|j| changed[*j].file == changed[i].file && !changed[i].is_drafter());
        let Some(twin) = twin else { continue };
        let same = |a: &ExpertRequest, b: &ExpertRequest| a.layers == b.layers && a.devices == b.devices;
        if !same(&changed[twin], &changed[i]) {
            (changed[i].layers, changed[i].devices) = (changed[twin].layers, changed[twin].devices.clone());
            name.get_or_insert((changed[i].name.clone(), changed[twin].name.clone()));
        }
    }
    let (arm, twin) = name?;
    let text = format!("device and n_gpu_layers of \"{arm}\" as those of {twin}, so that they share the weights");
    Some((Change { text, cost: 0.0 }, changed))
}

/// Rows of one batch instead of contexts: no change where no two are of a kind.
fn one_batch(requests: &[ExpertRequest]) -> Candidate {
    let mut changed = requests.to_vec();
    changed.iter_mut().for_each(|r| r.shares_batch = !r.is_drafter());
    (Change { text: "--share-batch on".to_owned(), cost: 0.02 }, changed)
}

fn ubatch(requests: &[ExpertRequest], n: u32) -> Option<Candidate> {
    if requests.iter().all(|r| r.params.n_ubatch <= n) {
        return None;
    }
    let mut changed = requests.to_vec();
    changed.iter_mut().for_each(|r| r.params.n_ubatch = r.params.n_ubatch.min(n));
    Some((Change { text: format!("--n-ubatch {n}"), cost: 0.05 }, changed))
}

/// Caches in 8 bits, which need flash attention.
fn cache(requests: &[ExpertRequest]) -> Option<Candidate> {
    let wide = |r: &ExpertRequest| !r.params.type_k.is_quantised() || !r.params.type_v.is_quantised();
    if !requests.iter().any(wide) || requests.iter().any(|r| r.params.flash_attention == FlashAttention::Off) {
        return None;
    }
    let mut changed = requests.to_vec();
    for r in &mut changed {
        (r.params.type_k, r.params.type_v) = (CacheType::Q8_0, CacheType::Q8_0);
    }
    Some((Change { text: "--cache-type-k q8_0 --cache-type-v q8_0".to_owned(), cost: 0.1 }, changed))
}

/// Context sizes below the largest of the requests, falling: in steps of 1024, then of 256.
fn n_ctxs(requests: &[ExpertRequest]) -> impl Iterator<Item = u32> {
    let now = requests.iter().map(|r| r.params.n_ctx).max().unwrap_or(0);
    // Sizes that nobody would type need not all be tried: each step is at most a 64th of what is left.
    let mut n = now;
    std::iter::from_fn(move || {
        let step = if n > 1024 * 64 {
            n / 64
        } else if n > 2048 {
            1024
        } else {
            256
        };
        n = n.checked_sub(step)? / 256 * 256;
        (n > 0).then_some(n)
    })
}

fn context(requests: &[ExpertRequest], n: u32) -> Candidate {
    let mut changed = requests.to_vec();
    let before = requests.iter().map(|r| r.params.n_ctx).max().unwrap_or(n);
    for r in &mut changed {
        r.params.n_ctx = r.params.n_ctx.min(n);
        r.params.n_batch = r.params.n_batch.min(r.params.n_ctx);
        r.params.n_ubatch = r.params.n_ubatch.min(r.params.n_batch);
    }
    let cost = 0.2 + 0.6 * (1.0 - f64::from(n) / f64::from(before));
    (Change { text: format!("--n-ctx {n}"), cost }, changed)
}

fn gpu_layers(requests: &[ExpertRequest], n: u32, most: u32) -> Candidate {
    let mut changed = requests.to_vec();
    changed.iter_mut().for_each(|r| r.layers = Layers::Count(n));
    let cost = 0.3 + 0.5 * (1.0 - f64::from(n) / f64::from(most));
    (Change { text: format!("--n-gpu-layers {n}"), cost }, changed)
}

/// All experts except the ARM with the smallest weight. A user can leave out neither a reference alone nor a place for
/// a persona.
fn without_lightest(requests: &[ExpertRequest]) -> Option<Candidate> {
    let arms = requests.iter().enumerate().filter(|(_, r)| r.is_arm);
    let (lightest, arm) = arms.min_by(|(_, a), (_, b)| a.weight.abs().total_cmp(&b.weight.abs()))?;
    let mut changed = requests.to_vec();
    changed.remove(lightest);
    Some((Change { text: format!("without the ARM \"{}\"", arm.name), cost: 0.95 }, changed))
}
