//! Measuring what guidance does, and what it costs.

pub mod accuracy;
pub mod gold;
pub mod grid;
pub mod heatmap;
pub mod inflate;
pub mod judges;
pub mod noise;
pub mod pareto;
pub mod plots;
pub mod results;
pub mod scorers;
pub mod stats;
pub mod strategy;
pub mod sweep;
pub mod synthetic;
pub mod timing;
pub mod win_rate;
