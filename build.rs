//! Binds the sampler structs of `vendor/llama-sampler-abi`, for `src/sampling/abi.rs`.

use std::env;
use std::path::PathBuf;

const HEADER: &str = "vendor/llama-sampler-abi/llama_sampler_abi.h";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={HEADER}");
    let bindings = bindgen::Builder::default()
        .header(HEADER)
        .allowlist_type("llama_token_data|llama_token_data_array|llama_sampler|llama_sampler_i")
        .clang_args(["-x", "c", "-std=c11"])
        .generate()
        .unwrap_or_else(|e| panic!("cannot bind {HEADER} ({e}): run scripts/setup, which installs libclang"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("llama_sampler_abi.rs");
    bindings.write_to_file(&out).unwrap_or_else(|e| panic!("cannot write {}: {e}", out.display()));
}
