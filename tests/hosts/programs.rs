//! The examples in C and C++, compiled against the host's llama.h.

use std::process::Command;

use super::{base, command, demo, hosts, output, root};
use crate::support::binary::fed;
use crate::support::libraries;

/// Compiles an example, and gives the command that runs it.
fn example(compiler: &str, source: &str, flags: &[&str]) -> (tempfile::TempDir, Command) {
    let folder = tempfile::tempdir().expect("a folder");
    let llama = std::fs::read_dir(hosts())
        .expect("the hosts")
        .filter_map(|entry| Some(entry.ok()?.path().join("vendor/llama.cpp")));
    let llama = llama.filter(|path| path.is_dir()).max().expect("llama.cpp");
    let program = folder.path().join("example");
    let lib = hosts().join("build/bin");
    let mut compile = Command::new(compiler);
    compile.args(flags).arg("-Wall").arg("-Wextra").arg("-Werror").arg(root().join("examples/c").join(source));
    for include in [root().join("include"), llama.join("include"), llama.join("ggml/include")] {
        compile.arg("-isystem").arg(include);
    }
    compile.arg("-L").arg(&lib).arg("-L").arg(libraries()).args(["-lllama", "-lggml", "-lggml-base", "-lgenarm", "-o"]);
    output(compile.arg(&program));
    let mut run = command(&program);
    let path = std::env::join_paths([lib.as_path(), libraries()]).expect("two paths");
    run.arg(base()).arg(demo()).env("LD_LIBRARY_PATH", path);
    (folder, run)
}

/// What genarm itself writes after a prompt, greedily.
fn greedy(prompt: &str, n: &str) -> String {
    let mut generate = command(env!("CARGO_BIN_EXE_genarm"));
    output(generate.args(["generate", "--temp", "0", "-n", n, "--config"]).arg(demo()).arg(prompt)).0
}

#[test]
#[ignore = "make test-hosts builds llama.cpp"]
fn simple_c_writes_what_genarm_generate_writes() {
    let (_folder, mut run) = example("cc", "simple.c", &["-std=c11"]);
    assert_eq!(output(run.arg("Once upon a time")).0, greedy("Once upon a time", "48"));
}

#[test]
#[ignore = "make test-hosts builds llama.cpp"]
fn guided_chat_follows_weights_between_turns() {
    let (_folder, mut run) = example("c++", "guided_chat.cpp", &["-std=c++17"]);
    let answer = fed(&mut run, "Once upon a time\n/cheerful 0\n/grim 1\nOnce upon a time\n");
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(answer.status.success(), "{text}");
    let first = greedy("Once upon a time", "32");
    assert!(text.starts_with(first.trim_end()) && text.len() > first.len() + 20, "{first:?} {text:?}");
}
