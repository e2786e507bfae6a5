//! Measuring what guidance does.

pub mod accuracy;
pub mod gold;
pub mod grid;
pub mod heatmap;
pub mod judges;
pub mod pairs;
pub mod pareto;
pub mod plots;
pub mod results;
pub mod scorers;
pub mod stats;
pub mod strategy;
pub mod sweep;
pub mod win_rate;
