//! The C ABI as C programs see it: compiled, linked with `libgenarm`, and run; and the preload in a tool that knows
//! nothing of it.

#[cfg(target_os = "linux")]
mod fuzz;
mod header;
#[cfg(target_os = "linux")]
mod preload;
#[cfg(target_os = "linux")]
mod program;

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use genarm::engine::gguf::GgufFile;
use tempfile::TempDir;

/// Where cargo has laid libgenarm: beside the tests.
fn libraries() -> &'static Path {
    crate::support::libraries()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn demo() -> PathBuf {
    root().join("models/demo.yaml")
}

/// A folder with `libllama.so` (the stand-in), `program`, `tool`, `server` and what starts it, and the hosts of
/// `tests/cases`, compiled once.
pub fn built() -> &'static Path {
    static BUILT: OnceLock<TempDir> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let source = |name: &str| root().join("tests/capi").join(name).display().to_string();
        let libraries = libraries().display().to_string();
        compile(&["-shared", "-fPIC", &source("llama.c"), "-o", &at("libllama.so")]);
        let here = folder.path().display().to_string();
        compile(&[&source("tool.c"), "-o", &at("tool"), "-L", &here, "-lllama"]);
        // The sanitizer watches the program, and every allocation of the libraries.
        let sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"];
        let link = ["-L", &here, "-lllama", "-L", &libraries, "-lgenarm", "-lm", "-pthread"];
        compile(&[&sanitize[..], &[&source("program.c"), "-o", &at("program")], &link].concat());
        let host = source("../cases/host.c");
        compile(&[&host, "-o", &at("host"), "-L", &here, "-lllama"]);
        compile(&[&source("server.c"), "-o", &at("server"), "-L", &here, "-lllama"]);
        compile(&[&source("ollama.c"), "-o", &at("ollama")]);
        // llama.cpp's checks leave the names of its files in a program: so does this one.
        let inside = folder.path().join("llama-sampler.c");
        std::fs::write(&inside, "#include \"llama.c\"\n").expect("a source file");
        let named = "-D__FILE__=\"src/llama-sampler.c\"";
        let tests = root().join("tests/capi").display().to_string();
        let quiet = "-Wno-builtin-macro-redefined";
        compile(&[
            "-I",
            &tests,
            named,
            quiet,
            &source("server.c"),
            &inside.display().to_string(),
            "-o",
            &at("static-server"),
        ]);
        compile(&[&["-DGUIDED", &host, "-o", &at("guided-host")], &link[..]].concat());
        folder
    });
    folder.path()
}

fn compile(args: &[&str]) {
    let flags = ["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror"];
    let output = Command::new("cc").args(flags).args(args).output().expect("a C compiler");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a program of [`built`] under the libraries that it needs.
fn run(command: &mut Command) -> Output {
    under_libraries(command).output().expect("the program runs")
}

fn under_libraries(command: &mut Command) -> &mut Command {
    let path = format!("{}:{}", built().display(), libraries().display());
    command.env("LD_LIBRARY_PATH", path).env_remove("GENARM_LOG").env_remove("GENARM_CONFIG")
}

/// A program under the libraries of [`built`].
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    under_libraries(&mut command);
    command
}

/// The tokens of the demo base for the stand-in's `llama_model_load`, changed by `change`.
fn tokens(folder: &Path, change: impl Fn(&mut Vec<(u32, Vec<u8>)>)) -> PathBuf {
    tokens_of(&root().join("models/base.gguf"), folder, change)
}

/// The same of another model.
pub fn tokens_of(model: &Path, folder: &Path, change: impl Fn(&mut Vec<(u32, Vec<u8>)>)) -> PathBuf {
    let base = GgufFile::open_model(model).expect("a base");
    let vocabulary = base.vocabulary().expect("a vocabulary");
    let mut tokens: Vec<_> = vocabulary.texts().map(|text| (4, text.to_vec())).collect();
    change(&mut tokens);
    let mut lines = String::new();
    for (attribute, text) in tokens {
        let hex: String = text.iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(lines, "{attribute} {}", if hex.is_empty() { "-" } else { &hex });
    }
    let file = folder.join("tokens");
    std::fs::write(&file, lines).expect("the tokens are written");
    file
}
