//! Steer GGUF language models token by token with autoregressive reward models (GenARM, ICLR 2025).
//!
//! A frozen base model proposes the next token. Autoregressive reward models (ARMs) with the same vocabulary add their
//! own next-token logits, each times a weight (the paper's section 4):
//!
//! ```text
//! p(v | x, y<t)  ∝  exp((base_logit(v) + Σ_i w_i · arm_logit_i(v)) / T)
//! ```
//!
//! A program that loads a base and its ARMs, sets a weight and writes a text:
//!
//! ```
//! use std::path::Path;
//!
//! use genarm::{Config, Flow, Overrides, Session};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::load(Some(Path::new("models/demo.yaml")), &Overrides::default())?;
//! let mut session = Session::open(config, &mut |_file, _share_read| true)?;
//! session.weights().set("cheerful", 1.0)?; // from any thread, also while a text is written
//!
//! let sampling = session.config().sampling.clone();
//! let mut sampler = session.sampler(&sampling)?;
//! let prompt = session.text_prompt("Once upon a time")?;
//! let written = session.generate(&mut sampler, &prompt, 16, &mut |_step| Flow::Continue)?;
//!
//! println!("{}", session.vocab().text(&written.tokens, false));
//! # assert!(!written.tokens.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # Where to read on
//!
//! 1. [`config`]: YAML and [`Overrides`] become one [`Config`].
//! 2. [`session`]: a [`Session`] is a configuration with its models open; it reads prompts and writes texts.
//! 3. [`guidance`]: the law itself, in pure Rust: [`Weights`], [`Guide`], [`Arm`](guidance::Arm).
//! 4. [`decode`]: the loop, and speculation in it, over the trait [`Expert`].
//! 5. [`sampling`]: llama.cpp's samplers, and the hook that puts guidance first in a chain.
//!
//! Without the default features the library has these alone; `server`, `train`, `eval` and `cli` add what the program
//! needs.
//!
//! `examples/generate.rs`, `examples/live_weights.rs` and `examples/custom_expert.rs` are whole programs. The
//! architecture, with a glossary, is in `docs/architecture.md`; the C API is `include/genarm.h`.

pub mod config;
pub mod decode;
pub mod expert;
#[cfg_attr(not(feature = "cli"), allow(dead_code))] // each feature uses some of it
mod files;
pub mod guidance;
#[cfg_attr(not(feature = "cli"), allow(dead_code))] // `genarm run` uses all of it
mod installed;
pub mod sampling;
pub mod session;

// The program and what serves it: used by the binary, the C library and the tests. No promise is made about them.
#[cfg(feature = "eval")]
#[doc(hidden)]
pub mod bench;
mod brief;
#[doc(hidden)]
pub mod capi;
#[cfg(any(feature = "train", feature = "eval"))]
mod chart;
#[doc(hidden)]
pub mod chat;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod deep;
mod dirichlet;
#[doc(hidden)]
pub mod duel;
#[doc(hidden)]
pub mod engine;
#[cfg(feature = "eval")]
#[doc(hidden)]
pub mod eval;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod hub;
mod logits_cache;
mod nearest;
#[doc(hidden)]
pub mod plugin;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod server;
#[doc(hidden)]
pub mod stores;
mod table_expert;
#[cfg(feature = "train")]
#[doc(hidden)]
pub mod train;

pub use config::{Config, Overrides};
pub use decode::{Finish, Flow, Step};
pub use expert::{Expert, ExpertError, Token};
pub use guidance::{Guide, Weights};
pub use session::{Prompt, Session};
pub use table_expert::TableExpert;
