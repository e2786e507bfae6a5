//! A configuration of what can steer a base here.

use std::fmt::Write as _;
use std::path::Path;

use super::catalogue::{Catalogue, Listed};
use crate::files::model_name;
use crate::stores::ModelName;

/// A way to steer, as an entry of `arms:`.
struct Way {
    name: String,
    /// What it is, in words.
    about: String,
    keys: Vec<(&'static str, String)>,
}

/// The YAML for a base, which every command takes; `None` where nothing here can steer it.
pub fn recipe(catalogue: &Catalogue, base: &Listed) -> Option<String> {
    let mut ways = ways(catalogue, base);
    if ways.is_empty() {
        return None;
    }
    name_apart(&mut ways);
    let mut out =
        format!("# What can steer {} on this machine. `/weight NAME W` in genarm chat tries them.\n", base.name);
    let _ = write!(out, "base: {}\n\narms:\n", scalar(base));
    for (i, way) in ways.iter().enumerate() {
        let _ = writeln!(out, "  # {}", way.about);
        let _ = writeln!(out, "  {}:", quoted(&way.name));
        for (key, value) in &way.keys {
            let _ = writeln!(out, "    {key}: {value}");
        }
        // One at a time: together they would pull in all directions.
        let _ = writeln!(out, "    weight: {}", if i == 0 { "1.0" } else { "0.0" });
    }
    Some(out)
}

/// All ways, the likeliest to help first: of the base's own vocabulary, then of others.
fn ways(catalogue: &Catalogue, base: &Listed) -> Vec<Way> {
    let steers = |arm: &&Listed| arm.can_steer.iter().any(|steered| base.is_called(&steered.name));
    let translates = |arm: &&Listed| !steers(arm) && arm.can_translate.iter().any(|name| base.is_called(name));
    let arms = || catalogue.all.iter().filter(|arm| !base.is_called(&arm.name));
    let mut ways = ways_of(catalogue, base, &arms().filter(steers).collect::<Vec<_>>());
    let mut translated = ways_of(catalogue, base, &arms().filter(translates).collect::<Vec<_>>());
    for way in &mut translated {
        way.about += ", of another vocabulary";
        way.keys.push(("vocabulary", "translate".to_owned()));
    }
    ways.append(&mut translated);
    ways
}

fn ways_of(catalogue: &Catalogue, base: &Listed, arms: &[&Listed]) -> Vec<Way> {
    let is_arm = |arm: &Listed| arm.objective.as_deref() == Some("arm");
    let mut ways = Vec::new();
    for trained in [true, false] {
        let adapters = arms.iter().filter(|arm| arm.is_adapter() && is_arm(arm) == trained);
        ways.extend(adapters.filter_map(|arm| adapter(catalogue, base, arm, trained)));
        let models = arms.iter().filter(|arm| arm.is_model() && is_arm(arm) == trained);
        ways.extend(models.filter_map(|arm| if trained { Some(arm_model(arm)) } else { tuned(catalogue, base, arm) }));
    }
    ways
}

fn adapter(catalogue: &Catalogue, base: &Listed, arm: &Listed, trained: bool) -> Option<Way> {
    let on_base = arm.fits.iter().any(|name| base.is_called(name));
    let backbones = catalogue.all.iter().filter(|model| arm.fits.contains(&model.name));
    let (mut keys, mut about) = (Vec::new(), "an adapter on the base".to_owned());
    let mut reference = ("base".to_owned(), "the base".to_owned());
    if !on_base {
        let backbone = backbones.min_by_key(|model| (!arm.was_trained_on(model), model.bytes))?;
        keys.push(("model", scalar(backbone)));
        about = format!("an adapter on {}", quoted(&backbone.name));
        if arm.can_translate.iter().any(|name| base.is_called(name)) {
            reference = (scalar(backbone), "that model".to_owned());
        }
    }
    keys.push(("lora", scalar(arm)));
    if !trained {
        keys.push(("reference", reference.0));
        about += &format!(", less {}", reference.1);
    }
    Some(Way { name: short(arm), about, keys })
}

fn arm_model(arm: &Listed) -> Way {
    Way { name: short(arm), about: "a reward model of genarm train".to_owned(), keys: vec![("model", scalar(arm))] }
}

/// A tuned model, less the one that it was tuned from.
fn tuned(catalogue: &Catalogue, base: &Listed, arm: &Listed) -> Option<Way> {
    let from = catalogue.all.iter().find(|model| Some(&model.name) == arm.tuned_from.as_ref())?;
    let reference = if base.is_called(&from.name) { "base".to_owned() } else { scalar(from) };
    let about = format!("what tuning added to {}", quoted(&from.name));
    Some(Way { name: short(arm), about, keys: vec![("model", scalar(arm)), ("reference", reference)] })
}

/// A model as YAML names it: by a name, or by a path that holds wherever the YAML is.
fn scalar(model: &Listed) -> String {
    if ModelName::is_name(&model.name) {
        return quoted(&model.name);
    }
    let path = std::path::absolute(&model.name).unwrap_or_else(|_| model.name.clone().into());
    quoted(&path.to_string_lossy())
}

/// A text in YAML.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:+".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let is_word =
        !matches!(text.to_ascii_lowercase().as_str(), "null" | "true" | "false" | "yes" | "no" | "on" | "off");
    match begins && is_word && text.chars().all(is_plain) && !text.ends_with(':') {
        true => text.to_owned(),
        // JSON is YAML.
        false => serde_json::Value::from(text).to_string(),
    }
}

/// A name for the ARM: the last part of the model's.
fn short(model: &Listed) -> String {
    let last = model.name.rsplit(['/', '\\']).next().unwrap_or(&model.name);
    // Without a tag or a quantisation.
    let stem = model_name(Path::new(last.trim_start_matches("ollama:").split(':').next().unwrap_or(last)));
    let kept = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c.to_ascii_lowercase() } else { '-' };
    let name: String = stem.chars().map(kept).collect();
    let name = name.trim_end_matches("-gguf").trim_matches('-').to_owned();
    if name.is_empty() { "arm".to_owned() } else { name }
}

/// Gives equal names a number.
fn name_apart(ways: &mut [Way]) {
    for i in 0..ways.len() {
        let (before, rest) = ways.split_at_mut(i);
        let taken = |name: &str| before.iter().any(|way| way.name == name);
        let plain = rest[0].name.clone();
        let mut n = 2;
        while taken(&rest[0].name) {
            rest[0].name = format!("{plain}-{n}");
            n += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_quoted_where_yaml_would_read_something_else() {
        for plain in ["hf:a/b-GGUF:Q4_K_M", "/x/y.gguf", "ollama:llama3.2:1b"] {
            assert_eq!(quoted(plain), plain);
        }
        for other in ["C:\\x", "a b", "no", "1.5", "x: y", "ä", "x:", "'", "#x", ""] {
            assert_eq!(quoted(other), serde_json::Value::from(other).to_string());
        }
    }
}
