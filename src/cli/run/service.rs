//! `genarm run --systemd-drop-in`

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::Args;
use super::hosts::Guided;

/// Prints a drop-in that starts the service's program through `genarm run`: names are looked up anew at each start, as
/// the service's user, and a mistake in the configuration is in the service's log.
pub(super) fn print(args: &Args, guided: &Guided, libraries: &[PathBuf]) -> anyhow::Result<()> {
    let genarm = std::env::current_exe()?;
    let config = std::path::absolute(&args.config)?;
    let (tool, arguments) = args.tool.split_first().context("no tool")?;
    let tool = in_path(tool)?;
    let mut words: Vec<OsString> = vec![genarm.clone().into(), "run".into(), "--config".into(), config.into()];
    if let Some(profile) = &args.profile {
        words.extend(["--profile".into(), profile.into()]);
    }
    for (name, weight) in &args.weights {
        words.extend(["--weight".into(), format!("{name}={weight}").into()]);
    }
    words.extend(args.strict.then(|| "--strict".into()));
    words.extend(["--".into(), tool.clone().into()]);
    words.extend(arguments.iter().cloned());
    let words = words.iter().map(|word| quoted(word.to_str().context("a name is not UTF-8")?));
    let line = words.collect::<anyhow::Result<Vec<_>>>()?.join(" ");
    let unit = tool.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut text = String::new();
    let _ = writeln!(text, "# Save this as /etc/systemd/system/{unit}.service.d/genarm.conf, then run");
    let _ = writeln!(text, "#   systemctl daemon-reload && systemctl restart {unit}");
    let _ = writeln!(text, "[Service]\n# In place of the unit's own command.\nExecStart=\nExecStart={line}");
    super::super::output::print(&text)?;
    for (missing, _) in &guided.missing {
        eprintln!("genarm: {missing}");
    }
    let mut closed: Vec<_> =
        libraries.iter().chain([&genarm]).chain(&guided.files).filter(|file| !is_open(file)).collect();
    closed.sort();
    closed.dedup();
    for file in closed {
        eprintln!("genarm: {} cannot be read by every user; the service's user must be able to", file.display());
    }
    Ok(())
}

/// A program as systemd wants it: by its path.
fn in_path(tool: &OsString) -> anyhow::Result<PathBuf> {
    let named = Path::new(tool);
    if named.components().count() > 1 {
        return Ok(std::path::absolute(named)?);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(named)).find(|file| file.is_file());
    found.with_context(|| format!("{} is in no folder of PATH; write its path", named.display()))
}

/// A word of a command line in a unit file.
fn quoted(word: &str) -> anyhow::Result<String> {
    if word.chars().any(char::is_control) {
        bail!("{word:?} has a control character, which a unit file cannot hold");
    }
    let plain = |c: char| c.is_alphanumeric() || "_-./,:=+@%$".contains(c);
    let escaped = word.replace('%', "%%").replace('$', "$$");
    if !word.is_empty() && word.chars().all(plain) {
        return Ok(escaped);
    }
    Ok(format!("\"{}\"", escaped.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// Whether every user may read a file.
#[cfg(unix)]
fn is_open(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let allows = |path: &Path, bit| std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & bit != 0);
    let Ok(file) = file.canonicalize() else { return false };
    allows(&file, 0o004) && file.ancestors().skip(1).all(|folder| allows(folder, 0o001))
}

#[cfg(not(unix))]
fn is_open(_: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_systemd_reads_them() {
        let word = |text| quoted(text).expect("a word");
        assert_eq!(word("/usr/bin/ollama"), "/usr/bin/ollama");
        assert_eq!(word("/srv/my models/a.yaml"), "\"/srv/my models/a.yaml\"");
        assert_eq!(word("50%$x"), "50%%$$x");
        assert_eq!(word("say \"hi\" \\ 'you'"), "\"say \\\"hi\\\" \\\\ 'you'\"");
        assert_eq!(word(""), "\"\"");
        assert_eq!(word(";"), "\";\"");
        assert!(quoted("a\nb").is_err());
    }
}
