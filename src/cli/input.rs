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
