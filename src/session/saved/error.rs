//! Why caches are not saved or restored.

use std::io;

use super::VERSION;
use crate::expert::StateError;

/// Why caches are not saved or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CachesError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is something else.
    #[error("this is not a file of saved caches")]
    Foreign,
    /// The file is of another version of the format.
    #[error("its format is version {found}, and this genarm reads version {VERSION}")]
    Version {
        /// The file's version.
        found: u32,
    },
    /// The file is not as it was written.
    #[error("the file is damaged: {0}")]
    Damaged(String),
    /// Another llama.cpp has computed them.
    #[error("llama.cpp {saved} has made it, and this is {here}")]
    Llama {
        /// The version that saved.
        saved: String,
        /// The version that runs.
        here: String,
    },
    /// A model is loaded that has no cache there.
    #[error("it has no cache of {who}")]
    Missing {
        /// "the base", `ARM "name"`, or a drafter.
        who: String,
    },
    /// There is a cache of a model that is not loaded.
    #[error("it has a cache of {}, which is not loaded here", crate::brief::Short(who))]
    Extra {
        /// As above.
        who: String,
    },
    /// A model's file is another one.
    #[error("{who} is another model than the one that it was saved with")]
    Model {
        /// As above.
        who: String,
    },
    /// A model's adapters are others.
    #[error("{who} has another adapter than the one that it was saved with")]
    Adapter {
        /// As above.
        who: String,
    },
    /// A setting of a model's context is another.
    #[error("{who} was saved under --{name} {}, and runs under {here}", crate::brief::Short(saved))]
    Setting {
        /// As above.
        who: String,
        /// The setting's name.
        name: String,
        /// Its value in the file.
        saved: String,
        /// Its value here.
        here: String,
    },
    /// A model's cache cannot be saved, or not be taken over.
    #[error("{who}: {source}")]
    State {
        /// As above.
        who: String,
        /// Why.
        source: StateError,
    },
}
