//! Why a judge could not be asked.

/// Why a judge could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JudgeError {
    /// No such criterion.
    #[error(
        "nothing says what the judge \"{name}\" looks at; name it helpful or harmless, or add --criterion {name}=\"SENTENCE\""
    )]
    Criterion {
        /// The name given.
        name: String,
    },
    /// The endpoint does not answer.
    #[error("judge {url}: {reason}; is it an OpenAI-compatible API whose address ends with /v1?")]
    Unreachable {
        /// Its address.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The endpoint refuses.
    #[error("judge {url} answers {status}: {message}")]
    Status {
        /// Its address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What it says, cut short.
        message: String,
    },
}
