//! Binds the sampler structs of `vendor/llama-sampler-abi`, for `src/sampling/abi.rs`; compiles the preload of
//! `genarm run` and, with the feature `rpc`, ggml's RPC backend, which llama-cpp-sys-2 packs and leaves out of its
//! build.

use std::env;
use std::path::{Path, PathBuf};

/// Set by `scripts/dist`, whose binary is not run where it is built.
const RELEASE: &str = "GENARM_RELEASE";
const HEADER: &str = "vendor/llama-sampler-abi/llama_sampler_abi.h";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={HEADER}");
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        // Only our own functions leave libgenarm: llguidance, which has a C interface too, may be in the host as well.
        println!("cargo:rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
        // In a release, the compiler's libraries lie in lib/genarm. The binary is in bin, libgenarm in lib or in a
        // folder below it.
        println!("cargo:rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/../lib/genarm");
        println!("cargo:rustc-cdylib-link-arg=-Wl,-rpath,$ORIGIN/genarm,-rpath,$ORIGIN/../../genarm");
    }
    guarded();
    #[cfg(feature = "server")]
    chat();
    let bindings = bindgen::Builder::default()
        .header(HEADER)
        .allowlist_type("llama_token_data|llama_token_data_array|llama_sampler|llama_sampler_i")
        .clang_args(["-x", "c", "-std=c11"])
        .generate()
        .unwrap_or_else(|e| panic!("cannot bind {HEADER} ({e}): run scripts/setup, which installs libclang"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("llama_sampler_abi.rs");
    bindings.write_to_file(&out).unwrap_or_else(|e| panic!("cannot write {}: {e}", out.display()));
    let out = out.parent().expect("a file in a folder");
    // target/PROFILE/build/genarm-HASH/out → target/PROFILE, where cargo lays the binary and libgenarm.
    if let Some(profile) = out.ancestors().nth(3) {
        backends(profile);
        preload(out, profile);
    }
    #[cfg(feature = "rpc")]
    if env::var_os("CARGO_CFG_UNIX").is_some() {
        rpc();
    }
}

/// Compiles the calls of llama.cpp that may throw, with their exceptions caught (`vendor/guarded`).
fn guarded() {
    const SOURCES: [&str; 2] = ["vendor/guarded/draft_head.cpp", "vendor/guarded/tokenize.cpp"];
    SOURCES.iter().for_each(|source| println!("cargo:rerun-if-changed={source}"));
    cpp().files(SOURCES).compile("genarm_guarded");
}

/// C++ as llama.cpp has it. llama-cpp-sys-2 links the C++ library: as a shared one, or under `static-stdcxx` inside.
fn cpp() -> cc::Build {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2);
    if cfg!(feature = "static-stdcxx") {
        build.cpp_link_stdlib(None);
    }
    build
}

/// Passes to `engine::llama` where cargo has put the loadable backends, for a binary that is run where it was built,
/// and lays llama.cpp's own libraries where a binary looks for them: beside itself.
fn backends(profile: &Path) {
    let Some(folder) = env::var_os("DEP_LLAMA_BACKENDS_DIR").filter(|_| cfg!(feature = "dynamic-backends")) else {
        return;
    };
    // A release is moved away from here; then a folder of this name could be anybody's.
    println!("cargo:rerun-if-env-changed={RELEASE}");
    if env::var_os(RELEASE).is_none() {
        println!("cargo:rustc-env=GENARM_BUILT_BACKENDS={}", Path::new(&folder).display());
        println!(
            "cargo:warning=dynamic-backends: this build is for the binary; \
             its libgenarm refuses to open a guidance (docs/plugin.md)"
        );
    }
    if env::var_os("CARGO_CFG_UNIX").is_none() {
        return;
    }
    // Tests and examples are one folder deeper.
    let here = if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "macos") { "@loader_path" } else { "$ORIGIN" };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{here}");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{here}/..");
    let root = PathBuf::from(env::var_os("DEP_LLAMA_ROOT").expect("llama-cpp-sys-2 says where it built"));
    let libraries = ["lib", "lib64"].into_iter().filter_map(|name| std::fs::read_dir(root.join(name)).ok()).flatten();
    for file in libraries.map(|entry| entry.expect("a readable folder").path()) {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // The names that programs ask for, of the form libllama.so.0; llama-cpp-sys-2 lays links to them there,
        // libllama.so.
        if file.is_symlink() && (name.contains(".so.") || name.ends_with(".dylib")) {
            lay(&file, &profile.join(name));
        }
    }
}

/// Copies a library to where programs load it from. A file in use is replaced, not written to.
fn lay(file: &Path, to: &Path) {
    let _ = std::fs::remove_file(to);
    std::fs::copy(file, to).unwrap_or_else(|e| panic!("cannot copy {} to {}: {e}", file.display(), to.display()));
}

/// Where llama.cpp's source is. Its crate does not say, but cmake's cache, beside what it has built, does.
#[cfg(any(feature = "rpc", feature = "server"))]
fn llama_source() -> PathBuf {
    let root = PathBuf::from(env::var_os("DEP_LLAMA_ROOT").expect("llama-cpp-sys-2 says where it built"));
    let cache = root.join("build/CMakeCache.txt");
    let text = std::fs::read_to_string(&cache).unwrap_or_else(|e| panic!("cannot read {}: {e}", cache.display()));
    let source = text.lines().find_map(|line| line.strip_prefix("CMAKE_HOME_DIRECTORY:INTERNAL="));
    PathBuf::from(source.unwrap_or_else(|| panic!("{} names no source", cache.display())))
}

/// Compiles the way to llama.cpp's reading of answers with calls of tools (`vendor/chat`).
#[cfg(feature = "server")]
fn chat() {
    const SOURCE: &str = "vendor/chat/chat.cpp";
    println!("cargo:rerun-if-changed={SOURCE}");
    let llama = llama_source();
    cpp()
        .warnings(false)
        .include(llama.join("common"))
        .include(llama.join("include"))
        .include(llama.join("ggml/include"))
        .include(llama.join("vendor"))
        .file(SOURCE)
        .compile("genarm_chat");
}

/// Compiles llama.cpp's ggml-rpc.cpp, unchanged, on a transport of our own (`vendor/rpc-transport`).
#[cfg(feature = "rpc")]
fn rpc() {
    const TRANSPORT: &str = "vendor/rpc-transport/transport.cpp";
    println!("cargo:rerun-if-changed={TRANSPORT}");
    let ggml = llama_source().join("ggml");
    cpp()
        .warnings(false)
        .define("NDEBUG", None)
        .include(ggml.join("include"))
        .include(ggml.join("src"))
        .include(ggml.join("src/ggml-rpc"))
        .file(ggml.join("src/ggml-rpc/ggml-rpc.cpp"))
        .file(TRANSPORT)
        .compile("genarm_rpc");
}

/// Compiles `vendor/preload` and lays it beside the binary and libgenarm: `genarm run` looks there.
fn preload(out: &Path, profile: &Path) {
    const SOURCES: [&str; 3] = ["vendor/preload/preload.c", "vendor/preload/model.c", "vendor/preload/inside.c"];
    println!("cargo:rerun-if-changed=vendor/preload");
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
    let status = compiler.args(SOURCES).args(["-ldl", "-lpthread", "-o"]).arg(&file).status();
    assert!(status.as_ref().is_ok_and(|s| s.success()), "cannot compile vendor/preload: {status:?}");
    lay(&file, &profile.join(name));
}
