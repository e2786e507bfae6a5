//! Changing weights and ranges in a file, with its comments and its order.

use std::path::Path;

use super::error::{ConfigError, Problem, Source};
use super::overrides::Overrides;
use super::positions::Position;
use super::resolve::parse_unopened;
use super::steering::find;
use super::types::Config;

/// The text of a configuration with other weights in `arms:`; everything else stays as it is written. Where `overrides`
/// choose a model of a host, the weights are those of its entry of `hosts:`.
///
/// # Errors
///
/// [`ConfigError`] where the text is no valid configuration, an ARM is unknown, or its weight is written in a way that
/// cannot be changed in place (an alias, a merge key): then it must be edited by hand.
pub fn set_weights(
    text: &str,
    file: &Path,
    overrides: &Overrides,
    weights: &[(String, f32)],
) -> Result<String, ConfigError> {
    let entry = overrides.host.as_ref().and_then(|host| host.entry.as_deref());
    let before = parse_unopened(text, file, overrides)?;
    let (mut text, mut expected) = (text.to_owned(), before.clone());
    for (name, weight) in weights {
        let knob = find(&before.arms, name).ok_or_else(|| before.unknown_weight(name))?;
        let valid = knob.check(&before.arms, *weight);
        valid.map_err(|problem| ConfigError::usage(Problem::Invalid { key: name.clone(), problem }))?;
        knob.set(&mut expected.arms, *weight);
        // Each change is made on the text of the last one, whose positions are read anew.
        let source = Source::parse(&text, file)?;
        let new = format!("{weight:?}");
        text = match entry.filter(|entry| !is_weight_of_arm(&source, entry, name)) {
            Some(entry) if source.root.has(&["hosts", entry, "weights"]) => {
                set_key(&source, &text, &["hosts", entry, "weights"], name, &new)
            }
            Some(entry) => set_key(&source, &text, &["hosts", entry], "weights", &format!("{{{name}: {new}}}")),
            None => {
                let (arm, objective) = knob.names(&before.arms);
                let arm = [entry.map_or(vec![], |entry| vec!["hosts", entry]), vec!["arms", arm]].concat();
                knob.set_default(&mut expected.arms, *weight);
                match objective {
                    None => set_key(&source, &text, &arm, "weight", &new),
                    Some(objective) => {
                        let preferences = [&arm[..], &["preferences"]].concat();
                        match source.root.has(&preferences) {
                            true => set_key(&source, &text, &preferences, objective, &new),
                            // With one of them the others would be at 0.
                            false => set_key(&source, &text, &arm, "preferences", &knob.all(&expected.arms)),
                        }
                    }
                }
            }
        };
    }
    let names = weights.iter().map(|(name, _)| name.as_str());
    checked(text, file, overrides, &expected, "weight", names)
}

/// Whether the weight of an ARM is set where an entry of `hosts:` defines the ARM: not in the file's `arms:`, which
/// other entries share, and not where the entry's profile or `weights:` beat it.
fn is_weight_of_arm(source: &Source<'_>, entry: &str, arm: &str) -> bool {
    let has = |path: &[&str]| source.root.has(&[&["hosts", entry], path].concat());
    has(&["arms", arm]) && !has(&["profile"]) && !has(&["weights", arm])
}

/// The text of a configuration with these ranges in `arms:`; everything else stays as it is written.
///
/// # Errors
///
/// As [`set_weights`].
pub fn set_ranges(text: &str, file: &Path, ranges: &[(String, [f32; 2])]) -> Result<String, ConfigError> {
    let before = parse_unopened(text, file, &Overrides::default())?;
    let (mut text, mut expected) = (text.to_owned(), before.clone());
    for (name, range) in ranges {
        let arm = before.arm_index(name)?;
        text = set_key(&Source::parse(&text, file)?, &text, &["arms", name], "range", &format!("{range:?}"));
        expected.arms[arm].range = Some(*range);
    }
    checked(text, file, &Overrides::default(), &expected, "range", ranges.iter().map(|(name, _)| name.as_str()))
}

/// The new text, where it means what was asked for.
fn checked<'a>(
    text: String,
    file: &Path,
    overrides: &Overrides,
    expected: &Config,
    key: &str,
    names: impl Iterator<Item = &'a str>,
) -> Result<String, ConfigError> {
    // YAML has more ways to write a number than are dealt with here: so the new text is read, and must mean what was
    // asked for.
    match parse_unopened(&text, file, overrides) {
        Ok(after) if after == *expected => Ok(text),
        _ => {
            let names: Vec<_> = names.collect();
            let problem = "is written in a way that cannot be changed in place; edit the file by hand".to_owned();
            Err(ConfigError::usage(Problem::Invalid { key: format!("{key} of {}", names.join(", ")), problem }))
        }
    }
}

/// The text with another value of `key` in a mapping.
fn set_key(source: &Source<'_>, text: &str, mapping: &[&str], key: &str, new: &str) -> String {
    let value = [mapping, &[key]].concat();
    if source.root.has(&value) {
        let start = offset(text, source.root.position_of(&value));
        return format!("{}{new}{}", &text[..start], &text[start + scalar_len(&text[start..])..]);
    }
    let start = offset(text, source.root.position_of(mapping));
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
    use crate::config::HostModel;

    fn set(text: &str, weights: &[(&str, f32)]) -> Result<String, String> {
        let weights: Vec<_> = weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
        set_weights(text, Path::new("prefs.yaml"), &Overrides::default(), &weights).map_err(|error| error.to_string())
    }

    fn set_of_host(text: &str, weights: &[(&str, f32)]) -> Result<String, String> {
        let weights: Vec<_> = weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
        let host = HostModel { entry: Some("m.gguf".to_owned()), model: "m.gguf".into() };
        let overrides = Overrides { host: Some(host), ..Overrides::default() };
        set_weights(text, Path::new("prefs.yaml"), &overrides, &weights).map_err(|error| error.to_string())
    }

    #[test]
    fn a_weight_of_one_model_is_set_in_its_entry_alone() {
        let own = "base: b.gguf\narms:\n  a: {model: a.gguf, weight: 1.0}\nhosts:\n  m.gguf:\n    arms:\n      a: {model: a.gguf, weight: 1.0} # here\n  n.gguf: {}\n";
        let new = set_of_host(own, &[("a", 2.0)]).unwrap();
        assert_eq!(new, own.replace("weight: 1.0} # here", "weight: 2.0} # here"));
        // The file's ARMs, the profile's weights and the entry's own stay: other models have them too.
        for (before, after) in [
            ("m.gguf: {}", "m.gguf: {weights: {a: 2.0}, }"),
            ("m.gguf: {profile: p}", "m.gguf: {weights: {a: 2.0}, profile: p}"),
            ("m.gguf: {weights: {a: 0.5}}", "m.gguf: {weights: {a: 2.0}}"),
            ("m.gguf: {weights: {b: 0.5}}", "m.gguf: {weights: {a: 2.0, b: 0.5}}"),
            (
                "m.gguf:\n    # mine\n    on_error: stop",
                "m.gguf:\n    # mine\n    weights: {a: 2.0}\n    on_error: stop",
            ),
            (
                "m.gguf:\n    profile: p\n    weights:\n      b: 1",
                "m.gguf:\n    profile: p\n    weights:\n      a: 2.0\n      b: 1",
            ),
        ] {
            let file = "arms: {a: a.gguf, b: b.gguf}\nprofiles: {p: {a: 3}}\nhosts:\n  ";
            assert_eq!(set_of_host(&format!("{file}{before}\n"), &[("a", 2.0)]).unwrap(), format!("{file}{after}\n"));
        }
        let unknown = set_of_host("arms: {a: a.gguf}\nhosts: {m.gguf: {}}\n", &[("b", 1.0)]).unwrap_err();
        assert!(unknown.contains("unknown ARM \"b\""), "{unknown}");
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
