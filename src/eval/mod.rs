//! Measuring what guidance does, and what it costs.

pub mod gold;
pub mod score;
pub mod stats;
pub mod studio;
pub mod synthetic;
pub mod timing;
