//! The configuration's file, watched.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::Plugin;

/// Reloads a plugin when its file changes, until it is dropped.
pub struct Watch {
    _watcher: RecommendedWatcher,
}

/// Editors save in several steps; the last one counts.
const SETTLE: Duration = Duration::from_millis(50);

impl Watch {
    /// Watches the file that `plugin` was opened from. What cannot be read is logged, and the weights stay as they are.
    ///
    /// # Errors
    ///
    /// When the folder cannot be watched.
    pub fn start(plugin: &Arc<Plugin>, file: &Path) -> notify::Result<Self> {
        let (send, events) = channel();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the file is an event too, and ours.
            if event.as_ref().map_or(true, |event| !event.kind.is_access()) {
                let _ = send.send(());
            }
        })?;
        // A file that is replaced is another file; its folder is still the same.
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        let (plugin, file) = (Arc::downgrade(plugin), file.to_owned());
        let before = std::fs::read(&file).ok();
        std::thread::Builder::new()
            .name("genarm-watch".into())
            .spawn(move || follow(&plugin, &file, before, &events))
            .map_err(notify::Error::io)?;
        Ok(Self { _watcher: watcher })
    }
}

/// Ends when the watcher or the plugin has gone.
fn follow(plugin: &Weak<Plugin>, file: &PathBuf, mut before: Option<Vec<u8>>, events: &Receiver<()>) {
    while events.recv().is_ok() {
        while events.recv_timeout(SETTLE) != Err(RecvTimeoutError::Timeout) {
            if plugin.strong_count() == 0 {
                return;
            }
        }
        let Some(plugin) = plugin.upgrade() else { return };
        // Other files of the folder change as well; and between two steps of a save there may be no file.
        let now = std::fs::read(file).ok();
        if now.is_none() || now == before {
            continue;
        }
        before = now;
        if let Err(error) = plugin.reload() {
            tracing::warn!(%error, "the changed configuration has a mistake and is not used");
        }
    }
}
