//! Steers GGUF language models token by token with autoregressive reward models (GenARM).
//!
//! A frozen base model proposes the next token; one or more autoregressive reward models (ARMs) of the
//! same vocabulary say, with their own next-token logits, what they prefer; weights say how much
//! each is heard (GenARM, ICLR 2025, section 4):
//!
//! ```text
//! p(v | x, y<t)  ∝  exp((base_logit(v) + Σ_i w_i · arm_logit_i(v)) / T)
//! ```

mod brief;
pub mod capi;
mod chart;
pub mod chat;
pub mod cli;
pub mod config;
pub mod decode;
pub mod engine;
pub mod eval;
pub mod expert;
mod files;
pub mod guidance;
mod nearest;
pub mod plugin;
mod rows;
pub mod sampling;
pub mod server;
pub mod session;
mod table_expert;
pub mod train;

pub use expert::{Expert, ExpertError, Token};
pub use table_expert::TableExpert;
