//! What a call answers, and why.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::config::{ConfigError, Problem};
use crate::guidance::WeightError;
use crate::plugin::{PluginError, StepError};
use crate::session::SessionError;

/// What a call answers. Numbers are never given a new meaning; later versions may add some.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum genarm_status {
    /// It is done.
    GENARM_OK = 0,
    /// A required argument is NULL.
    GENARM_NULL = 1,
    /// A handle or sampler was freed, or does not belong to genarm.
    GENARM_HANDLE = 2,
    /// A text is not UTF-8.
    GENARM_TEXT = 3,
    /// The configuration cannot be used.
    GENARM_CONFIG = 4,
    /// A model or an adapter cannot be loaded, or does not fit in memory.
    GENARM_MODEL = 5,
    /// Host and ARM have different vocabularies.
    GENARM_VOCABULARY = 6,
    /// No ARM or profile has this name.
    GENARM_NAME = 7,
    /// A number is not finite or out of range, or a list has the wrong length.
    GENARM_VALUE = 8,
    /// An ARM failed at this step; the context is full, for example.
    GENARM_STEP = 9,
    /// The host's llama.cpp lacks a function, or the system refused something.
    GENARM_HOST = 10,
    /// Internal error in genarm: the call had no effect; please report it
    GENARM_PANIC = 11,
}

/// A call that did nothing, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub status: genarm_status,
    pub text: String,
}

impl Failure {
    pub(super) fn new(status: genarm_status, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let status = match *error.problem {
            Problem::UnknownName { .. } if error.is_usage() => genarm_status::GENARM_NAME,
            _ => genarm_status::GENARM_CONFIG,
        };
        Self::new(status, error.to_string())
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let status = match error {
            SessionError::Vocabulary { .. } | SessionError::Untranslatable { .. } => genarm_status::GENARM_VOCABULARY,
            _ => genarm_status::GENARM_MODEL,
        };
        Self::new(status, error.to_string())
    }
}

impl From<PluginError> for Failure {
    fn from(error: PluginError) -> Self {
        match error {
            PluginError::Config(error) => error.into(),
            PluginError::Session(error) => (*error).into(),
        }
    }
}

impl From<WeightError> for Failure {
    fn from(error: WeightError) -> Self {
        let status = match error {
            WeightError::Unknown { .. } => genarm_status::GENARM_NAME,
            _ => genarm_status::GENARM_VALUE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
        let status = match error {
            StepError::Session(error) => return (*error).into(),
            StepError::Vocabulary { .. } => genarm_status::GENARM_VOCABULARY,
            _ => genarm_status::GENARM_STEP,
        };
        Self::new(status, error.to_string())
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Runs the body of a function: no panic crosses into C, and a failure is remembered for `genarm_last_error`.
pub(super) fn guard(body: impl FnOnce() -> Result<(), Failure>) -> genarm_status {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return genarm_status::GENARM_OK,
        Ok(Err(failure)) => failure,
        Err(_) => {
            Failure::new(genarm_status::GENARM_PANIC, "a defect in genarm: the call did nothing; please report it")
        }
    };
    // A thread that is ending may have no such variable any more; then nobody asks for it.
    let text = CString::new(failure.text.replace('\0', "\u{fffd}")).unwrap_or_default();
    let _ = LAST.try_with(|last| last.replace(text));
    failure.status
}

/// Why the last failed call of this thread failed, in one line; empty if none has. Valid until the next call of this
/// thread.
#[unsafe(no_mangle)]
pub extern "C" fn genarm_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}
