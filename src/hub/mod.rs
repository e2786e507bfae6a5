//! The Hugging Face hub: downloads into the cache that Hugging Face's tools and llama.cpp share.
//!
//! A file is read into `blobs/ETAG.incomplete` under a lock, goes on where an earlier try ended, is compared with the
//! hub's SHA-256, and has its name only then. So what has a name in the cache is whole.

mod address;
mod client;
mod download;
mod error;
mod listing;
mod snapshot;
mod space;
mod token;

use std::path::PathBuf;

use serde::Serialize;

use client::Client;
use download::{Wanted, lock_path};
use listing::FileFacts;

pub use download::{Event, Watch};
pub use error::HubError;
pub use token::clean as clean_token;

use crate::nearest::suggestion;
use crate::stores::huggingface::{MAIN, RepoFolder, root};
use crate::stores::{NoFile, Pick, RepoName, Variables, choose, quants};

/// The hub where no variable names another.
const ENDPOINT: &str = "https://huggingface.co";

/// A hub, and the cache to download into.
pub struct Hub {
    client: Client,
    root: PathBuf,
}

/// A model that has been downloaded, or was there.
#[derive(Debug, Serialize)]
pub struct Pulled {
    /// What to type for it.
    pub name: String,
    /// The commit.
    pub commit: String,
    /// The file to open: the first part of a split model.
    pub path: PathBuf,
    /// All its files.
    pub files: Vec<PulledFile>,
}

/// One file of it.
#[derive(Debug, Serialize)]
pub struct PulledFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, where the hub says it.
    pub sha256: Option<String>,
    /// How many bytes came over the network now.
    pub downloaded: u64,
}

impl Hub {
    /// The hub and the cache that these variables name. `token` counts before theirs.
    ///
    /// # Errors
    ///
    /// [`HubError::NoCache`] and [`HubError::Endpoint`].
    pub fn of(variables: &Variables<'_>, token: Option<String>) -> Result<Self, HubError> {
        let endpoint = variables("MODEL_ENDPOINT").or_else(|| variables("HF_ENDPOINT"));
        let endpoint = endpoint.map_or_else(|| ENDPOINT.to_owned(), |value| value.to_string_lossy().into_owned());
        if !["https://", "http://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
            return Err(HubError::Endpoint { endpoint });
        }
        let client = Client::new(&endpoint, token.or_else(|| token::token(variables)));
        Ok(Self { client, root: root(variables).ok_or(HubError::NoCache)? })
    }

    /// Downloads the files of a model that are not there yet.
    ///
    /// # Errors
    ///
    /// [`HubError`]. What was read stays, and another call goes on from there.
    pub fn pull(&self, name: &RepoName, revision: &str, watch: &mut Watch<'_>) -> Result<Pulled, HubError> {
        let repo = &name.repo;
        let listing = self.client.list(repo, revision)?;
        let all: Vec<_> = listing.files.iter().map(String::as_str).filter(|file| is_within(file)).collect();
        let chosen = choose(&all, &name.pick).map_err(|none| self.none_chosen(name, &all, none))?;
        let at = listing.commit.as_deref().filter(|commit| is_commit(commit)).unwrap_or(revision);
        let facts = chosen.iter().map(|file| self.client.facts(repo, at, file)).collect::<Result<Vec<_>, _>>()?;
        let commit = self.commit(listing.commit.as_deref(), &facts, repo)?;
        let folder = RepoFolder::new(&self.root, repo);
        let mut downloaded = Vec::with_capacity(chosen.len());
        for (file, facts) in chosen.iter().zip(&facts) {
            let blob = folder.blob(&facts.etag);
            let lock = lock_path(&self.root, &RepoFolder::name(repo), &facts.etag);
            let wanted = Wanted { repo, revision: at, file, facts, blob: &blob, lock: &lock };
            downloaded.push(self.client.download(&wanted, watch)?);
        }
        // The names come last: a split model is there as a whole, or not at all.
        let mut files = Vec::with_capacity(chosen.len());
        for ((file, facts), downloaded) in chosen.iter().zip(&facts).zip(downloaded) {
            let path = snapshot::link(&folder, &commit, file, &facts.etag)?;
            let bytes = std::fs::metadata(&path).map_err(HubError::io(&path))?.len();
            files.push(PulledFile { path, bytes, sha256: facts.sha256().map(str::to_owned), downloaded });
        }
        snapshot::set_reference(&folder, revision, &commit)?;
        let path = files[0].path.clone();
        // A name alone means main's file.
        let name = if revision == MAIN { format!("hf:{name}") } else { path.display().to_string() };
        Ok(Pulled { name, commit, path, files })
    }

    /// The commit that the files are of: it names a folder.
    fn commit(&self, listed: Option<&str>, facts: &[FileFacts], repo: &str) -> Result<String, HubError> {
        let of_file = facts.iter().find_map(|facts| facts.commit.as_deref());
        let commit = listed.or(of_file).filter(|commit| is_commit(commit));
        commit.map(str::to_owned).ok_or_else(|| HubError::NotHub {
            url: format!("{}/{repo}", self.client.endpoint),
            what: "no commit".to_owned(),
        })
    }

    fn none_chosen(&self, name: &RepoName, files: &[&str], none: NoFile) -> HubError {
        let endpoint = self.client.endpoint.clone();
        let list = |quants: &[String]| quants.join(", ");
        let (what, advice) = match none {
            NoFile::Empty if files.iter().any(|file| file.ends_with(".safetensors")) => (
                format!("a GGUF of {}", name.repo),
                "; it holds safetensors: look for a repository of the same model whose name ends in GGUF".to_owned(),
            ),
            NoFile::Empty => (format!("a GGUF of {}", name.repo), String::new()),
            NoFile::Quant { there } => (format!("hf:{name}"), format!("; it has {}", list(&there))),
            NoFile::File { near: Some(near) } => {
                (format!("hf:{name}"), format!("; did you mean hf:{}/{near}?", name.repo))
            }
            NoFile::File { near: None } => {
                let wanted = match &name.pick {
                    Pick::File(file) => file.as_str(),
                    _ => "",
                };
                let there = quants(files);
                (format!("hf:{name}"), suggestion(wanted, there.iter().map(String::as_str)))
            }
            NoFile::Parts { missing } => {
                (format!("hf:{name} as a whole"), format!("; {missing} of its parts are missing"))
            }
        };
        HubError::NotFound { what, endpoint, advice }
    }
}

/// Whether downloads are forbidden by the environment.
pub fn is_offline(variables: &Variables<'_>) -> bool {
    let is_on = |name: &str| {
        variables(name).is_some_and(|value| {
            matches!(value.to_string_lossy().to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
        })
    };
    is_on("HF_HUB_OFFLINE") || is_on("LLAMA_ARG_OFFLINE")
}

/// Checks a branch, tag or commit that is typed.
///
/// # Errors
///
/// One line that says what is expected.
pub fn check_revision(revision: &str) -> Result<String, String> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.');
    match revision.len() <= 200 && revision.chars().all(is_known) && revision.split('/').all(is_part) {
        true => Ok(revision.to_owned()),
        false => Err(format!("expected a branch, a tag or a commit, such as main, got \"{revision}\"")),
    }
}

/// Whether a text can name a snapshot's folder.
fn is_commit(commit: &str) -> bool {
    (1..=64).contains(&commit.len()) && commit.chars().all(|c| c.is_ascii_alphanumeric())
}

/// Whether a path of a listing stays in its folder.
fn is_within(file: &str) -> bool {
    !file.contains(['\\', ':']) && file.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}
