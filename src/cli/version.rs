//! `genarm --version`, and with `-v` what this binary is made of.

use crate::engine::llama::{Build, build, devices};

/// genarm's version, as scripts read it; where more is asked for, then llama.cpp's, the backends, and the features of
/// the processor.
pub fn text(verbose: bool) -> String {
    let own = format!("genarm {}\n", env!("CARGO_PKG_VERSION"));
    if verbose { own + &parts() } else { own }
}

fn parts() -> String {
    let Build { llama, ggml, features } = build();
    let found: Vec<_> = devices().iter().map(|device| format!("{} ({})", device.name, device.backend)).collect();
    // "CPU : SSE3 = 1 | AVX2 = 1 | …": what is there, without the numbers.
    let features: Vec<_> = features.split('|').map(str::trim).filter(|feature| !feature.is_empty()).collect();
    let features = features.join(", ").replace(" = 1", "");
    format!("llama.cpp {llama}, ggml {ggml}\ndevices: {}\nfeatures: {features}\n", found.join(", "))
}
