//! Texts that a command reads: from an argument, a file or standard input, and never from two of them.

use std::io::{IsTerminal, Read};
use std::path::Path;

use anyhow::Context;

use super::Usage;
use crate::chat::source::plain;

/// Where a text comes from.
pub enum Source<'a> {
    /// An argument.
    Argument(&'a str),
    /// A file.
    File(&'a Path),
    /// Standard input; `-` asks for it too.
    Stdin,
}

impl<'a> Source<'a> {
    /// The argument or the file where there is one, else standard input.
    pub fn of(argument: Option<&'a str>, file: Option<&'a Path>) -> Self {
        match (argument, file) {
            (Some(text), _) if text != "-" => Self::Argument(text),
            (_, Some(path)) => Self::File(path),
            _ => Self::Stdin,
        }
    }

    /// The text, as UTF-8.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, a text that is not UTF-8, or no text at all.
    pub fn read(&self) -> anyhow::Result<String> {
        let (bytes, from) = match self {
            Self::Argument(text) => return Ok((*text).to_owned()),
            Self::File(path) => {
                (std::fs::read(path).with_context(|| path.display().to_string())?, path.display().to_string())
            }
            Self::Stdin if std::io::stdin().is_terminal() => {
                let advice = "no prompt; give it as an argument, with --file, or on standard input";
                return Err(Usage(advice.into()).into());
            }
            Self::Stdin => {
                let mut bytes = Vec::new();
                std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
                (bytes, "standard input".to_owned())
            }
        };
        let mut text = String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            anyhow::anyhow!("{from} is not UTF-8 (byte {at}); convert it, for example with iconv")
        })?;
        text = plain(&text).into_owned();
        // The line end that an editor or echo puts there is not part of the prompt, as in llama.cpp's tools.
        if text.ends_with('\n') {
            text.pop();
        }
        Ok(text)
    }
}

/// The text with its escapes read, as llama.cpp's `--escape` does: `\n`, `\r`, `\t`, `\'`, `\"`, `\\` and `\xHH`, a
/// byte. Another backslash stays.
///
/// # Errors
///
/// Bytes that are no UTF-8.
pub fn unescaped(text: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, n) = match (first, after) {
            (b'\\', [b'n', ..]) => (b'\n', 2),
            (b'\\', [b'r', ..]) => (b'\r', 2),
            (b'\\', [b't', ..]) => (b'\t', 2),
            (b'\\', [same @ (b'\'' | b'"' | b'\\'), ..]) => (*same, 2),
            (b'\\', [b'x', high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |c: &u8| char::from(*c).to_digit(16).unwrap_or(0) as u8;
                (digit(high) * 16 + digit(low), 4)
            }
            _ => (*first, 1),
        };
        bytes.push(byte);
        rest = &rest[n..];
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Usage(format!(
            "--escape: the bytes of \\x are no UTF-8 (byte {at}); write whole characters, such as \\xc3\\xa9"
        ))
        .into()
    })
}

/// The same for several texts.
pub fn unescaped_all(texts: &[String]) -> anyhow::Result<Vec<String>> {
    texts.iter().map(|text| unescaped(text)).collect()
}

/// Refuses a text on standard input that `what` would take the place of, and that would be lost.
///
/// # Errors
///
/// Where a pipe or a file holds such a text.
pub fn refuse_second_text(what: &str) -> anyhow::Result<()> {
    if !holds_text() {
        return Ok(());
    }
    let line = format!(
        "there are two texts: {what}, and one on standard input, which would be lost; give one of them (< /dev/null closes \
         standard input)"
    );
    Err(Usage(line).into())
}

/// Whether a pipe on standard input has bytes for us, or a file there that has not been read yet. Takes nothing out of
/// it.
#[cfg(unix)]
fn holds_text() -> bool {
    use std::io::Seek;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileTypeExt;
    let stdin = std::io::stdin();
    let Ok(copy) = stdin.as_fd().try_clone_to_owned() else { return false };
    let mut file = std::fs::File::from(copy);
    let Ok(metadata) = file.metadata() else { return false };
    let kind = metadata.file_type();
    if kind.is_fifo() || kind.is_socket() {
        return rustix::io::ioctl_fionread(&file).is_ok_and(|n| n > 0);
    }
    // A file that a loop of the shell reads line by line has been begun: `while read line; do genarm … done < file`.
    kind.is_file() && metadata.len() > 0 && file.stream_position().is_ok_and(|at| at == 0)
}

#[cfg(not(unix))]
fn holds_text() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_those_of_llama_cpp() {
        for (text, expected) in [
            (r"a\nb\tc", "a\nb\tc"),
            (r#"\'\"\\n"#, "'\"\\n"),
            (r"\x41\x0a\xc3\xa9", "A\n\u{e9}"),
            (r"\q \x4 \xzz \", r"\q \x4 \xzz \"),
            ("", ""),
        ] {
            assert_eq!(unescaped(text).expect("UTF-8"), expected, "{text}");
        }
        let error = unescaped(r"\xff").expect_err("a byte alone").to_string();
        assert!(error.contains("--escape") && error.contains("UTF-8"), "{error}");
    }
}
