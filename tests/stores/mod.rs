//! Models by name: the stores of this machine, and downloads from a hub on loopback.

mod hub;
mod models;
mod names;
mod pull;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::binary::genarm;
use crate::support::models;

/// A home folder of its own, in which no store of this machine is seen.
pub struct Home(tempfile::TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The root of the Hugging Face cache.
    pub fn cache(&self) -> PathBuf {
        self.path().join("hf/hub")
    }

    /// The program at home.
    pub fn genarm(&self, args: &[&str]) -> Command {
        let mut command = genarm(args);
        for variable in [
            "HF_HUB_CACHE",
            "HUGGINGFACE_HUB_CACHE",
            "HF_TOKEN",
            "HUGGING_FACE_HUB_TOKEN",
            "HF_TOKEN_PATH",
            "HF_HUB_OFFLINE",
            "MODEL_ENDPOINT",
            "ALL_PROXY",
            "all_proxy",
            "HTTPS_PROXY",
            "https_proxy",
            "HTTP_PROXY",
            "http_proxy",
        ] {
            command.env_remove(variable);
        }
        command.env("HOME", self.path()).env("USERPROFILE", self.path());
        command.env("XDG_CACHE_HOME", self.path().join("cache")).env("LOCALAPPDATA", self.path().join("cache"));
        command.env("HF_HOME", self.path().join("hf")).env("OLLAMA_MODELS", self.path().join("ollama"));
        // No test reaches the real hub.
        command.env("HF_ENDPOINT", "http://127.0.0.1:9");
        command
    }

    /// Everything below a folder, by its path within it.
    pub fn tree(folder: &Path) -> Vec<String> {
        fn read(folder: &Path, root: &Path, out: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() && !path.is_symlink() {
                    read(&path, root, out);
                } else {
                    out.push(path.strip_prefix(root).expect("within").to_string_lossy().replace('\\', "/"));
                }
            }
        }
        let mut out = Vec::new();
        read(folder, folder, &mut out);
        out.sort();
        out
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The output of a command that must succeed.
pub fn good(mut command: Command) -> Output {
    let output = command.output().expect("the binary runs");
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    output
}

/// The last line of a command that must fail, and its exit code.
pub fn bad(mut command: Command) -> (String, Option<i32>) {
    let output = command.output().expect("the binary runs");
    assert!(!output.status.success(), "{command:?}: {}", text(&output.stdout));
    (text(&output.stderr).trim().lines().last().unwrap_or_default().to_owned(), output.status.code())
}

/// A small model's bytes.
pub fn model() -> Vec<u8> {
    std::fs::read(&models().base).expect("a model")
}

/// An ARM's.
pub fn arm() -> Vec<u8> {
    std::fs::read(&models().arms[0]).expect("a model")
}

/// Writes a file and the folders above it.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, bytes).expect("written");
}
