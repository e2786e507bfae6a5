//! A profile, written into a configuration file whose words and comments stay as they are.

use std::path::Path;

use anyhow::Context;

use super::measure::write_whole;
use crate::config::{Config, Overrides};

/// Adds a profile to the file. The new text is read back before it takes the old one's place.
pub fn write_profile(path: &Path, name: &str, weights: &[(&str, f32)]) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let before = Config::parse(&text, path, &Overrides::default())?;
    if before.profiles.contains_key(name) {
        anyhow::bail!("{} has a profile \"{name}\" already; choose another name", path.display());
    }
    let added = with_profile(&text, name, weights).with_context(|| path.display().to_string())?;
    let after = Config::parse(&added, path, &Overrides::default()).with_context(|| "the profile cannot be added")?;
    // JSON has no other way to write these numbers, and f32 survives it.
    let expected: Vec<f32> = weights.iter().map(|(_, w)| *w).collect();
    anyhow::ensure!(after.profile(name)? == expected, "the profile cannot be added to {}", path.display());
    write_whole(path, &added)
}

/// A configuration's `profiles:` with this one alone.
pub fn profiles(name: &str, weights: &[(&str, f32)]) -> anyhow::Result<String> {
    Ok(format!("profiles:\n  {}\n", entry(name, weights)?))
}

/// A profile on one line. JSON's quotes are YAML's too.
fn entry(name: &str, weights: &[(&str, f32)]) -> anyhow::Result<String> {
    let quoted = |s: &str| serde_json::to_string(s);
    let pairs =
        weights.iter().map(|(arm, w)| Ok(format!("{}: {w:?}", quoted(arm)?))).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(format!("{}: {{{}}}", quoted(name)?, pairs.join(", ")))
}

/// The text with the profile at the head of `profiles:`, or with a block of its own.
fn with_profile(text: &str, name: &str, weights: &[(&str, f32)]) -> anyhow::Result<String> {
    let entry = entry(name, weights)?;
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let content = |line: &str| line.split('#').next().unwrap_or_default().trim_end().to_owned();
    let Some(at) = lines.iter().position(|line| line.starts_with("profiles:")) else {
        let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        return Ok(format!("{text}{gap}\nprofiles:\n  {entry}\n"));
    };
    if content(lines[at]) != "profiles:" {
        anyhow::bail!("`profiles:` is written on one line; write one profile per line, or add this by hand: {entry}");
    }
    let first = lines[at + 1..].iter().find(|line| !content(line).trim().is_empty());
    let indent = first.map_or(0, |line| line.len() - line.trim_start_matches(' ').len());
    let indent = if indent == 0 { 2 } else { indent };
    let gap = if lines[at].ends_with('\n') { "" } else { "\n" };
    let (head, tail) = (lines[..=at].concat(), lines[at + 1..].concat());
    Ok(format!("{head}{gap}{}{entry}\n{tail}", " ".repeat(indent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "# mine\nbase: {model: b.gguf}\narms:\n  nice: {model: a.gguf}\n";

    fn written(text: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.yaml");
        std::fs::write(&path, text).unwrap();
        let result = write_profile(&path, "best: of", &[("nice", 0.25)]);
        let after = std::fs::read_to_string(&path).unwrap();
        result.map(|()| after.clone()).map_err(|e| {
            assert_eq!(after, text, "a failure leaves the file alone");
            format!("{e:#}")
        })
    }

    #[test]
    fn a_profile_is_added_and_everything_else_stays() {
        let entry = "\"best: of\": {\"nice\": 0.25}\n";
        assert_eq!(written(HEAD).unwrap(), format!("{HEAD}\nprofiles:\n  {entry}"));
        let with =
            format!("{HEAD}profiles:   # sets\n    # the kind one\n    kind: {{nice: 1.0}}\nsampling: {{temp: 1.0}}\n");
        let expected = with.replace("# sets\n", &format!("# sets\n    {entry}"));
        assert_eq!(written(&with).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_added_to_is_left_alone() {
        let error = written(&format!("{HEAD}profiles: {{kind: {{nice: 1.0}}}}\n")).unwrap_err();
        assert!(error.contains("one line"), "{error}");
        let error = written(&format!("{HEAD}profiles:\n  \"best: of\": {{nice: 1.0}}\n")).unwrap_err();
        assert!(error.contains("already"), "{error}");
    }
}
