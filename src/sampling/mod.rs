//! GenARM inside llama.cpp's sampler chains.
//!
//! ```text
//! logits -> genarm -> logit bias -> penalties -> dry -> top-n-sigma -> top-k -> typical -> top-p -> min-p -> xtc -> temp -> dist
//! ```
#![allow(unsafe_code)]

#[doc(hidden)]
pub mod abi;
mod chain;
mod dry;
mod error;
#[doc(hidden)]
pub mod grammar;
mod hook;
mod owned;
pub mod params;
mod sampler;
#[doc(hidden)]
pub mod vtable;

#[doc(hidden)]
pub use dry::Dry;
pub use error::ChainError;
pub use hook::{FailurePolicy, Hook, HookState};
pub(crate) use hook::{end_text, steer};
pub use sampler::Sampler;
