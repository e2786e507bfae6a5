//! `genarm models`

mod catalogue;
mod family;
mod recipe;
mod table;

use std::path::PathBuf;

use anyhow::bail;

use super::Usage;
use super::download::HubArgs;
use super::output::print;
use crate::files::same;
use crate::stores::{StoredModel, Stores, ggufs};
use catalogue::Catalogue;

/// List the models on this machine, and which of them can steer which
///
/// Models of the Hugging Face cache, of llama.cpp's older cache, of Ollama and of LM Studio, each by the name that
/// every command takes. Only headers are read, and nothing is downloaded.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// List the GGUFs below this folder too; repeatable
    #[arg(long = "dir", value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// Print a configuration with everything on this machine that can steer this base
    #[arg(long, value_name = "BASE", conflicts_with = "json")]
    pairs: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    hub: HubArgs,
}

/// Lists, or makes a configuration.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut models = Stores::here().list();
    for folder in &args.folders {
        if !folder.is_dir() {
            return Err(Usage(format!("--dir: {} is no folder", folder.display())).into());
        }
        models.extend(in_folder(folder));
    }
    let catalogue = Catalogue::read(models);
    if let Some(base) = &args.pairs {
        return pairs(args, catalogue, base);
    }
    if args.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&catalogue.all)?));
    }
    if catalogue.all.is_empty() {
        eprintln!("no models here; genarm pull hf:USER/REPO downloads one, and --dir FOLDER lists those of a folder");
        return Ok(());
    }
    print(&table::text(&catalogue))
}

/// The models of a folder; the later parts of a split model belong to the first.
fn in_folder(folder: &std::path::Path) -> Vec<StoredModel> {
    let files = ggufs(folder);
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    let stored = |files: Vec<&str>| {
        let paths: Vec<_> = files.iter().map(|file| folder.join(file)).collect();
        StoredModel { name: paths[0].display().to_string(), files: Ok(paths) }
    };
    crate::stores::models(&files).into_iter().map(stored).collect()
}

fn pairs(args: &Args, mut catalogue: Catalogue, base: &std::path::Path) -> anyhow::Result<()> {
    let path = args.hub.file(base)?;
    let at = |catalogue: &Catalogue| {
        catalogue.all.iter().position(|model| model.path.as_ref().is_some_and(|other| same(other, &path)))
    };
    if at(&catalogue).is_none() {
        catalogue.add_file(&base.display().to_string(), &path);
    }
    let Some(found) = at(&catalogue).map(|at| &catalogue.all[at]) else { bail!("cannot read {}", base.display()) };
    if let Some(problem) = &found.problem {
        bail!("{problem}");
    }
    if !found.is_model() {
        bail!("{} is no language model (it is of the kind {})", base.display(), found.kind.as_deref().unwrap_or("?"));
    }
    match recipe::recipe(&catalogue, found) {
        Some(text) => print(&text),
        None => bail!(
            "no adapter, no ARM and no tuned model on this machine can steer {}; genarm pull downloads models, \
             --dir FOLDER adds those of a folder, and a persona needs none (--persona NAME=TEXT)",
            base.display()
        ),
    }
}
