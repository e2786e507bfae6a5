//! The first bytes: is this GGUF at all?

use super::GgufError;
use std::path::Path;

/// The first four bytes of every GGUF file.
pub(super) const MAGIC: [u8; 4] = *b"GGUF";
/// The version that is written, and the last that llama.cpp reads.
pub(super) const VERSION: u32 = 3;
/// Bytes shown of a file that is something else.
const SHOWN_BYTES: usize = 16;

/// Judges a file by its first bytes, at least 8 of them unless it is shorter.
pub(super) fn check(path: &Path, head: &[u8], size: u64) -> Result<u32, GgufError> {
    let path = path.to_path_buf();
    if size == 0 || head.is_empty() {
        return Err(GgufError::Empty { path });
    }
    if head.len() < 8 && MAGIC.starts_with(&head[..head.len().min(4)]) {
        return Err(GgufError::Incomplete { path, what: "header".to_owned(), offset: 0, size });
    }
    let Some((magic, rest)) = head.split_first_chunk::<4>() else {
        return Err(not_gguf(path, head));
    };
    let Some(version) = rest.first_chunk::<4>().filter(|_| *magic == MAGIC) else {
        return Err(not_gguf(path, head));
    };
    match (u32::from_le_bytes(*version), u32::from_be_bytes(*version)) {
        (version @ 2..=VERSION, _) => Ok(version),
        (_, 1..=VERSION) => Err(GgufError::BigEndian { path }),
        (version, _) => Err(GgufError::Version { path, version }),
    }
}

fn not_gguf(path: std::path::PathBuf, head: &[u8]) -> GgufError {
    let starts_with = head[..head.len().min(SHOWN_BYTES)].escape_ascii().to_string();
    GgufError::NotGguf { path, starts_with, hint: hint(head) }
}

/// What the file seems to be, and what to do.
fn hint(head: &[u8]) -> &'static str {
    let text = head.trim_ascii_start();
    if text.starts_with(b"version https://git-lfs") {
        " (a Git LFS pointer; run `git lfs pull`)"
    } else if text.first() == Some(&b'<') {
        " (a web page; use the link of the file itself)"
    } else if head.starts_with(b"PK") || head.get(8) == Some(&b'{') {
        " (PyTorch or safetensors weights; convert them with llama.cpp's convert_hf_to_gguf.py)"
    } else if [b"lmgg", b"fmgg", b"tjgg"].iter().any(|magic| head.starts_with(*magic)) {
        " (a model in an old ggml format; get it as GGUF)"
    } else {
        "; give a model in GGUF"
    }
}
