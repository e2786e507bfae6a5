//! New weights, profiles and sampling from the configuration file, while texts are being generated.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify_debouncer_mini::notify::{RecommendedWatcher, RecursiveMode};
use notify_debouncer_mini::{DebounceEventResult, Debouncer, new_debouncer};
use tokio::sync::Notify;

use super::metrics::Reload;
use super::state::Server;
use crate::config::{Config, GuidanceSpec};

/// An editor writes a file in several strokes; it is read after this much quiet.
const QUIET: Duration = Duration::from_millis(200);

/// Watches the configuration file.
pub struct Watcher {
    saved: Arc<Notify>,
    _debouncer: Option<Debouncer<RecommendedWatcher>>,
}

impl Watcher {
    /// Watches the folder of the server's file, because editors replace files rather than write into them. Where that
    /// cannot be watched, SIGHUP is left.
    pub fn new(server: &Server) -> Self {
        let saved = Arc::new(Notify::new());
        let path = server.defaults().path.clone();
        let debouncer = path.and_then(|path| {
            let watched = watch(&path, Arc::clone(&saved));
            watched.inspect_err(|error| tracing::warn!("saving {} will not be noticed: {error:#}", path.display())).ok()
        });
        Self { saved, _debouncer: debouncer }
    }

    /// Resolves when the file has been saved.
    pub async fn changed(&self) {
        self.saved.notified().await;
    }
}

fn watch(path: &Path, saved: Arc<Notify>) -> anyhow::Result<Debouncer<RecommendedWatcher>> {
    let path = std::fs::canonicalize(path)?;
    let name: OsString = path.file_name().unwrap_or_default().to_owned();
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    // Reading a file is an event too: only another length or time means that it was saved.
    let stamp = move || std::fs::metadata(&path).and_then(|file| Ok((file.modified()?, file.len()))).ok();
    let mut last = stamp();
    let handler = move |events: DebounceEventResult| {
        if events.is_ok_and(|events| events.iter().any(|event| event.path.file_name() == Some(&name))) {
            let now = stamp();
            if now.is_some() && std::mem::replace(&mut last, now) != now {
                saved.notify_one();
            }
        }
    };
    let mut debouncer = new_debouncer(QUIET, handler)?;
    debouncer.watcher().watch(&folder, RecursiveMode::NonRecursive)?;
    Ok(debouncer)
}

/// Takes weights, profiles and sampling from the file. What cannot be read changes nothing.
pub fn reload(server: &Server) {
    let count = |result| {
        server.metrics.reloads.get_or_create(&Reload { result }).inc();
    };
    match read(server) {
        Ok((config, path)) => {
            server.set_defaults_and(config, || count("ok"));
            tracing::info!(file = %path.display(), "reloaded weights, profiles and sampling");
        }
        Err(error) => {
            count("failed");
            tracing::error!("the configuration is kept as it was: {error:#}");
        }
    }
}

/// The new defaults, and the file that they come from.
fn read(server: &Server) -> anyhow::Result<(Config, PathBuf)> {
    let now = server.defaults();
    let Some(path) = now.path.as_deref() else {
        anyhow::bail!("the server was started without --config, so there is no file to reload")
    };
    let new = Config::load(Some(path), &server.overrides)?;
    anyhow::ensure!(
        new.weight_names() == now.weight_names(),
        "it names other ARMs than those that are loaded ({}); restart to load them",
        now.weight_names().join(", ")
    );
    let models = |config: &Config| {
        let arms = config
            .arms
            .iter()
            .map(|arm| (arm.spec.clone(), arm.reading.clone(), arm.reference.clone()))
            .collect::<Vec<_>>();
        let opened = (config.guidance.gate, config.on_error, config.speculate.clone(), config.share_batch);
        (config.base.clone(), config.prompt.clone(), arms, opened)
    };
    if models(&new) != models(&now) {
        tracing::warn!("models and how they are run stay as they were loaded; restart to change them");
    }
    let arms = now.arms.iter().zip(&new.arms).map(|(now, new)| crate::config::ArmSpec {
        weight: new.weight,
        default_weight: new.default_weight,
        preferences: new.preferences.clone(),
        beta_r: new.beta_r,
        range: new.range,
        ..now.clone()
    });
    let arms = arms.collect();
    let guidance = GuidanceSpec { limits: new.guidance.limits, ..now.guidance };
    let config = Config { arms, profiles: new.profiles, sampling: new.sampling, guidance, ..Config::clone(&now) };
    Ok((config, path.to_owned()))
}
