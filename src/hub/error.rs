//! Why a download does not happen, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};

use super::address::shown;
use crate::brief::bytes;

/// Why a model cannot be downloaded. One line each.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Downloads are forbidden.
    #[error(
        "hf:{name} is not on this machine, and --offline (or HF_HUB_OFFLINE) forbids downloads; run genarm pull hf:{name} once"
    )]
    Offline {
        /// The name, without `hf:`.
        name: String,
    },
    /// There is no folder to download into.
    #[error("there is no folder to download into; set HF_HOME")]
    NoCache,
    /// The hub's address is none.
    #[error("HF_ENDPOINT is \"{}\"; write the whole address, as in https://huggingface.co", shown(endpoint))]
    Endpoint {
        /// What is set.
        endpoint: String,
    },
    /// The hub cannot be reached.
    #[error(
        "cannot reach {}: {reason}; HF_ENDPOINT names another hub, and --offline takes what is on this machine",
        shown(endpoint)
    )]
    Unreachable {
        /// The hub's address.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// The hub is busy, or fails.
    #[error("{} is busy: it answers {status}{}", shown(endpoint), of(message))]
    Busy {
        /// The hub's address.
        endpoint: String,
        /// The last status.
        status: u16,
        /// What it says, perhaps nothing.
        message: String,
    },
    /// The repository's terms have not been accepted.
    #[error(
        "{repo} is gated: accept the terms at {}/{repo}, then set HF_TOKEN to a token of that account",
        shown(endpoint)
    )]
    Gated {
        /// `USER/REPO`.
        repo: String,
        /// The hub's address.
        endpoint: String,
    },
    /// The hub wants a token, or another one.
    #[error("the hub refuses {repo} ({status}): {}", if *with_token { "the token is wrong, or may not read it; check HF_TOKEN" } else { "there is no such repository, or it is private; check the name, or set HF_TOKEN" })]
    Refused {
        /// `USER/REPO`.
        repo: String,
        /// 401 or 403.
        status: u16,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// There is no such repository, branch or file.
    #[error("{what} is not on {}{advice}", shown(endpoint))]
    NotFound {
        /// What was asked for.
        what: String,
        /// The hub's address.
        endpoint: String,
        /// What is there, ready to be appended.
        advice: String,
    },
    /// What answers is no hub.
    #[error("{} answers as no hub does ({what}); check HF_ENDPOINT, or a proxy that answers in its place", shown(url))]
    NotHub {
        /// What was asked for.
        url: String,
        /// How it answers.
        what: String,
    },
    /// Another status.
    #[error("{} answers {status}{}", shown(url), of(message))]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
        /// What it says, perhaps nothing.
        message: String,
    },
    /// The connection breaks again and again.
    #[error(
        "{file}: the connection breaks again and again ({reason}); run the same command again, it goes on at byte {done}"
    )]
    Cut {
        /// The file's path in the repository.
        file: String,
        /// What happened last.
        reason: String,
        /// How many bytes are there.
        done: u64,
    },
    /// The contents are not those that the hub promises.
    #[error(
        "{file} was damaged on its way: its {what} is {found}, and should be {expected}; it is removed, run the same command again"
    )]
    Damaged {
        /// The file's path in the repository.
        file: String,
        /// What was compared.
        what: &'static str,
        /// What it is.
        found: String,
        /// What the hub says.
        expected: String,
    },
    /// The disk has no room.
    #[error("{file} needs {} more, and {} has {} free; make room, or set HF_HUB_CACHE to a folder on another disk", bytes(*needed), folder.display(), bytes(*free))]
    Full {
        /// The file's path in the repository.
        file: String,
        /// Bytes that are still to come.
        needed: u64,
        /// Free bytes of the disk.
        free: u64,
        /// The folder.
        folder: PathBuf,
    },
    /// The caller ended it.
    #[error("interrupted; what was downloaded stays, and the same command goes on from there")]
    Interrupted,
    /// The system refuses to read or write.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl HubError {
    /// Adds the path to what the system says.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// A message in brackets, or nothing.
fn of(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_repeats_a_signature_or_a_password() {
        let secret = || "https://me:secret@hub/x?signature=secret".to_owned();
        let (endpoint, repo, message) = (secret, || "me/x".to_owned(), || "no".to_owned());
        for error in [
            HubError::Endpoint { endpoint: endpoint() },
            HubError::Unreachable { endpoint: endpoint(), reason: message() },
            HubError::Busy { endpoint: endpoint(), status: 503, message: message() },
            HubError::Gated { repo: repo(), endpoint: endpoint() },
            HubError::NotFound { what: repo(), endpoint: endpoint(), advice: String::new() },
            HubError::NotHub { url: secret(), what: message() },
            HubError::Status { url: secret(), status: 400, message: message() },
        ] {
            let line = error.to_string();
            assert!(line.contains("hub") && !line.contains("secret"), "{line}");
        }
    }
}
