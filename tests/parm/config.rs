//! Preferences in the configuration and on the command line.

use genarm::config::{Config, Overrides, set_weights};

use super::Folder;

impl Folder {
    fn parse(&self, arms: &str, more: &str, overrides: &Overrides) -> Result<Config, String> {
        let file = self.path("prefs.yaml");
        Config::parse(&self.yaml(arms, more), &file, overrides).map_err(|error| error.to_string())
    }
}

fn weights(given: &[(&str, f32)]) -> Overrides {
    Overrides { weights: given.iter().map(|(name, w)| ((*name).to_owned(), *w)).collect(), ..Overrides::default() }
}

#[test]
fn objectives_are_alike_unless_some_are_given_and_the_others_are_then_at_0() {
    let folder = Folder::new();
    let numbers = |arms: &str| {
        let config = folder.parse(arms, "", &Overrides::default()).expect("a configuration");
        assert_eq!(config.weight_names(), ["taste", "taste.helpful", "taste.harmless"]);
        config.weights()
    };
    assert_eq!(numbers("taste: {lora: parm.gguf}"), [1.0, 0.5, 0.5]);
    assert_eq!(numbers("taste: {lora: parm.gguf, weight: 2, preferences: {harmless: 0.7}}"), [2.0, 0.0, 0.7]);
    let lora = folder.path("parm.gguf").display().to_string();
    let typed = Overrides {
        arms: vec![genarm::config::parse_arm(&format!("typed={lora}")).expect("an ARM")],
        ..weights(&[("typed.helpful", 1.0)])
    };
    let config = folder.parse("", "", &typed).expect("a configuration");
    assert_eq!((config.weight_names().len(), config.weights()), (3, vec![1.0, 1.0, 0.5]));
}

#[test]
fn preferences_stand_where_weights_do_and_the_same_rules_decide() {
    let folder = Folder::new();
    let arms = "taste: {lora: parm.gguf, preferences: {helpful: 0.25}}, other: {lora: parm.gguf}";
    let more = "profiles: {safe: {taste.harmless: 1, other: 0}}";
    let numbers = |overrides: Overrides| folder.parse(arms, more, &overrides).expect("a configuration").weights();
    let profile = |overrides: Overrides| Overrides { profile: Some("safe".to_owned()), ..overrides };
    assert_eq!(numbers(Overrides::default()), [1.0, 1.0, 0.25, 0.0, 0.5, 0.5]);
    assert_eq!(numbers(profile(Overrides::default())), [1.0, 0.0, 0.25, 1.0, 0.5, 0.5]);
    assert_eq!(numbers(profile(weights(&[("taste.harmless", 0.5)]))), [1.0, 0.0, 0.25, 0.5, 0.5, 0.5]);
    let config = folder.parse(arms, more, &weights(&[("taste.helpful", 1.0)])).expect("a configuration");
    assert_eq!(config.profile("safe").expect("a profile"), [1.0, 0.0, 0.25, 1.0, 0.5, 0.5]);
    assert_eq!(config.steering().names(), config.weight_names());
}

#[test]
fn a_wrong_preference_is_refused_where_it_stands() {
    let folder = Folder::new();
    crate::support::random::lora_on(&crate::support::models().base, &folder.path("plain.gguf"), 1, 0.1, "all");
    for (arms, more, words) in [
        (
            "taste: {lora: parm.gguf, preferences: {helpfull: 1}}",
            "",
            "taste.preferences.helpfull: unknown objective \"helpfull\"",
        ),
        ("taste: {lora: parm.gguf, preferences: {helpfull: 1}}", "", "did you mean \"helpful\"?"),
        (
            "taste: {lora: parm.gguf, preferences: {helpful: 1.5}}",
            "",
            "taste.preferences.helpful: must be between 0 and 1, got 1.5",
        ),
        ("taste: {lora: plain.gguf, preferences: {helpful: 1}}", "", "this ARM has none"),
        ("taste: {lora: [parm.gguf, parm.gguf]}", "", "several adapters with objectives"),
        ("taste: {lora: parm.gguf}, taste.helpful: {lora: plain.gguf}", "", "the name of an objective too"),
        ("taste: {lora: parm.gguf}", "profiles: {p: {taste.harmles: 1}}", "did you mean \"taste.harmless\"?"),
        ("taste: {lora: parm.gguf}", "profiles: {p: {taste.harmless: -1}}", "must be between 0 and 1, got -1"),
    ] {
        let error = folder.parse(arms, more, &Overrides::default()).expect_err(arms);
        assert!(error.contains(words) && error.contains("prefs.yaml") || error.contains("the name of"), "{error}");
    }
    let typed =
        |name: &str, w: f32| folder.parse("taste: {lora: parm.gguf}", "", &weights(&[(name, w)])).expect_err(name);
    assert!(typed("taste.helpful", 2.0).contains("--weight taste.helpful: must be between 0 and 1, got 2"));
    assert!(typed("taste.brief", 1.0).contains("unknown ARM \"taste.brief\""));
}

#[test]
fn preferences_are_written_into_the_file_with_its_words_kept() {
    let folder = Folder::new();
    let written = |arms: &str, name: &str, value: f32| {
        let text = folder.yaml(arms, "");
        let set = set_weights(&text, &folder.path("prefs.yaml"), &Overrides::default(), &[(name.to_owned(), value)]);
        set.map(|set| set.lines().nth(1).expect("the ARMs").to_owned()).map_err(|error| error.to_string())
    };
    let given = "taste: {lora: parm.gguf, preferences: {helpful: 0.25}}";
    assert_eq!(
        written(given, "taste.helpful", 0.5).expect("set"),
        format!("arms: {{{}}}", given.replace("0.25", "0.5"))
    );
    let both = "arms: {taste: {lora: parm.gguf, preferences: {harmless: 1.0, helpful: 0.25}}}";
    assert_eq!(written(given, "taste.harmless", 1.0).expect("set"), both);
    let none = written("taste: {lora: parm.gguf}", "taste.harmless", 1.0).expect("set");
    assert!(none.contains("preferences: {\"helpful\": 0.5, \"harmless\": 1.0}"), "the other stays: {none}");
    assert!(written(given, "taste.harmless", 3.0).expect_err("too much").contains("between 0 and 1"));
    assert!(written(given, "taste.brief", 1.0).expect_err("unknown").contains("unknown ARM \"taste.brief\""));
}
