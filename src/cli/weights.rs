//! `genarm weights`

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::NamedTempFile;

use crate::config::{Config, ConfigError, Overrides, Problem, host_names, host_source, parse_weight, set_weights};

/// Show the weights of a configuration, or change them in the file
///
/// Comments and order of the file stay as they are. A tool under `genarm run` follows the change at its next token.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The YAML file
    file: Option<PathBuf>,
    /// The same as a flag
    #[arg(long, short = 'f', value_name = "FILE", global = true, env = "GENARM_CONFIG")]
    config: Option<PathBuf>,
    /// The model under `hosts:` whose weights are meant, as it is written there
    #[arg(long, value_name = "MODEL", global = true)]
    host: Option<String>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Change weights in the file
    Set {
        /// The ARMs and their new weights
        #[arg(required = true, value_name = "NAME=W", value_parser = parse_weight, allow_hyphen_values = true)]
        weights: Vec<(String, f32)>,
    },
}

/// Shows or sets weights.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let file = args.file.as_deref().or(args.config.as_deref());
    let file = file.ok_or_else(|| super::Usage("no configuration; give a FILE, as in genarm weights FILE".into()))?;
    let (file, overrides) = match &args.host {
        Some(host) => host_source(file, host, Path::new(host), &Overrides::default())?,
        None => (file.to_owned(), Overrides::default()),
    };
    match &args.action {
        None => show(&load(&file, &overrides)?),
        Some(Action::Set { weights }) => {
            load(&file, &overrides)?;
            rewrite(&file, |text| set_weights(text, &file, &overrides, weights))
        }
    }
}

/// A file for several models asks for one of them.
fn load(file: &Path, overrides: &Overrides) -> anyhow::Result<Config> {
    let fail = |error: ConfigError| match (&*error.problem, host_names(file)) {
        (Problem::NoBase(_), Ok(names)) if !names.is_empty() => {
            let names = names.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
            let problem = format!("{} has weights for each model; pass --host, one of: {names}", file.display());
            super::Usage(problem).into()
        }
        _ => anyhow::Error::from(error),
    };
    Config::load_unopened(file, overrides).map_err(fail)
}

fn show(config: &Config) -> anyhow::Result<()> {
    let named = config.weight_names().into_iter().zip(config.weights());
    let lines = named.map(|(name, weight)| format!("{name}={weight}\n"));
    super::output::print(&lines.collect::<String>())
}

/// Replaces a file by what `change` makes of its text: as a whole, or not at all.
pub(super) fn rewrite(file: &Path, change: impl FnOnce(&str) -> Result<String, ConfigError>) -> anyhow::Result<()> {
    // Through a link, so that the link stays and its file changes.
    let target = fs::canonicalize(file).with_context(|| file.display().to_string())?;
    let text = fs::read_to_string(&target).with_context(|| file.display().to_string())?;
    let text = change(&text)?;
    let folder = target.parent().unwrap_or(Path::new("."));
    let write = || {
        let mut new = NamedTempFile::new_in(folder)?;
        new.write_all(text.as_bytes())?;
        new.as_file().set_permissions(fs::metadata(&target)?.permissions())?;
        new.as_file().sync_all()?;
        new.persist(&target).map_err(|error| error.error)
    };
    write().with_context(|| format!("cannot write {}", file.display()))?;
    Ok(())
}
