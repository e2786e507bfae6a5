//! Binds the sampler structs of `vendor/llama-sampler-abi`, for `src/sampling/abi.rs`, and compiles the preload of `genarm run`.

use std::env;
use std::path::{Path, PathBuf};

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
    preload(out.parent().expect("a file in a folder"));
}

/// Compiles `vendor/preload` and lays it where cargo lays the binary and libgenarm: `genarm run` looks beside itself.
fn preload(out: &Path) {
    const SOURCE: &str = "vendor/preload/preload.c";
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-changed=include/genarm.h");
    let system = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    let name = match system.as_str() {
        "linux" => "libgenarm_preload.so",
        "macos" => "libgenarm_preload.dylib",
        _ => return,
    };
    let file = out.join(name);
    let mut compiler = cc::Build::new().pic(true).get_compiler().to_command();
    compiler.args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-shared"]);
    if system == "macos" {
        compiler.args(["-undefined", "dynamic_lookup"]);
    }
    let status = compiler.args([SOURCE, "-ldl", "-lpthread", "-o"]).arg(&file).status();
    assert!(status.as_ref().is_ok_and(|s| s.success()), "cannot compile {SOURCE}: {status:?}");
    // target/PROFILE/build/genarm-HASH/out → target/PROFILE. A file in use is replaced, not written to.
    if let Some(profile) = out.ancestors().nth(3) {
        let _ = std::fs::remove_file(profile.join(name));
        std::fs::copy(&file, profile.join(name)).unwrap_or_else(|e| panic!("cannot copy {name}: {e}"));
    }
}
