//! What guidance costs: models that are made up or inflated, measured times, and the noise that batching adds to
//! logits.

#[cfg(feature = "train")] // it computes with candle
pub mod inflate;
pub mod noise;
pub mod synthetic;
pub mod timing;
