//! `genarm quantize`

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::HumanBytes;
use serde::Serialize;

use super::Usage;
use super::download::HubArgs;
use super::load::{catch_interrupts, progress};
use super::output::print;
use crate::config::parse_threads;
use crate::engine::gguf::{GgufFile, TensorInfo};
use crate::engine::llama::{exit_now, interrupt_flag};
use crate::engine::quantize::{FileType, quantize};
use crate::engine::threads::n_cores;
use crate::files::{conflict, write_whole};

/// Write a model in another type
///
/// llama.cpp does the work, as in llama-quantize. genarm inspect says which type is fast on this machine. Ctrl-C leaves
/// no file behind.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// GGUF file, or the name, of a model: in F32, F16 or BF16, as a rule. Of a split model the first file; the result
    /// is one file
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// GGUF file to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Type, as llama-quantize names it: Q4_0, Q4_K_M, Q8_0, F16, …
    #[arg(value_name = "TYPE")]
    file_type: FileType,
    /// Take a model that is quantised already, and lose quality twice
    #[arg(long)]
    allow_requantize: bool,
    /// Threads, -1 for all that the hardware has [default: the physical cores]
    #[arg(long, short, value_name = "N", value_parser = parse_threads, allow_negative_numbers = true)]
    threads: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

#[derive(Serialize)]
struct Sizes {
    path: PathBuf,
    quantisation: Option<&'static str>,
    bytes: u64,
    bits_per_weight: f64,
}

impl Sizes {
    fn of(file: &GgufFile, path: &Path) -> Self {
        let bits_per_weight = 8.0 * file.n_tensor_bytes() as f64 / file.n_params() as f64;
        Self { path: path.to_owned(), quantisation: file.file_type(), bytes: file.n_tensor_bytes(), bits_per_weight }
    }

    fn shown(&self) -> String {
        let Self { quantisation, bytes, bits_per_weight, .. } = self;
        format!("{}, {}, {bits_per_weight:.2} bits per weight", quantisation.unwrap_or("?"), HumanBytes(*bytes))
    }
}

/// Quantises, and prints the sizes.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let input = args.hub.file(&args.input)?;
    let file = GgufFile::open_model(&input)?;
    let parts = file.paths();
    let inputs: Vec<_> = parts.iter().map(|part| ("IN", &**part)).collect();
    if let Some(message) = conflict(&[("OUT", &args.output)], &inputs) {
        return Err(Usage(message).into());
    }
    if args.output.exists() && !args.output.is_file() {
        return Err(Usage(format!("OUT: {} is no file; name a GGUF file to write", args.output.display())).into());
    }
    let is_quantised = file.all_tensors().any(|tensor: &TensorInfo| tensor.ty.is_quantised());
    if is_quantised && !args.allow_requantize {
        let (name, ty) = (input.display(), file.file_type().unwrap_or("?"));
        bail!(
            "{name} is quantised already ({ty}): take the model in F16, BF16 or F32, or accept the loss with --allow-requantize"
        );
    }
    catch_interrupts()?;
    let out = args.output.display().to_string();
    write_whole(&args.output, |temporary| write(args, &file, temporary)).context(out)?;
    let (from, to) = (Sizes::of(&file, &input), Sizes::of(&GgufFile::open_model(&args.output)?, &args.output));
    if args.json {
        let both = serde_json::json!({ "from": from, "to": to });
        return print(&format!("{}\n", serde_json::to_string_pretty(&both)?));
    }
    print(&format!("{}: {} (before: {})\n", to.path.display(), to.shown(), from.shown()))
}

/// Quantises beside a progress bar. llama.cpp cannot be stopped: Ctrl-C removes the file and ends the process.
fn write(args: &Args, file: &GgufFile, output: &Path) -> anyhow::Result<()> {
    let n_threads = args.threads.unwrap_or_else(n_cores);
    let bytes = (file.n_params() as f64 * args.file_type.bits() / 8.0) as u64;
    let bar = progress(&format!("writing {}", args.file_type), bytes);
    let flag = interrupt_flag();
    let result = std::thread::scope(|scope| {
        let worker = scope.spawn(|| quantize(file.path(), output, args.file_type, n_threads));
        while !worker.is_finished() {
            if flag.load(Ordering::Relaxed) {
                bar.finish_and_clear();
                // What cannot be removed stays as it would have anyway.
                let _ = std::fs::remove_file(output);
                exit_now(130);
            }
            bar.set_position(std::fs::metadata(output).map_or(0, |written| written.len().min(bytes)));
            std::thread::sleep(Duration::from_millis(20));
        }
        worker.join()
    });
    bar.finish_and_clear();
    Ok(result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
}
