//! Layers that attend to a sliding window of tokens.

use crate::engine::gguf::{GgufFile, Value};

/// Architectures whose windows are known: of so many layers the last attends to all tokens, where the file says nothing
/// else (llama.cpp's `load_swa_pattern`). Of others, all layers are taken to keep all tokens.
const PERIODS: &[(&str, u64)] =
    &[("gemma2", 2), ("gemma3", 6), ("gemma3n", 5), ("gpt-oss", 2), ("cohere2", 4), ("olmo2", 4), ("gemma4", 1)];

/// The window of Gemma 2, whose files need not say it.
const GEMMA2: u64 = 4096;

/// Tokens of the window of each layer; 0 for a layer that attends to all.
pub(super) fn windows(file: &GgufFile, n_layer: usize) -> Vec<u64> {
    let period = PERIODS.iter().find(|(name, _)| Some(*name) == file.architecture()).map(|(_, period)| *period);
    let default = if file.architecture() == Some("gemma2") { GEMMA2 } else { 0 };
    let window = file.hparam_u64("attention.sliding_window").unwrap_or(default);
    let pattern = file.hparam("attention.sliding_window_pattern");
    let is_window = |layer: usize| match (pattern, period) {
        (_, None) => false,
        (Some(Value::Array(layers)), _) => layers.u64_at(layer).is_some_and(|is_window| is_window > 0),
        (given, Some(period)) => {
            // Without one, all layers have windows.
            let period = given.and_then(Value::as_u64).unwrap_or(period);
            period == 0 || layer as u64 % period < period - 1
        }
    };
    (0..n_layer).map(|layer| if is_window(layer) { window } else { 0 }).collect()
}
