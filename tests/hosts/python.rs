//! llama-cpp-python, on the llama.cpp that its own source package contains.

use super::{base, command, demo, difference, expected, hosts, output, root};
use crate::support::libraries;

fn example(arguments: &[&str]) -> String {
    let source = std::fs::read_dir(hosts()).expect("the hosts").filter_map(|entry| Some(entry.ok()?.path()));
    let source = source.filter(|path| path.join("llama_cpp/llama.py").is_file()).max().expect("llama-cpp-python");
    let path = std::env::join_paths([source, root().join("python/genarm/src")]).expect("two paths");
    let mut python = command(hosts().join("venv/bin/python"));
    python.arg(root().join("examples/llama_cpp_python.py")).arg("--model").arg(base()).arg("--config").arg(demo());
    python.args(arguments).env("PYTHONPATH", path).env("LLAMA_CPP_LIB_PATH", hosts().join("build/bin"));
    output(python.env("GENARM_LIBRARY", libraries().join("libgenarm.so"))).0
}

#[test]
#[ignore = "make test-hosts builds llama.cpp"]
fn both_ways_give_the_distributions_of_genarm_generate() {
    for tokens in [&[1i64, 300, 310, 320][..], &[1, 350, 360, 370, 380, 390]] {
        let ids: Vec<_> = tokens.iter().map(i64::to_string).collect();
        let json: serde_json::Value =
            serde_json::from_str(&example(&["--distributions", &ids.join(",")])).expect("JSON");
        for way in ["logits_processor", "native_sampler"] {
            let row = json[way].as_array().expect("probabilities");
            let theirs: Vec<_> =
                row.iter().enumerate().map(|(i, p)| (i as i64, p.as_f64().expect("a number"))).collect();
            let off = difference(&expected(&demo(), &[], tokens, 20), &theirs);
            assert!(off < 1e-3, "{way} {tokens:?}: {off}");
        }
    }
}

#[test]
#[ignore = "make test-hosts builds llama.cpp"]
fn both_ways_write_the_same_text() {
    let text = example(&["-n", "24", "Once upon a time"]);
    let (a, b) = text.trim().split_once("\nwith_native_sampler: ").unwrap_or_else(|| panic!("{text}"));
    assert_eq!(a.strip_prefix("with_logits_processor: "), Some(b), "{text}");
    assert!(b.len() > 20, "{text}");
}
