//! What commands share that open models by name: a download with a progress bar where a model is not on this machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Usage;
use super::interrupts::Download;
use crate::config::{Config, ConfigError, Overrides};
use crate::hub::{Event, Hub, HubError, Pulled, clean_token, is_offline};
use crate::stores::huggingface::MAIN;
use crate::stores::{FindError, ModelName, RepoName, Stores, variable};

/// How models by name are downloaded.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct HubArgs {
    /// Download nothing: take models by name from this machine alone
    #[arg(long, help_heading = "Models")]
    pub offline: bool,
    /// Access token of the Hugging Face hub [default: HF_TOKEN, or the one that `hf auth login` keeps]
    #[arg(long, value_name = "TOKEN", value_parser = token, help_heading = "Models")]
    pub hf_token: Option<String>,
}

fn token(text: &str) -> Result<String, String> {
    clean_token(text).ok_or_else(|| "expected a token, such as hf_…".to_owned())
}

impl HubArgs {
    /// Whether downloads are forbidden.
    pub fn is_offline(&self) -> bool {
        self.offline || is_offline(&variable)
    }

    /// Resolves a configuration, and downloads what it names and this machine lacks.
    pub fn load(
        &self,
        file: Option<&Path>,
        overrides: &Overrides,
        explained: impl Fn(ConfigError) -> anyhow::Error,
    ) -> anyhow::Result<Config> {
        let mut pulled = Vec::new();
        loop {
            let error = match Config::load(file, overrides) {
                Ok(config) => return Ok(config),
                Err(error) => error,
            };
            match error.to_pull().map(str::to_owned).filter(|name| !self.is_offline() && !pulled.contains(name)) {
                Some(name) => {
                    self.pull_name(&name)?;
                    pulled.push(name);
                }
                None => return Err(explained(error)),
            }
        }
    }

    /// The file of a name, downloaded where this machine lacks it; a path as it is.
    pub fn file(&self, path: &Path) -> anyhow::Result<PathBuf> {
        match named(path)? {
            None => Ok(path.to_owned()),
            Some(name) => match (Stores::here().find(&name), &name) {
                (Err(FindError::NotHere { can_pull: true, .. }), ModelName::Hub(repo)) if !self.is_offline() => {
                    Ok(self.pull(repo, MAIN)?.path)
                }
                (found, _) => Ok(found?),
            },
        }
    }

    fn pull_name(&self, name: &str) -> anyhow::Result<()> {
        if let Some(Ok(ModelName::Hub(repo))) = ModelName::parse(name) {
            self.pull(&repo, MAIN)?;
        }
        Ok(())
    }

    /// Downloads a model, with a progress bar on stderr.
    pub fn pull(&self, name: &RepoName, revision: &str) -> anyhow::Result<Pulled> {
        let hub = Hub::of(&variable, self.hf_token.clone())?;
        let (mut shown, download) = (Shown::default(), Download::begin()?);
        let pulled = hub.pull(name, revision, &mut |event| {
            shown.take(event);
            !download.is_stopped()
        });
        shown.end();
        match pulled {
            Err(error @ HubError::Interrupted) => {
                eprintln!("{error}");
                Err(super::Interrupted.into())
            }
            pulled => Ok(pulled?),
        }
    }
}

/// What is typed in place of a file, if it is a name.
fn named(path: &Path) -> anyhow::Result<Option<ModelName>> {
    let name = path.to_str().and_then(ModelName::parse).transpose();
    name.map_err(|error| Usage(error.to_string()).into())
}

/// The file of a name on this machine; a path as it is.
pub fn find_file(path: &Path) -> anyhow::Result<PathBuf> {
    match named(path)? {
        None => Ok(path.to_owned()),
        Some(name) => Ok(Stores::here().find(&name)?),
    }
}

/// A bar on stderr, and lines where that is no terminal.
#[derive(Default)]
struct Shown {
    bar: Option<ProgressBar>,
    is_waiting: bool,
}

impl Shown {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Begin { file, size, done } => self.begin(file, size, done),
            Event::Done(done) => self.bar.iter().for_each(|bar| bar.set_position(done)),
            Event::Waiting if self.is_waiting => {}
            Event::Waiting => {
                self.is_waiting = true;
                eprintln!("another process downloads this file; waiting for it");
            }
            Event::Again(reason) => self.line(&format!("the connection broke ({reason}); going on")),
            Event::Checking => self.bar.iter().for_each(|bar| bar.set_message("checking the SHA-256 of")),
            Event::End => self.end(),
        }
    }

    fn begin(&mut self, file: &str, size: Option<u64>, done: u64) {
        self.end();
        let name = file.rsplit('/').next().unwrap_or(file);
        let bar = match size {
            Some(size) => ProgressBar::new(size)
                .with_style(style("{msg} {prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")),
            None => ProgressBar::no_length().with_style(style("{msg} {prefix} {bytes} {bytes_per_sec}")),
        };
        let bar = bar.with_message("downloading").with_prefix(name.to_owned()).with_position(done);
        bar.reset_eta();
        if bar.is_hidden() {
            let size = size.map(|size| format!(" ({})", HumanBytes(size))).unwrap_or_default();
            let from = if done > 0 { format!(", going on at {}", HumanBytes(done)) } else { String::new() };
            eprintln!("downloading {file}{size}{from}");
        } else {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        self.bar = Some(bar);
    }

    fn line(&self, text: &str) {
        match self.bar.as_ref().filter(|bar| !bar.is_hidden()) {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
