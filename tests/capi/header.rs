//! The committed header is what the code says.

use std::path::Path;

/// `GENARM_BLESS=1 cargo test --release header` writes it anew.
#[test]
fn the_committed_header_is_generated_from_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    // The modules below are found from there.
    let builder = cbindgen::Builder::new().with_config(config).with_src(root.join("src/capi/mod.rs"));
    let mut generated = Vec::new();
    builder.generate().expect("a header").write(&mut generated);
    // The sections on safety are for Rust's readers: the conventions say the same.
    let text = String::from_utf8(generated).expect("UTF-8");
    let mut lines = Vec::new();
    let mut hidden = false;
    for line in text.lines() {
        match line.trim() {
            "/// # Safety" | "// # Safety" => {
                hidden = true;
                while lines.last().is_some_and(|line: &&str| line.trim() == "//") {
                    lines.pop();
                }
            }
            comment if comment.starts_with("//") && hidden => {}
            _ => {
                hidden = false;
                lines.push(line);
            }
        }
    }
    let header = format!("{}\n", lines.join("\n"));
    let file = root.join("include/genarm.h");
    if std::env::var_os("GENARM_BLESS").is_some() {
        std::fs::write(&file, &header).expect("include/genarm.h is written");
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == header, "include/genarm.h is old: run GENARM_BLESS=1 cargo test --release header");
}
