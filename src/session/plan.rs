//! Where the experts of a configuration go, told from headers alone.

use std::path::Path;
use std::time::Duration;

use super::SessionError;
use super::draft_length::{longest_draft, n_snapshots};
use super::error::Shortage;
use super::experts::Experts;
use super::params::context_params;
use crate::brief;
use crate::config::{Config, ExpertSpec, GpuLayers, Reference, Speculate, SplitMode, Switch};
use crate::engine::gguf::GgufFile;
use crate::engine::llama::{Device, devices, rpc};
use crate::engine::memory::{
    Change, DeviceMemory, ExpertRequest, Layers, MemoryNeed, MemoryParts, Placement, available_memory, changes,
};
use crate::guidance::Source;

/// A configuration's plan, and what to change where it does not fit.
#[derive(Debug, Clone)]
pub struct MemoryPlan {
    /// Where everything goes.
    pub plan: Placement,
    /// The cheapest changes that would fit; empty where all fits.
    pub changes: Vec<Change>,
}

/// What the driver and the backend keep for themselves: a fixed part, and a share of what is free.
const DEVICE_RESERVE: u64 = 256 << 20;
const DEVICE_RESERVE_SHARE: u64 = 32;

/// Plans a configuration with `n_slots` texts at a time; nothing is loaded. RPC servers are asked for their memory.
///
/// # Errors
///
/// [`SessionError::Load`] for a file that is no sound model, and for a server that cannot be reached.
pub fn plan(config: &Config, n_slots: usize) -> Result<MemoryPlan, SessionError> {
    plan_experts(config, true, n_slots)
}

/// The same with or without the base, which a host may run.
fn plan_experts(config: &Config, with_base: bool, n_slots: usize) -> Result<MemoryPlan, SessionError> {
    let local: Vec<_> = devices().into_iter().filter(Device::takes_layers).collect();
    let remote = remote_devices(&config.base)?;
    let free = |d: &Device| d.memory_free.saturating_sub(DEVICE_RESERVE + d.memory_free / DEVICE_RESERVE_SHARE);
    let memory = |d: &Device| DeviceMemory { name: d.name.clone(), free: free(d) };
    let mut places = vec![DeviceMemory { name: "main memory".to_owned(), free: available_memory() }];
    places.extend(local.iter().map(memory));
    places.extend(remote.iter().map(|d| DeviceMemory { name: format!("{} ({})", d.name, d.description), ..memory(d) }));
    let mut requests = Vec::new();
    if with_base {
        let base = request("base", &config.base, 0.0, &local, remote.len())?;
        let drafts = matches!(config.speculate, Speculate::Auto | Speculate::Mtp) && longest_draft(config) > 0;
        requests.push(if drafts { ExpertRequest { parts: base.parts.drafting(), ..base } } else { base });
    }
    for setup in &Experts::of(config, with_base).setups {
        let n_remote = if setup.spec.rpc.is_empty() { 0 } else { remote.len() };
        let weight = config.arms.iter().find(|arm| arm.name == setup.arm).map_or(0.0, |arm| arm.weight);
        let request = request(&setup.who(), &setup.spec, weight, &local, n_remote)?;
        // A reference is named by what it is; an ARM by its name, as everywhere.
        let name = if setup.is_reference { setup.who() } else { setup.arm.clone() };
        requests.push(ExpertRequest { name, is_arm: !setup.is_reference && !setup.spare, ..request });
    }
    for request in &mut requests {
        if with_base {
            // Whether llama.cpp can keep them for the model is only known once it is loaded.
            let file = GgufFile::open_model(&request.file);
            request.params.n_snapshots = file.map_or(0, |file| n_snapshots(config, &file));
        }
        request.n_sequences = u32::try_from(n_slots).unwrap_or(u32::MAX);
        // What `auto` finds to pay is only known once all is loaded; contexts of their own take more, as a rule.
        request.shares_batch = config.share_batch == Switch::On;
    }
    // In a batch of several experts windows keep all tokens.
    let files: Vec<_> = requests.iter().map(|request| request.file.clone()).collect();
    for request in requests.iter_mut().filter(|_| config.share_batch != Switch::Off) {
        request.params.swa_full |= files.iter().filter(|file| **file == request.file).count() > 1;
    }
    if let Some(spec) = drafter(config).filter(|_| with_base) {
        let drafter = request(DRAFTER, &spec, 0.0, &local, remote.len())?;
        requests.push(ExpertRequest { layers: Layers::AsBase, ..drafter });
    }
    let plan = Placement::of(&requests, &places);
    let changes = if plan.shortage().is_some() { changes(&requests, &places) } else { Vec::new() };
    Ok(MemoryPlan { plan, changes })
}

/// What the model that drafts is called.
const DRAFTER: &str = "drafter";

/// The drafter that has a model of its own: it runs as the base does.
fn drafter(config: &Config) -> Option<ExpertSpec> {
    match &config.speculate {
        Speculate::Draft(file) => Some(ExpertSpec { model: file.clone(), lora: Vec::new(), ..config.base.clone() }),
        _ => None,
    }
}

/// Refuses what would not fit, and fills in the layers that the configuration leaves to the plan.
///
/// An allocation that the system grants and cannot keep would end the process without a word.
pub(super) fn resolve(config: &Config, n_slots: usize) -> Result<Config, SessionError> {
    resolve_experts(config, true, n_slots)
}

/// The same for the ARMs alone.
pub(super) fn resolve_arms(config: &Config) -> Result<Config, SessionError> {
    resolve_experts(config, false, 1)
}

fn resolve_experts(config: &Config, with_base: bool, n_slots: usize) -> Result<Config, SessionError> {
    let mut config = config.clone();
    // What cannot be read is reported, with its name, when it is loaded.
    let drafter = drafter(&config).filter(|_| with_base);
    let experts = Experts::of(&config, with_base);
    let mut specs = std::iter::once(&config.base).chain(experts.setups.iter().map(|setup| &setup.spec)).chain(&drafter);
    if specs.any(|spec| GgufFile::open_model(&spec.model).is_err()) {
        return Ok(config);
    }
    let MemoryPlan { plan, changes } = plan_experts(&config, with_base, n_slots)?;
    if let Some(device) = plan.shortage() {
        return Err(shortage(&plan, device, &changes));
    }
    // The plan lists the base, if it is in it, then the experts: each ARM and reference goes where its expert does.
    let first = usize::from(with_base);
    let of_source = |source: Source| match source {
        Source::Base => 0,
        Source::Expert(at) => first + at,
    };
    let place = |spec: &mut ExpertSpec, at: usize| {
        if let (GpuLayers::Auto, Some(expert)) = (spec.n_gpu_layers, plan.experts.get(at)) {
            spec.n_gpu_layers = GpuLayers::Count(expert.n_gpu_layers);
        }
    };
    if with_base {
        place(&mut config.base, 0);
    }
    for (arm, direction) in config.arms.iter_mut().zip(&experts.directions) {
        place(&mut arm.spec, of_source(direction.arm));
        if let (Reference::Expert(reference), Some(source)) = (&mut arm.reference, direction.reference) {
            place(&mut reference.spec, of_source(source));
        }
    }
    for expert in &plan.experts {
        if (1..expert.n_layers).contains(&expert.n_gpu_layers) && !expert.shares_weights {
            let (name, n, of) = (&expert.name, expert.n_gpu_layers, expert.n_layers);
            tracing::warn!(expert = %name, layers = n, of, "not all layers fit on the device");
        }
    }
    Ok(config)
}

fn shortage(plan: &Placement, device: usize, changes: &[Change]) -> SessionError {
    let words = brief::bytes;
    let need = plan.need(device);
    let MemoryNeed { weights, kv, compute } = need;
    let advice = match changes {
        [] => "no single setting helps; take smaller models, or a machine with more memory".to_owned(),
        changes => {
            let texts: Vec<_> = changes.iter().map(|change| change.text.as_str()).collect();
            format!("any of these would fit: {}", texts.join("; "))
        }
    };
    SessionError::Memory(Box::new(Shortage {
        device: plan.devices[device].name.clone(),
        need: words(need.total()),
        weights: words(weights),
        kv: words(kv),
        compute: words(compute),
        free: words(plan.devices[device].free),
        advice,
    }))
}

/// The devices of the base's servers.
fn remote_devices(base: &ExpertSpec) -> Result<Vec<Device>, SessionError> {
    if !base.rpc.is_empty() {
        let seconds = base.rpc_timeout.map(u64::from);
        rpc::set_timeout(seconds.map_or(rpc::DEFAULT_TIMEOUT, Duration::from_secs));
    }
    let mut found = Vec::new();
    for endpoint in &base.rpc {
        let of_server = rpc::devices_of(endpoint);
        found.extend(of_server.map_err(|source| SessionError::Load { who: "base".to_owned(), source })?);
    }
    Ok(found)
}

/// An expert as the plan sees it; the last `n_remote` places are the servers' devices, which come first, as in the
/// engine.
fn request(
    name: &str,
    spec: &ExpertSpec,
    weight: f32,
    local: &[Device],
    n_remote: usize,
) -> Result<ExpertRequest, SessionError> {
    let fail = |e: crate::engine::gguf::GgufError| SessionError::Load { who: name.to_owned(), source: e.into() };
    let file = GgufFile::open_model(&spec.model).map_err(fail)?;
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
    let mut devices: Vec<usize> = (1 + local.len()..1 + local.len() + n_remote).collect();
    match &spec.device {
        Some(names) => {
            let place = |name: &str| local.iter().position(|d| d.name.eq_ignore_ascii_case(name.trim()));
            devices.extend(names.split(',').filter_map(place).map(|i| i + 1));
        }
        None if n_remote == 0 => devices.extend(1..=local.len()),
        None => {}
    }
    if spec.split_mode == SplitMode::None {
        devices = devices.into_iter().skip(spec.main_gpu as usize).take(1).collect();
    }
    Ok(ExpertRequest {
        name: name.to_owned(),
        parts: MemoryParts::of(&file),
        params: context_params(spec, &file),
        file: std::fs::canonicalize(&spec.model).unwrap_or_else(|_| spec.model.clone()),
        adapters: spec.lora.iter().map(|lora| size(&lora.path)).sum(),
        n_sequences: 1, // this, `shares_batch` and `is_arm` are set by `plan`
        shares_batch: false,
        layers: match spec.n_gpu_layers {
            GpuLayers::Auto => Layers::Auto,
            GpuLayers::All => Layers::Count(u32::MAX),
            GpuLayers::Count(n) => Layers::Count(n),
        },
        devices,
        tensor_split: spec.tensor_split.clone(),
        weight,
        is_arm: false,
    })
}
