//! Binds the sampler structs of `vendor/llama-sampler-abi`, for `src/sampling/abi.rs`; with the feature `rpc`, compiles
//! ggml's RPC backend, which llama-cpp-sys-2 packs and leaves out of its build.

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
    backends_folder();
    #[cfg(feature = "rpc")]
    if env::var_os("CARGO_CFG_UNIX").is_some() {
        rpc();
    }
}

/// Tells `engine::llama` where cargo has put the loadable backends, for a binary that is run where it was built; a binary finds
/// llama.cpp's own libraries beside itself.
fn backends_folder() {
    if let Some(folder) = env::var("DEP_LLAMA_BACKENDS_DIR").ok().filter(|_| cfg!(feature = "dynamic-backends")) {
        println!("cargo:rustc-env=GENARM_BUILT_BACKENDS={folder}");
        if env::var_os("CARGO_CFG_UNIX").is_some() {
            let here =
                if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "macos") { "@loader_path" } else { "$ORIGIN" };
            println!("cargo:rustc-link-arg-bins=-Wl,-rpath,{here}");
            println!("cargo:rustc-link-arg-tests=-Wl,-rpath,{here}/..");
        }
    }
}

/// Compiles llama.cpp's ggml-rpc.cpp, unchanged, on a transport of our own (`vendor/rpc-transport`).
#[cfg(feature = "rpc")]
fn rpc() {
    const TRANSPORT: &str = "vendor/rpc-transport/transport.cpp";
    println!("cargo:rerun-if-changed={TRANSPORT}");
    // The crate does not say where its source is, but cmake's cache, beside what it has built, does.
    let root = PathBuf::from(env::var_os("DEP_LLAMA_ROOT").expect("llama-cpp-sys-2 says where it built"));
    let cache = root.join("build/CMakeCache.txt");
    let text = std::fs::read_to_string(&cache).unwrap_or_else(|e| panic!("cannot read {}: {e}", cache.display()));
    let source = text.lines().find_map(|line| line.strip_prefix("CMAKE_HOME_DIRECTORY:INTERNAL="));
    let ggml = PathBuf::from(source.unwrap_or_else(|| panic!("{} names no source", cache.display()))).join("ggml");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .opt_level(2)
        .define("NDEBUG", None)
        .include(ggml.join("include"))
        .include(ggml.join("src"))
        .include(ggml.join("src/ggml-rpc"))
        .file(ggml.join("src/ggml-rpc/ggml-rpc.cpp"))
        .file(TRANSPORT)
        .compile("genarm_rpc");
}
