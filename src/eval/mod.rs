//! Measuring what guidance does, and what it costs.

pub mod score;
pub mod synthetic;
pub mod timing;
