//! Measuring what guidance does, and what it costs.

pub mod inflate;
pub mod synthetic;
pub mod timing;
