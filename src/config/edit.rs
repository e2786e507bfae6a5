//! Changing weights and ranges in a file, with its comments and its order.

use std::path::Path;

use super::error::{ConfigError, Problem, Source};
use super::overrides::Overrides;
use super::positions::Position;
use super::types::Config;

/// The text of a configuration with other weights in `arms:`; everything else stays as it is written.
///
/// # Errors
///
/// [`ConfigError`] where the text is no valid configuration, an ARM is unknown, or its weight is written in a way that
/// cannot be changed in place (an alias, a merge key): then it must be edited by hand.
pub fn set_weights(text: &str, file: &Path, weights: &[(String, f32)]) -> Result<String, ConfigError> {
    let before = Config::parse(text, file, &Overrides::default())?;
    let (mut text, mut expected) = (text.to_owned(), before.clone());
    for (name, weight) in weights {
        let arm = before.arm_index(name)?;
        // Each change is made on the text of the last one, whose positions are read anew.
        text = set_key(&Source::parse(&text, file)?, &text, name, "weight", &format!("{weight:?}"));
        expected.arms[arm].weight = *weight;
        expected.arms[arm].default_weight = *weight;
    }
    let names = weights.iter().map(|(name, _)| name.as_str());
    checked(text, file, &expected, "weight", names)
}

/// The text of a configuration with these ranges in `arms:`; everything else stays as it is written.
///
/// # Errors
///
/// As [`set_weights`].
pub fn set_ranges(text: &str, file: &Path, ranges: &[(String, [f32; 2])]) -> Result<String, ConfigError> {
    let before = Config::parse(text, file, &Overrides::default())?;
    let (mut text, mut expected) = (text.to_owned(), before.clone());
    for (name, range) in ranges {
        let arm = before.arm_index(name)?;
        text = set_key(&Source::parse(&text, file)?, &text, name, "range", &format!("{range:?}"));
        expected.arms[arm].range = Some(*range);
    }
    checked(text, file, &expected, "range", ranges.iter().map(|(name, _)| name.as_str()))
}

/// The new text, where it means what was asked for.
fn checked<'a>(
    text: String,
    file: &Path,
    expected: &Config,
    key: &str,
    names: impl Iterator<Item = &'a str>,
) -> Result<String, ConfigError> {
    // YAML has more ways to write a number than are dealt with here: so the new text is read, and must mean what was
    // asked for.
    match Config::parse(&text, file, &Overrides::default()) {
        Ok(after) if after == *expected => Ok(text),
        _ => {
            let names: Vec<_> = names.collect();
            let problem = "is written in a way that cannot be changed in place; edit the file by hand".to_owned();
            Err(ConfigError::usage(Problem::Invalid { key: format!("{key} of {}", names.join(", ")), problem }))
        }
    }
}

fn set_key(source: &Source<'_>, text: &str, name: &str, key: &str, new: &str) -> String {
    let arm = source.root.position_of(&["arms", name]);
    let value = source.root.position_of(&["arms", name, key]);
    // Without the key, the position is that of the ARM's mapping.
    if value != arm {
        let start = offset(text, value);
        return format!("{}{new}{}", &text[..start], &text[start + scalar_len(&text[start..])..]);
    }
    let start = offset(text, arm);
    if let Some(inside) = text[start..].strip_prefix('{') {
        return format!("{}{{{key}: {new}, {}", &text[..start], inside.trim_start());
    }
    // A block: a line of its own before the first key, as far in as that.
    let indent = &text[text[..start].rfind('\n').map_or(0, |newline| newline + 1)..start];
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    format!("{}{key}: {new}{newline}{indent}{}", &text[..start], &text[start..])
}

/// Where a plain or quoted number ends, or a list in brackets.
fn scalar_len(text: &str) -> usize {
    match text.chars().next() {
        Some('[') => text.find(']').map_or(text.len(), |end| end + 1),
        Some(quote @ ('"' | '\'')) => text[1..].find(quote).map_or(text.len(), |end| end + 2),
        _ => text.find([',', '}', '#', '\n', '\r', ' ', '\t']).unwrap_or(text.len()),
    }
}

/// The byte at a line and a column, which counts characters.
fn offset(text: &str, (line, column): Position) -> usize {
    let skip = usize::try_from(line).unwrap_or(1).saturating_sub(1);
    let start: usize = text.split_inclusive('\n').take(skip).map(str::len).sum();
    let column = usize::try_from(column).unwrap_or(1).saturating_sub(1);
    text[start..].char_indices().nth(column).map_or(text.len(), |(at, _)| start + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str, weights: &[(&str, f32)]) -> Result<String, String> {
        let weights: Vec<_> = weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
        set_weights(text, Path::new("prefs.yaml"), &weights).map_err(|error| error.to_string())
    }

    #[test]
    fn only_the_number_changes() {
        let text = "# mine\nbase: {model: b.gguf}\narms:\n  ünï: {model: a.gguf, weight: 1.0} # heard\n  b:\n    model: b.gguf\n    weight: -0.5   # steered away\n\nsampling: {temp: 0.7}\n";
        let new = set(text, &[("ünï", 0.25), ("b", 2.0)]).unwrap();
        assert_eq!(new, text.replace("weight: 1.0", "weight: 0.25").replace("weight: -0.5", "weight: 2.0"));
        assert_eq!(set(&text.replace('\n', "\r\n"), &[("b", 2.0), ("ünï", 0.25)]).unwrap(), new.replace('\n', "\r\n"));
    }

    #[test]
    fn a_weight_that_is_not_written_is_added() {
        let text = "base: {model: b.gguf}\narms:\n  a: {model: a.gguf}\n  b:\n    # the tuned one\n    model: b.gguf\n";
        assert_eq!(
            set(text, &[("a", 3.0), ("b", 0.0)]).unwrap(),
            "base: {model: b.gguf}\narms:\n  a: {weight: 3.0, model: a.gguf}\n  b:\n    # the tuned one\n    weight: 0.0\n    model: b.gguf\n"
        );
    }

    #[test]
    fn numbers_in_every_dress_are_found() {
        for dress in ["1", "+1", "1e0", "1.5", ".5", "-2.25"] {
            for (before, after) in [("{model: a.gguf, weight: ", "}"), ("\n    model: a.gguf\n    weight:   ", "")] {
                let text = format!("base: {{model: b.gguf}}\narms:\n  a: {before}{dress}{after}\nsampling: {{}}\n");
                let wanted = format!("base: {{model: b.gguf}}\narms:\n  a: {before}0.75{after}\nsampling: {{}}\n");
                assert_eq!(set(&text, &[("a", 0.75)]).unwrap(), wanted);
            }
        }
    }

    #[test]
    fn what_cannot_be_changed_in_place_is_refused_and_not_broken() {
        let shared = "base: {model: b.gguf}\narms:\n  a: &a {model: a.gguf, weight: 1.0}\n  b: *a\n";
        assert!(set(shared, &[("b", 2.0)]).unwrap_err().contains("by hand"));
        assert!(set(shared, &[("c", 2.0)]).unwrap_err().contains("unknown ARM \"c\""));
        assert!(set("base: [", &[("a", 1.0)]).unwrap_err().contains("prefs.yaml"));
    }
}
