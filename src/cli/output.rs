//! What goes to stdout.

use std::io::Write as _;

/// Writes to stdout; a closed pipe is an error and no panic.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
