//! `genarm import`

use std::path::PathBuf;

use super::Usage;
use super::download::HubArgs;
use super::output::print;
use crate::engine::gguf::Value;
use crate::files::conflict;
use crate::train::export::Metadata;
use crate::train::import::{ImportSettings, import};

/// Turn a LoRA of Hugging Face's PEFT into an ARM
///
/// For adapters that were trained on a GPU, with TRL for example. Architectures: llama (Llama, Mistral, SmolLM2),
/// qwen2, qwen3, gemma3, phi3. The PBLoRA of a preference-conditioned ARM (PARM) is read, too.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder with adapter_config.json and adapter_model.safetensors
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// GGUF file, or the name, of the model that the adapter was trained on
    #[arg(long, value_name = "FILE")]
    backbone: PathBuf,
    /// GGUF file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Write 16-bit floats: half the size
    #[arg(long)]
    f16: bool,
    /// Scale of the reward, β_r of its training: rewards are β_r · Σ log π
    #[arg(long, value_name = "X")]
    beta_r: Option<f32>,
    /// Names of a PBLoRA's objectives, in the order of its preference vector (the PARM authors': harmless,helpful)
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    objectives: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Imports, and says what.
pub fn run(args: &Args) -> anyhow::Result<()> {
    if args.beta_r.is_some_and(|beta| !beta.is_finite() || beta <= 0.0) {
        return Err(Usage("--beta-r must be a positive number".into()).into());
    }
    let backbone = &HubArgs::default().file(&args.backbone)?;
    let files = ["adapter_config.json", "adapter_model.safetensors"].map(|name| args.folder.join(name));
    let inputs = [("the backbone", &**backbone), ("the adapter", &*files[0]), ("the adapter", &*files[1])];
    if let Some(message) = conflict(&[("--out", &args.out)], &inputs) {
        return Err(Usage(message).into());
    }
    let mut about = Metadata::new();
    about.extend(args.beta_r.map(|beta| ("genarm.beta".to_owned(), Value::F32(beta))));
    let settings = ImportSettings { f16: args.f16, objectives: args.objectives.clone(), about };
    let imported = import(&args.folder, backbone, &args.out, settings)?;
    if args.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&imported)?));
    }
    let (out, backbone) = (args.out.display(), args.backbone.display());
    let [least, most] = imported.ranks;
    let rank = if least == most { format!("rank {least}") } else { format!("ranks {least} to {most}") };
    let objectives = match imported.objectives.as_slice() {
        [] => String::new(),
        names => format!("objectives: {}\n", names.join(", ")),
    };
    print(&format!(
        "{out}: {} matrices of {rank}, {} parameters\n{objectives}steer with it:  genarm generate --base {backbone} --arm NAME={out} --weight NAME=1 \"…\"\n",
        imported.matrices, imported.parameters
    ))
}
