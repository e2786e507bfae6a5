//! Files that are named on the command line: what each of them is.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::cli::input::Source;
use crate::cli::one_line;

/// Bytes in which a configuration shows that it is one.
const HEAD: u64 = 1 << 16;

/// Keys of a configuration, one of which every useful one has.
const KEYS: [&str; 9] =
    ["base", "arms", "hosts", "profiles", "sampling", "prompt", "guidance", "speculate", "on_error"];

/// Whether a file's name is that of a configuration.
pub fn is_yaml(file: &Path) -> bool {
    has_extension(file, &["yaml", "yml", "json"])
}

/// Whether `-f` means the prompt's file, as in llama.cpp: a file that exists and is no configuration.
pub fn is_prompt(file: &Path) -> bool {
    file.is_file() && !is_yaml(file) && !is_model(file) && !has_keys(file)
}

/// Whether the argument of `chat` and `serve` is a configuration; else it is a model.
pub fn is_configuration(file: &Path) -> bool {
    is_yaml(file) || file.is_file() && !has_extension(file, &["gguf"]) && !is_model(file) && has_keys(file)
}

/// Whether a prompt is the name of a model: a slip for `-m`.
pub fn is_model_name(text: &str) -> bool {
    let file = Path::new(text);
    has_extension(file, &["gguf"]) && file.is_file()
}

/// A text that a flag names.
///
/// # Errors
///
/// One line with the file and what is wrong with it.
pub fn read(file: &Path) -> Result<String, String> {
    Source::File(file).read().map_err(|error| one_line(&error))
}

fn has_extension(file: &Path, any: &[&str]) -> bool {
    file.extension().is_some_and(|extension| any.iter().any(|one| extension.eq_ignore_ascii_case(one)))
}

fn is_model(file: &Path) -> bool {
    head(file, 4) == b"GGUF"
}

/// Whether a file has a configuration's key at the beginning of a line: it is one then, whatever may be wrong with it.
pub fn has_keys(file: &Path) -> bool {
    let head = head(file, HEAD);
    let text = String::from_utf8_lossy(&head);
    let key = |line: &str| line.split_once(':').is_some_and(|(key, rest)| KEYS.contains(&key) && follows(key, rest));
    text.lines().any(key)
}

/// Whether what stands after a key can be its value: "prompt: Once upon a time" is a text.
fn follows(key: &str, rest: &str) -> bool {
    let rest = rest.trim();
    rest.is_empty()
        || rest.starts_with(['{', '#'])
        || matches!(key, "base" | "speculate" | "on_error") && !rest.contains(' ')
}

/// The beginning of a file; nothing where it cannot be read.
fn head(file: &Path, n: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = File::open(file).and_then(|file| file.take(n).read_to_end(&mut bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_after_f_is_a_configuration_by_its_name_or_its_keys_and_else_a_prompt() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let file = folder.path().join(name);
            std::fs::write(&file, text).expect("written");
            file
        };
        for (name, text, expected) in [
            ("a.txt", "Once upon a time", true),
            ("b", "Title: a story\nprompt: Once upon a time", true),
            ("c.md", "- one\n- two\n", true),
            ("d.txt", "{{ not yaml", true),
            ("empty.txt", "", true),
            ("e.yaml", "Once upon a time", false),
            ("f.JSON", "", false),
            ("g.conf", "# mine\nbase: m.gguf\n", false),
            ("h.conf", "arms:\n  x: {model: [", false),
            ("hosts.conf", "hosts:\n  x.gguf: {arms: {}}\n", false),
            ("i.bin", "GGUF....", false),
        ] {
            assert_eq!(is_prompt(&write(name, text)), expected, "{name}");
        }
        assert!(!is_prompt(&folder.path().join("missing.txt")) && !is_prompt(folder.path()));
        assert!(is_configuration(&write("j.conf", "base: m.gguf\n")) && !is_configuration(&write("k.gguf", "base:\n")));
    }
}
