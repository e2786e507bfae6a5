//! `genarm --version`: what this binary is made of.

use crate::engine::llama::{Build, build, devices};

/// genarm's version on the first line, as scripts read it; then llama.cpp's, the backends, and the features of the
/// processor.
pub fn text() -> String {
    let Build { llama, ggml, features } = build();
    let found: Vec<_> = devices().iter().map(|device| format!("{} ({})", device.name, device.backend)).collect();
    // "CPU : SSE3 = 1 | AVX2 = 1 | …": what is there, without the numbers.
    let features: Vec<_> = features.split('|').map(str::trim).filter(|feature| !feature.is_empty()).collect();
    let features = features.join(", ").replace(" = 1", "");
    format!(
        "genarm {}\nllama.cpp {llama}, ggml {ggml}\ndevices: {}\nfeatures: {features}\n",
        env!("CARGO_PKG_VERSION"),
        found.join(", ")
    )
}
