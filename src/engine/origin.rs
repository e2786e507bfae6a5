//! The files and settings that a sequence's memory depends on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::SystemTime;

use super::gguf::GgufFile;
use super::llama::{ContextParams, Model};
use super::stack::Scaled;
use crate::expert::{Origin, StateError};

/// The files of one expert as they were when it was loaded, and its settings.
#[derive(Debug)]
pub(super) struct OriginFiles {
    model: Arc<Model>,
    parts: Vec<Stamp>,
    adapters: Vec<(Stamp, f32)>,
    settings: Vec<(String, String)>,
}

/// A file as it was at some time. One that changed since has another size or time, as a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Stamp {
    path: PathBuf,
    size: u64,
    changed: Option<SystemTime>,
}

/// Fingerprints that were computed before: experts share files.
static KNOWN: LazyLock<Mutex<HashMap<Stamp, String>>> = LazyLock::new(Mutex::default);

impl OriginFiles {
    /// `rope_factors` are those of the context, where the model has several.
    pub(super) fn new(
        model: &Arc<Model>,
        adapters: &[Scaled<'_>],
        params: &ContextParams,
        rope_factors: Option<String>,
    ) -> Self {
        let lower = |name: &str, value: &dyn std::fmt::Debug| (name.to_owned(), format!("{value:?}").to_lowercase());
        let mut settings = vec![
            lower("cache-type-k", &params.type_k),
            lower("cache-type-v", &params.type_v),
            lower("flash-attn", &params.flash_attention),
        ];
        settings.extend(rope_factors.map(|n_ctx| ("n-ctx".to_owned(), n_ctx)));
        Self {
            model: Arc::clone(model),
            parts: model.file().paths().iter().map(|path| Stamp::of(path)).collect(),
            adapters: adapters.iter().map(|(path, scale)| (Stamp::of(path), *scale)).collect(),
            settings,
        }
    }

    /// The fingerprints of the files, which must be those that were loaded.
    pub(super) fn origin(&self) -> Result<Origin, StateError> {
        self.parts.iter().try_for_each(Stamp::check)?;
        let model = match self.parts.first() {
            Some(stamp) => stamp.fingerprint(|| self.model.file().fingerprint())?,
            None => String::new(),
        };
        let adapter = |(stamp, scale): &(Stamp, f32)| {
            stamp.check()?;
            let open = || GgufFile::open_adapter(&stamp.path).map_err(std::io::Error::other)?.fingerprint();
            Ok((stamp.fingerprint(open)?, *scale))
        };
        let adapters = self.adapters.iter().map(adapter).collect::<Result<_, StateError>>()?;
        Ok(Origin { model, adapters, settings: self.settings.clone() })
    }
}

impl Stamp {
    fn of(path: &Path) -> Self {
        let found = std::fs::metadata(path).ok();
        let size = found.as_ref().map_or(0, std::fs::Metadata::len);
        Self { path: path.to_owned(), size, changed: found.and_then(|found| found.modified().ok()) }
    }

    /// Refuses a file that has changed: what is in memory was not computed with it.
    fn check(&self) -> Result<(), StateError> {
        let unchanged = Self::of(&self.path) == *self;
        unchanged.then_some(()).ok_or_else(|| StateError::Changed { file: self.path.display().to_string() })
    }

    fn fingerprint(&self, compute: impl FnOnce() -> std::io::Result<String>) -> Result<String, StateError> {
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known().get(self) {
            return Ok(found.clone());
        }
        let fail = |error: std::io::Error| StateError::Read {
            file: self.path.display().to_string(),
            reason: error.to_string(),
        };
        let computed = compute().map_err(fail)?;
        known().insert(self.clone(), computed.clone());
        Ok(computed)
    }
}
