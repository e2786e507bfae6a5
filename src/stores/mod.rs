//! Models by name: where Hugging Face's tools, llama.cpp, Ollama and LM Studio keep models on this machine. Nothing
//! here uses the network.
//!
//! ```text
//! hf:USER/REPO[:QUANT]     hf:USER/REPO/FILE.gguf      the Hugging Face cache, and llama.cpp's older one
//! ollama:NAME[:TAG]                                    Ollama's manifests and blobs
//! lmstudio:PUBLISHER/MODEL[:QUANT]  …/FILE.gguf        LM Studio's folder
//! ```

mod choose;
mod environment;
mod error;
mod folder;
pub mod huggingface;
mod llama_cpp;
mod lmstudio;
mod name;
pub mod ollama;

use std::path::PathBuf;

pub use choose::{NoFile, choose, models, quants};
pub use environment::{Variables, variable};
pub use error::{CLOSED, FindError};
pub use folder::ggufs;
pub use name::{ModelName, Pick, RepoName};

/// Where models lie on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stores {
    /// The cache of the Hugging Face hub.
    pub huggingface: Option<PathBuf>,
    /// llama.cpp's cache before it shared that one.
    pub llama_cpp: Option<PathBuf>,
    /// Ollama's folders, the first that has a model counts.
    pub ollama: Vec<PathBuf>,
    /// LM Studio's folder of models.
    pub lmstudio: Option<PathBuf>,
}

/// A model of a store.
#[derive(Debug, Clone)]
pub struct StoredModel {
    /// What to type for it: a name, or the path where it has none.
    pub name: String,
    /// Its files, the first is the one to open; or why it has none.
    pub files: Result<Vec<PathBuf>, FindError>,
}

impl Stores {
    /// As these variables say.
    pub fn of(variables: &Variables<'_>) -> Self {
        Self {
            huggingface: huggingface::root(variables),
            llama_cpp: llama_cpp::root(variables),
            ollama: ollama::roots(variables),
            lmstudio: lmstudio::root(variables),
        }
    }

    /// As the variables of this process say.
    pub fn here() -> Self {
        Self::of(&variable)
    }

    /// The file that a name means: the first part of a split model.
    ///
    /// # Errors
    ///
    /// [`FindError`], with what to do.
    pub fn find(&self, name: &ModelName) -> Result<PathBuf, FindError> {
        match name {
            ModelName::Hub(repo) => {
                let shared = self.huggingface.as_ref().and_then(|root| huggingface::find(root, repo));
                let own = || self.llama_cpp.as_ref().and_then(|root| llama_cpp::find(root, repo));
                shared.or_else(own).ok_or_else(|| self.no_repo(repo))
            }
            ModelName::Ollama(name) => {
                let found = ollama::find(&self.ollama, name)?;
                if !found.adapters.is_empty() {
                    tracing::warn!("ollama:{name} has an adapter, which is left out; `lora:` takes its file");
                }
                Ok(found.model)
            }
            ModelName::LmStudio(repo) => {
                let found = self.lmstudio.as_ref().and_then(|root| lmstudio::find(root, repo));
                found.ok_or_else(|| FindError::NotHere {
                    name: name.to_string(),
                    advice: "download it in LM Studio, or see genarm models".to_owned(),
                    can_pull: false,
                })
            }
        }
    }

    fn no_repo(&self, name: &RepoName) -> FindError {
        let there = self.huggingface.as_ref().map(|root| huggingface::list_repo(root, &name.repo)).unwrap_or_default();
        let there = there.iter().map(|(other, _)| format!("hf:{other}")).collect::<Vec<_>>().join(", ");
        let others = if there.is_empty() { String::new() } else { format!("it has {there}; ") };
        let advice = format!("{others}run genarm pull hf:{name}");
        FindError::NotHere { name: format!("hf:{name}"), advice, can_pull: true }
    }

    /// All models of all stores.
    pub fn list(&self) -> Vec<StoredModel> {
        let of_repo = |store: &'static str| {
            move |(name, files): (RepoName, Vec<PathBuf>)| StoredModel {
                name: format!("{store}:{name}"),
                files: Ok(files),
            }
        };
        let mut all = Vec::new();
        all.extend(self.huggingface.iter().flat_map(|root| huggingface::list(root)).map(of_repo("hf")));
        all.extend(self.llama_cpp.iter().flat_map(|root| llama_cpp::list(root)).map(|(name, files)| StoredModel {
            name: name.map_or_else(|| files[0].display().to_string(), |name| format!("hf:{name}")),
            files: Ok(files),
        }));
        all.extend(ollama::list(&self.ollama).into_iter().map(|(name, files)| StoredModel {
            name: format!("ollama:{name}"),
            files: files.map(|files| vec![files.model]),
        }));
        all.extend(self.lmstudio.iter().flat_map(|root| lmstudio::list(root)).map(of_repo("lmstudio")));
        all
    }
}
