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
    let begins = |magics: &[&[u8]]| magics.iter().any(|magic| head.starts_with(magic));
    if text.starts_with(b"version https://git-lfs") {
        " (a Git LFS pointer; run `git lfs pull`)"
    } else if text.first() == Some(&b'<') {
        " (a web page; use the link of the file itself)"
    } else if head.get(8) == Some(&b'{') && head[5..8] == [0; 3] {
        " (safetensors weights; convert a model with llama.cpp's convert_hf_to_gguf.py, an adapter with convert_lora_to_gguf.py)"
    } else if is_pytorch(head) {
        " (PyTorch weights; convert them with llama.cpp's convert_hf_to_gguf.py)"
    } else if begins(&[b"PK"]) {
        " (a zip archive; unpack it)"
    } else if begins(&[b"\x1f\x8b"]) {
        " (compressed with gzip; unpack it)"
    } else if begins(&[b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"BZh", b"7z\xbc\xaf", b"Rar!"])
        || head.get(257..262) == Some(b"ustar")
    {
        " (an archive or a compressed file; unpack it)"
    } else if begins(&[b"lmgg", b"fmgg", b"tjgg", b"algg"]) {
        " (a model or an adapter in an old ggml format; get it as GGUF)"
    } else if is_imatrix(head) {
        " (an importance matrix, which only quantisation uses; give a model in GGUF)"
    } else if begins(&[b"Entry not found", b"Access to ", b"Invalid ", b"Repository not found", b"Unauthorized"]) {
        " (a server's answer in place of the file; log in, accept the model's terms if it has any, and download it again)"
    } else if matches!(text.first(), Some(b'{' | b'[')) {
        " (JSON: a configuration, an index, or a server's error; use the link of the GGUF file itself)"
    } else if head.iter().all(|byte| *byte == 0) {
        " (zeros only: a download that was not finished; download it again)"
    } else {
        "; give a model in GGUF"
    }
}

/// A pickle, alone or in a zip archive.
fn is_pytorch(head: &[u8]) -> bool {
    let pickle = matches!(head, [0x80, 2..=5, ..]);
    let archive = head.starts_with(b"PK") && head.windows(8).take(1 << 12).any(|name| name == b"data.pkl");
    pickle || archive
}

/// llama.cpp's old format: a number of entries, the length of a name, and the name of a tensor.
fn is_imatrix(head: &[u8]) -> bool {
    head.get(8..).is_some_and(|name| name.starts_with(b"blk.") || name.starts_with(b"output.weight"))
}
