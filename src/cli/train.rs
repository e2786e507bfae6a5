//! `genarm train`

use crate::train::settings::{Settings, Wire};
use crate::train::{TrainError, train};
use anyhow::Context;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Train an autoregressive reward model from preference pairs
///
/// Options override the recipe; what neither says takes the value of the GenARM paper.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// YAML file with any of the options below, `-` written as `_`; its paths are relative to it
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
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
    let settings = Settings::try_from(args.settings.or(recipe))?;
    let stop = Arc::new(AtomicBool::new(false));
    // The second Ctrl-C ends the process at once.
    signal_hook::flag::register_conditional_shutdown(signal_hook::consts::SIGINT, 130, Arc::clone(&stop))?;
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stop))?;
    match train(&settings, &stop) {
        Ok(outcome) => {
            println!("{}", serde_json::to_string_pretty(&outcome)?);
            Ok(())
        }
        Err(e @ TrainError::Interrupted { .. }) => {
            eprintln!("{e}");
            std::process::exit(130)
        }
        Err(e) => Err(e.into()),
    }
}

fn read_recipe(path: &std::path::Path) -> anyhow::Result<Wire> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut wire: Wire = serde_saphyr::from_str(&text).with_context(|| path.display().to_string())?;
    let folder = path.parent().unwrap_or(std::path::Path::new(""));
    for file in [&mut wire.backbone, &mut wire.pairs, &mut wire.out].into_iter().flatten() {
        *file = folder.join(&*file);
    }
    Ok(wire)
}
