//! `genarm train`

use crate::train::settings::{Settings, Wire};
use crate::train::{TrainError, preview, train};
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::download::HubArgs;
use super::load::colours;
use super::output::print;
use crate::stores::ModelName;

/// Train an autoregressive reward model from preference pairs
///
/// Options override the recipe; the defaults are those of the GenARM paper.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// YAML file with any of the options below, `-` written as `_`; its paths are relative to it
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Print the first examples as they are read, with their tokens and which of them are scored; train and write
    /// nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    settings: Wire,
}

/// Trains and prints the outcome as one JSON object.
///
/// # Errors
///
/// A bad recipe, and whatever training meets.
pub fn run(args: Args) -> anyhow::Result<()> {
    let recipe = args.recipe.as_deref().map(read_recipe).transpose()?.unwrap_or_default();
    let mut wire = args.settings.or(recipe);
    if args.dry_run {
        // Nothing is written, so nothing need be named.
        wire.out = wire.out.or_else(|| Some("arm.gguf".into()));
    }
    for file in [&mut wire.backbone, &mut wire.init].into_iter().flatten() {
        *file = HubArgs::default().file(file)?;
    }
    let settings = Settings { recipe: args.recipe, ..Settings::try_from(wire)? };
    if args.dry_run {
        let coloured = colours(&std::io::stdout()) && std::env::var("TERM").is_ok_and(|term| term != "dumb");
        return print(&preview::preview(&settings, coloured)?);
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second signal ends the process at once.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    match train(&settings, &stop) {
        Ok(outcome) => print(&format!("{}\n", serde_json::to_string_pretty(&outcome)?)),
        Err(e @ TrainError::Interrupted { .. }) => {
            eprintln!("{e}");
            Err(super::Interrupted.into())
        }
        Err(e) => Err(e.into()),
    }
}

fn read_recipe(path: &Path) -> anyhow::Result<Wire> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut wire: Wire = serde_saphyr::from_str(text).with_context(|| path.display().to_string())?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let pairs = wire.pairs.iter_mut().flatten().map(|file| &mut file.path);
    for file in [&mut wire.backbone, &mut wire.out].into_iter().flatten().chain(pairs) {
        if !file.to_str().is_some_and(ModelName::is_name) {
            *file = folder.join(&*file);
        }
    }
    // A template is a name, or a file beside the recipe.
    if let Some(template) = &mut wire.template
        && folder.join(&*template).is_file()
    {
        *template = folder.join(&*template).to_string_lossy().into_owned();
    }
    Ok(wire)
}
