//! Which layer of which expert goes where, and whether it fits.

use std::path::PathBuf;

use serde::Serialize;

use super::parts::CONTEXT;
use super::{MemoryNeed, MemoryParts};
use crate::engine::llama::ContextParams;

/// A place for weights. The first of a list is main memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceMemory {
    /// Its name, as ggml says it.
    pub name: String,
    /// Bytes that are free.
    pub free: u64,
}

/// How many layers go to the devices; the logits' matrix counts as one, as in llama.cpp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layers {
    /// As many as fit.
    Auto,
    /// This many, or all there are.
    Count(u32),
    /// As many as the base: so a drafter is loaded, once all others are placed.
    AsBase,
}

/// An expert to be placed.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertRequest {
    /// What it is called in messages: `base`, or the ARM's name.
    pub name: String,
    /// The file with its weights: experts of one file and placement share them.
    pub file: PathBuf,
    /// What the file needs.
    pub parts: MemoryParts,
    /// Bytes of adapters on it.
    pub adapters: u64,
    /// The settings of its context.
    pub params: ContextParams,
    /// Sequences that its context holds, each of `n_ctx` tokens.
    pub n_sequences: u32,
    /// Whether it is a row of one batch with others of its kind: the same weights, placement and settings.
    pub shares_batch: bool,
    /// Layers on devices.
    pub layers: Layers,
    /// The devices for them, by index; empty where there are none or it shall run on the CPU.
    pub devices: Vec<usize>,
    /// Shares of the devices, by llama.cpp's `tensor_split`; empty lets free memory decide.
    pub tensor_split: Vec<f32>,
    /// Its weight in guidance: the heavier are placed first.
    pub weight: f32,
    /// Whether it is an ARM, which a configuration may do without.
    pub is_arm: bool,
}

/// Where an expert goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExpertPlan {
    /// As in [`ExpertRequest`].
    pub name: String,
    /// Layers on devices.
    pub n_gpu_layers: u32,
    /// Layers that there are, the matrix of the logits included.
    pub n_layers: u32,
    /// Whether its weights are those of an expert before it.
    pub shares_weights: bool,
    /// Whether its sequences are in the context of an expert before it.
    pub shares_context: bool,
    /// What it needs of each device, by index.
    pub needs: Vec<MemoryNeed>,
}

/// Where everything goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// The devices, main memory first.
    pub devices: Vec<DeviceMemory>,
    /// The experts, in the order of the requests.
    pub experts: Vec<ExpertPlan>,
}

impl Placement {
    /// Places `requests` on `devices`, the first of which is main memory.
    ///
    /// Fixed placements come first, then those left to the plan: the base, then the ARMs by falling absolute weight.
    /// Each takes as many layers as its devices have room for, and an expert of the same file takes as many as the
    /// first, so that they share. A drafter comes last. Of experts in one context, the first that is placed is charged
    /// with its buffers.
    pub fn of(requests: &[ExpertRequest], devices: &[DeviceMemory]) -> Self {
        let mut order: Vec<usize> = (0..requests.len()).collect();
        let rank = |r: &ExpertRequest| (r.is_drafter(), r.layers == Layers::Auto, r.name != "base");
        order.sort_by(|a, b| {
            let (a, b) = (&requests[*a], &requests[*b]);
            rank(a).cmp(&rank(b)).then(b.weight.abs().total_cmp(&a.weight.abs()))
        });
        let mut placed: Vec<Option<ExpertPlan>> = vec![None; requests.len()];
        for i in order {
            let request = &requests[i];
            let all = request.n_layers();
            let same_file = |j: &usize| {
                placed[*j].is_some() && requests[*j].file == request.file && requests[*j].devices == request.devices
            };
            let twin = (0..requests.len()).find(same_file);
            let company: Vec<_> = (0..requests.len()).filter(|j| requests[*j].in_context_with(request)).collect();
            let shares_context = company.iter().any(|j| placed[*j].is_some());
            let n_sequences = company.iter().map(|j| requests[*j].n_sequences).fold(0, u32::saturating_add);
            let buffers = (!shares_context).then(|| match company.len() {
                0 | 1 => Buffers { params: request.params.clone(), n_contexts: 1 },
                n => request.pooled(n_sequences, n as u64),
            });
            let count = match (request.layers, twin) {
                _ if request.devices.is_empty() => 0,
                (Layers::Count(n), _) => n.min(all),
                (Layers::AsBase, _) => {
                    let base = placed.iter().flatten().find(|expert| expert.name == "base");
                    base.map_or(0, |base| base.n_gpu_layers.min(all))
                }
                (Layers::Auto, Some(twin)) => placed[twin].as_ref().map_or(0, |p| p.n_gpu_layers),
                (Layers::Auto, None) => {
                    let used = used(placed.iter().flatten(), devices.len());
                    let fits = |n: u32| {
                        let needs = request.needs(n, devices, false, buffers.as_ref());
                        request.devices.iter().all(|d| used[*d].saturating_add(needs[*d].total()) <= devices[*d].free)
                    };
                    (0..=all).rev().find(|n| fits(*n)).unwrap_or(0)
                }
            };
            // A drafter's file is loaded by itself: only what is mapped from it is there once.
            let shares_weights = twin.is_some_and(|j| placed[j].as_ref().is_some_and(|p| p.n_gpu_layers == count))
                && !(request.is_drafter() && count > 0);
            let needs = request.needs(count, devices, shares_weights, buffers.as_ref());
            let name = request.name.clone();
            let (n_gpu_layers, n_layers) = (count, all);
            placed[i] = Some(ExpertPlan { name, n_gpu_layers, n_layers, shares_weights, shares_context, needs });
        }
        Self { devices: devices.to_vec(), experts: placed.into_iter().flatten().collect() }
    }

    /// What all experts need of a device.
    pub fn need(&self, device: usize) -> MemoryNeed {
        self.experts.iter().map(|expert| expert.needs[device]).fold(MemoryNeed::default(), MemoryNeed::plus)
    }

    /// The device that is short of most, if any is.
    pub fn shortage(&self) -> Option<usize> {
        let missing = |d: &usize| self.need(*d).total().saturating_sub(self.devices[*d].free);
        (0..self.devices.len()).filter(|d| missing(d) > 0).max_by_key(missing)
    }
}

/// What an expert's intermediate results are sized by.
struct Buffers {
    /// The settings of the context, its cells being those of all its sequences.
    params: ContextParams,
    /// Contexts that there are, or were.
    n_contexts: u64,
}

/// Bytes that experts use of each device.
fn used<'a>(experts: impl Iterator<Item = &'a ExpertPlan>, n_devices: usize) -> Vec<u64> {
    let mut used = vec![0u64; n_devices];
    for expert in experts {
        used.iter_mut().zip(&expert.needs).for_each(|(used, need)| *used = used.saturating_add(need.total()));
    }
    used
}

impl ExpertRequest {
    /// Layers that there are; the matrix of the logits counts as one.
    pub fn n_layers(&self) -> u32 {
        u32::try_from(self.parts.layers.len() + 1).unwrap_or(u32::MAX)
    }

    /// Whether it drafts for the others.
    pub(super) fn is_drafter(&self) -> bool {
        self.layers == Layers::AsBase
    }

    /// Whether its rows are in one context with those of `other`.
    fn in_context_with(&self, other: &Self) -> bool {
        let alike = self.params == other.params && self.layers == other.layers && self.devices == other.devices;
        let same_weights = self.file == other.file && self.tensor_split == other.tensor_split;
        self.shares_batch && other.shares_batch && alike && same_weights
    }

    /// The buffers of one context for `n_experts` of its kind, whose sequences share one pool of cells.
    ///
    /// At the first start they are compared in small contexts: one each, and two of all. The process keeps most of what
    /// these free, all but half a context to two contexts, as seen.
    fn pooled(&self, n_sequences: u32, n_experts: u64) -> Buffers {
        let n_ctx = self.params.n_ctx.saturating_mul(n_sequences);
        Buffers { params: ContextParams { n_ctx, ..self.params.clone() }, n_contexts: n_experts + 2 }
    }

    /// What each device needs with `n_gpu_layers` layers away from main memory: the last ones, as llama.cpp takes them.
    /// Without `buffers`, another expert has them.
    fn needs(
        &self,
        n_gpu_layers: u32,
        devices: &[DeviceMemory],
        shares: bool,
        buffers: Option<&Buffers>,
    ) -> Vec<MemoryNeed> {
        const HOST: usize = 0;
        let (parts, params) = (&self.parts, &self.params);
        let mut needs = vec![MemoryNeed::default(); devices.len()];
        let n_layer = parts.layers.len();
        let first = (n_layer + 1).saturating_sub(n_gpu_layers as usize);
        let sequences = u64::from(self.n_sequences.max(1));
        let place = |layer: usize| match layer < first {
            true => HOST,
            false => self.device_of(layer - first, n_layer + 1 - first, devices),
        };
        for (layer, bytes) in parts.layers.iter().enumerate() {
            let need = &mut needs[place(layer)];
            need.weights = need.weights.saturating_add(*bytes);
            need.kv = need.kv.saturating_add(parts.kv_layer(layer, params).saturating_mul(sequences));
        }
        needs[HOST].kv = needs[HOST].kv.saturating_add(parts.checkpoints().saturating_mul(sequences));
        needs[HOST].compute = parts.head(params).saturating_mul(sequences);
        let output = place(n_layer);
        needs[output].weights = needs[output].weights.saturating_add(parts.output);
        // A tied embedding is in the output already where that is in main memory too.
        if !(parts.tied && output == HOST) {
            needs[HOST].weights = needs[HOST].weights.saturating_add(parts.input);
        }
        if shares {
            needs.iter_mut().for_each(|need| need.weights = 0);
        }
        needs[HOST].weights = needs[HOST].weights.saturating_add(self.adapters);
        let Some(Buffers { params, n_contexts }) = buffers else { return needs };
        let heads = needs[HOST].compute;
        let on_devices = n_gpu_layers > 0;
        for device in self.devices.iter().filter(|_| on_devices) {
            needs[*device].compute = parts.compute(params);
        }
        needs[HOST].compute =
            if on_devices && first == 0 { parts.compute_inputs(params) } else { parts.compute(params) };
        needs[HOST].compute =
            needs[HOST].compute.saturating_add(CONTEXT.saturating_mul(*n_contexts)).saturating_add(heads);
        needs
    }

    /// The device of the `i`-th of `n` layers: shares of them by `tensor_split`, or by free memory.
    fn device_of(&self, i: usize, n: usize, devices: &[DeviceMemory]) -> usize {
        let share = |at: usize| match self.tensor_split.is_empty() {
            true => devices[self.devices[at]].free as f64,
            false => f64::from(self.tensor_split.get(at).copied().unwrap_or(0.0)),
        };
        let sum: f64 = (0..self.devices.len()).map(share).sum();
        let mut end = 0.0;
        for (at, device) in self.devices.iter().enumerate() {
            end += share(at);
            if sum > 0.0 && (i as f64) < end / sum * n as f64 {
                return *device;
            }
        }
        self.devices.last().copied().unwrap_or(0)
    }
}
