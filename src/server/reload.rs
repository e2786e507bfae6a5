//! New weights, profiles and sampling from the configuration file, while texts are being generated.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use notify_debouncer_mini::notify::{RecommendedWatcher, RecursiveMode};
use notify_debouncer_mini::{DebounceEventResult, Debouncer, new_debouncer};
use tokio::sync::Notify;

use super::metrics::Reload;
use super::state::Server;
use crate::config::Config;

/// An editor writes a file in several strokes; it is read after this much quiet.
const QUIET: Duration = Duration::from_millis(200);

/// Watches the configuration file.
pub struct Watcher {
    saved: Arc<Notify>,
    _debouncer: Option<Debouncer<RecommendedWatcher>>,
}

impl Watcher {
    /// Watches the folder of the server's file, because editors replace files rather than write into them.
    ///
    /// # Errors
    ///
    /// When the folder cannot be watched.
    pub fn new(server: &Server) -> anyhow::Result<Self> {
        let saved = Arc::new(Notify::new());
        let Some(path) = server.defaults().path.clone() else { return Ok(Self { saved, _debouncer: None }) };
        let path = std::fs::canonicalize(&path).with_context(|| path.display().to_string())?;
        let name: OsString = path.file_name().unwrap_or_default().to_owned();
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let tell = Arc::clone(&saved);
        let handler = move |events: DebounceEventResult| {
            if events.is_ok_and(|events| events.iter().any(|event| event.path.file_name() == Some(&name))) {
                tell.notify_one();
            }
        };
        let mut debouncer = new_debouncer(QUIET, handler)?;
        debouncer.watcher().watch(&folder, RecursiveMode::NonRecursive)?;
        Ok(Self { saved, _debouncer: Some(debouncer) })
    }

    /// Resolves when the file has been saved.
    pub async fn changed(&self) {
        self.saved.notified().await;
    }
}

/// Takes weights, profiles and sampling from the file. What cannot be read changes nothing.
pub fn reload(server: &Server) {
    let result = match read(server) {
        Ok(()) => "ok",
        Err(error) => {
            tracing::error!("the configuration is kept as it was: {error:#}");
            "failed"
        }
    };
    server.metrics.reloads.get_or_create(&Reload { result }).inc();
}

fn read(server: &Server) -> anyhow::Result<()> {
    let now = server.defaults();
    let Some(path) = now.path.as_deref() else { anyhow::bail!("there is no file to read, only a command line") };
    let new = Config::load(Some(path), &server.overrides)?;
    let names = |config: &Config| config.arms.iter().map(|arm| arm.name.clone()).collect::<Vec<_>>();
    anyhow::ensure!(
        names(&new) == names(&now),
        "it names other ARMs than those that are loaded ({}); restart to load them",
        names(&now).join(", ")
    );
    let models = |config: &Config| {
        let arms = config.arms.iter().map(|arm| (arm.spec.clone(), arm.template.clone())).collect::<Vec<_>>();
        (config.base.clone(), config.prompt.clone(), arms)
    };
    if models(&new) != models(&now) {
        tracing::warn!("models, contexts and templates stay as they were loaded; restart to change them");
    }
    let arms = now.arms.iter().zip(&new.arms).map(|(now, new)| crate::config::ArmSpec {
        weight: new.weight,
        default_weight: new.default_weight,
        beta_r: new.beta_r,
        ..now.clone()
    });
    let arms = arms.collect();
    server.set_defaults(Config { arms, profiles: new.profiles, sampling: new.sampling, ..Config::clone(&now) });
    tracing::info!(file = %path.display(), "took over weights, profiles and sampling");
    Ok(())
}
