//! Why a model was not loaded.

use std::path::PathBuf;

use crate::engine::gguf::GgufError;

/// Why a model was not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file is not a sound model.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// llama.cpp refused it.
    #[error("{}: llama.cpp cannot load this model; run again with --verbose to see its reasons", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
    },
    /// The model cannot generate.
    #[error("{}: this model has no decoder that generates text; give a causal language model", path.display())]
    NoDecoder {
        /// The file.
        path: PathBuf,
    },
    /// No such device.
    #[error("there is no device \"{name}\"; there is {known}")]
    Device {
        /// The name asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// A server that cannot be used, or was lost while the weights were sent.
    #[error("RPC server {endpoint}: {reason}")]
    Server {
        /// Its `host:port`.
        endpoint: String,
        /// What happened.
        reason: String,
    },
    /// This program has no RPC.
    #[error("rpc: this build of genarm has no RPC; build it with --features rpc")]
    NoRpc,
    /// A path that C cannot take.
    #[error("{}: a path must not contain a NUL character", path.display())]
    Path {
        /// The path.
        path: PathBuf,
    },
}
