//! `genarm devices`

use std::fmt::Write as _;

use indicatif::HumanBytes;

use super::load::endpoint;
use crate::engine::llama::{Device, devices, rpc};

/// List the devices that models can run on
///
/// Their names are what --device takes. Layers go to GPUs; what is on no GPU is computed by the CPU.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ask this ggml RPC server instead of this machine; repeatable
    #[arg(long, value_name = "HOST:PORT", value_parser = endpoint)]
    rpc: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the devices.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let found = match args.rpc.is_empty() {
        true => devices(),
        false => {
            let each = args.rpc.iter().map(|endpoint| rpc::devices_of(endpoint)).collect::<Result<Vec<_>, _>>()?;
            each.into_iter().flatten().collect()
        }
    };
    let text = if args.json { serde_json::to_string_pretty(&found)? + "\n" } else { table(&found) };
    super::output::print(&text)
}

fn table(devices: &[Device]) -> String {
    let mut out = String::new();
    let width = devices.iter().map(|d| d.name.len()).max().unwrap_or(0);
    for device in devices {
        let memory = match device.memory_total {
            0 => "memory unknown".to_owned(),
            total => format!("{} free of {}", HumanBytes(device.memory_free), HumanBytes(total)),
        };
        let kind = format!("{:?}", device.kind).to_lowercase();
        let Device { name, backend, description, .. } = device;
        let _ = writeln!(out, "{name:<width$}  {kind:<11}  {backend:<8}  {memory:<28}  {description}");
    }
    out
}
