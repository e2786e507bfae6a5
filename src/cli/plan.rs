//! `genarm inspect --plan`

use std::fmt::Write as _;
use std::path::PathBuf;

use indicatif::HumanBytes;
use serde::Serialize;

use super::Usage;
use super::load::ConfigArgs;
use crate::config::{ArmSpec, Config, ExpertSpec, LoraSpec};
use crate::engine::gguf::{GgufFile, ModelKind};
use crate::engine::memory::{MemoryNeed, Placement};
use crate::files::model_name;
use crate::session::{MemoryPlan, plan};

#[derive(Serialize)]
struct Output<'a> {
    fits: bool,
    #[serde(flatten)]
    plan: &'a Placement,
    changes: Vec<&'a str>,
}

/// Prints where the experts of `files`, or of the configuration, would go.
pub(super) fn run(files: &[PathBuf], args: &ConfigArgs, json: bool) -> anyhow::Result<()> {
    let config = config(files, args)?;
    let planned = plan(&config, 1)?;
    let text = if json {
        let changes = planned.changes.iter().map(|change| change.text.as_str()).collect();
        let output = Output { fits: planned.plan.shortage().is_none(), plan: &planned.plan, changes };
        serde_json::to_string_pretty(&output)? + "\n"
    } else {
        table(&planned)
    };
    super::output::print(&text)
}

/// The configuration, or one made of files: the base, then ARMs.
fn config(files: &[PathBuf], args: &ConfigArgs) -> anyhow::Result<Config> {
    let Some((base, arms)) = files.split_first() else { return args.resolve() };
    if args.names_models() {
        return Err(Usage("give GGUF files, or --config or --base, not both".into()).into());
    }
    let mut overrides = args.overrides.clone();
    overrides.base = Some(base.clone());
    let mut config = Config::load(None, &overrides)?;
    for file in arms {
        let adapter = GgufFile::open(file)?.kind() == ModelKind::Adapter;
        let mut spec = ExpertSpec::new(file.clone(), Vec::new(), &overrides.engine);
        if adapter {
            let lora = vec![LoraSpec { path: file.clone(), scale: 1.0 }];
            spec = ExpertSpec { lora, ..config.base.clone() };
        }
        config.arms.push(ArmSpec::new(model_name(file), spec, 1.0));
    }
    Ok(config)
}

fn table(planned: &MemoryPlan) -> String {
    let MemoryPlan { plan, changes } = planned;
    let mut out = String::new();
    let words = |n: u64| HumanBytes(n).to_string();
    let parts = |need: &MemoryNeed| {
        let (weights, kv, compute) = (words(need.weights), words(need.kv), words(need.compute));
        format!("weights {weights}, context {kv}, buffers {compute}")
    };
    for expert in &plan.experts {
        let shared = match (expert.shares_weights, expert.shares_context) {
            (_, true) => ", as rows of a batch that is there",
            (true, false) => ", on weights that are there",
            (false, false) => "",
        };
        let layers = match plan.devices.len() {
            1 => String::new(),
            _ => format!(": {} of {} layers on devices", expert.n_gpu_layers, expert.n_layers),
        };
        let _ = writeln!(out, "{}{layers}{shared}", expert.name);
        for (device, need) in plan.devices.iter().zip(&expert.needs).filter(|(_, need)| need.total() > 0) {
            let _ = writeln!(out, "  {:<14} {}", device.name, parts(need));
        }
    }
    let _ = writeln!(out, "together");
    for (i, device) in plan.devices.iter().enumerate() {
        let (need, verdict) = (plan.need(i), if plan.need(i).total() <= device.free { "fits" } else { "does not fit" });
        let (total, free) = (words(need.total()), words(device.free));
        let _ = writeln!(out, "  {:<14} {total} of {free} that are free: {verdict}", device.name);
    }
    if plan.shortage().is_some() {
        let _ = writeln!(out, "each of these would make it fit");
        for change in changes {
            let _ = writeln!(out, "  {}", change.text);
        }
        if changes.is_empty() {
            let _ = writeln!(out, "  nothing but smaller models");
        }
    }
    out
}
