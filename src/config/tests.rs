use std::path::Path;

use clap::Parser;

use super::*;
use crate::sampling::params::{BiasKey, SamplingParams};

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    overrides: Overrides,
}

fn flags(args: &[&str]) -> Overrides {
    Flags::try_parse_from([&["test"], args].concat()).unwrap().overrides
}

const FILE: &str = "base: {model: base.gguf, n_ctx: 512}\n\
    arms:\n  kind: {model: kind.gguf, weight: 0.5}\n  brief: {lora: [{path: brief.gguf}], n_ctx: 128}\n\
    sampling: {temp: 0.5, top_k: 7}\n\
    profiles:\n  careful: {kind: 2}\n";

fn parse(args: &[&str]) -> Result<Config, ConfigError> {
    Config::parse(FILE, Path::new("folder/prefs.yaml"), &flags(args))
}

#[test]
fn a_weight_flag_beats_the_profile_which_beats_the_arm() {
    assert_eq!(parse(&[]).unwrap().weights(), [0.5, 1.0]);
    assert_eq!(parse(&["--profile", "careful"]).unwrap().weights(), [2.0, 1.0]);
    assert_eq!(parse(&["--profile", "careful", "--weight", "kind=-3"]).unwrap().weights(), [-3.0, 1.0]);
    assert_eq!(parse(&["--weight", "kind=9"]).unwrap().profile("careful").unwrap(), [2.0, 1.0]);
}

#[test]
fn a_fallback_is_the_base_where_neither_flag_nor_file_names_one() {
    let base = |text: &str, args: &[&str]| {
        let overrides = Overrides { fallback_base: Some("fallback.gguf".into()), ..flags(args) };
        Config::parse(text, Path::new("folder/prefs.yaml"), &overrides).unwrap().base
    };
    assert_eq!(base(FILE, &[]).model, Path::new("folder/base.gguf"));
    assert_eq!(base(FILE, &["--base", "typed.gguf"]).model, Path::new("typed.gguf"));
    assert_eq!(base("sampling: {temp: 0}", &[]).model, Path::new("fallback.gguf"));
    let own_settings = base("base: {n_ctx: 64}", &[]);
    assert_eq!((own_settings.model.as_path(), own_settings.n_ctx), (Path::new("fallback.gguf"), Some(64)));
}

#[test]
fn threads_below_one_are_all_of_them_and_shares_stand_between_commas_or_slashes() {
    let all = std::thread::available_parallelism().unwrap().get();
    for n in ["-1", "0"] {
        assert_eq!(flags(&["-t", n]).engine.threads.map(|n| n as usize), Some(all), "{n}");
    }
    assert_eq!(flags(&["--threads-batch", "3"]).engine.threads_batch, Some(3));
    assert!(Flags::try_parse_from(["test", "-t", "many"]).is_err());
    assert_eq!(flags(&["--tensor-split", "3/1,2"]).engine.tensor_split, Some(vec![3.0, 1.0, 2.0]));
}

#[test]
fn paths_start_at_the_file_and_flags_at_the_working_directory() {
    let config = parse(&["--arm", "new=new.gguf:0.25"]).unwrap();
    assert_eq!(config.base.model, Path::new("folder/base.gguf"));
    assert_eq!(config.arms[1].spec.model, config.base.model, "a LoRA ARM without a model is on the base's");
    assert_eq!(config.arms[1].spec.lora[0].path, Path::new("folder/brief.gguf"));
    assert_eq!(config.arms[2].spec.model, Path::new("new.gguf"));
    assert_eq!(config.arms[2].weight, 0.25);
}

#[test]
fn arms_take_their_settings_from_the_base_and_flags_beat_both() {
    let config = parse(&[]).unwrap();
    assert_eq!((config.arms[0].spec.n_ctx, config.arms[1].spec.n_ctx), (Some(512), Some(128)));
    let config = parse(&["-c", "64"]).unwrap();
    assert_eq!(
        (config.base.n_ctx, config.arms[0].spec.n_ctx, config.arms[1].spec.n_ctx),
        (Some(64), Some(64), Some(64))
    );
}

#[test]
fn sampling_flags_replace_what_the_file_says() {
    let config = parse(&["--temp", "0", "--samplers", "temperature;top_p"]).unwrap();
    assert_eq!((config.sampling.temp, config.sampling.top_k), (0.0, 7));
    assert_eq!(config.sampling.samplers.len(), 2);
}

#[test]
fn wrong_flags_are_usage_errors_with_the_nearest_name() {
    for (args, message) in [
        (&["--profile", "carefull"][..], "--profile: unknown profile \"carefull\"; did you mean \"careful\"?"),
        (&["--weight", "knid=1"], "--weight: unknown ARM \"knid\"; did you mean \"kind\"?"),
        (&["--arm", "a=x.gguf", "--arm", "a=y.gguf"], "--arm: ARM \"a\" is given twice"),
        (&["--top-p", "1.5"], "--top-p: must be between 0 and 1, got 1.5"),
        (&["--temp", "nan"], "--temp: must be at least 0, got NaN"),
    ] {
        let error = parse(args).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert!(error.is_usage());
    }
}

#[test]
fn a_long_text_is_repeated_in_parts_only_and_on_one_line() {
    let long = "x".repeat(1_000_000);
    for args in [["--profile", long.as_str()], ["--weight", &format!("{long}=1")]] {
        let error = parse(&args).unwrap_err().to_string();
        assert!(error.contains("xxx") && error.len() < 400, "{error}");
    }
    let texts = [
        format!("{long}: 1"),
        format!("base: {{model: b.gguf, {long}: 1}}"),
        format!("base: {{model: b.gguf}}\nsampling: {{temp: {long}}}"),
        format!("base: {{model: b.gguf}}\nsampling: {{samplers: [{long}]}}"),
        format!("base: {{model: b.gguf}}\nprofiles: {{p: {{{long}: 1}}}}"),
        "base: {model: b.gguf}\n\"a\\nERROR \\u001b[31m\": 1".to_owned(),
    ];
    for text in texts {
        let error = Config::parse(&text, Path::new("prefs.yaml"), &flags(&[])).unwrap_err().to_string();
        let start: String = text.chars().take(80).collect();
        assert!(error.chars().count() < 600, "{start}: {} characters", error.chars().count());
        assert!(!error.chars().any(char::is_control), "{start}: {error:?}");
    }
}

#[test]
fn tens_of_thousands_of_biases_are_laid_over_others_and_the_later_ones_hold() {
    let mut params = SamplingParams { logit_bias: vec![(BiasKey::Token(1), 1.0)], ..Default::default() };
    let own = (0..85_000).map(|i| (BiasKey::Token(i), 2.0)).chain([(BiasKey::Token(7), 3.0)]).collect();
    SamplingOptions { logit_bias: own, ..Default::default() }.apply(&mut params);
    assert_eq!(params.logit_bias.len(), 85_000);
    let bias = |id| params.logit_bias.iter().find(|(key, _)| *key == BiasKey::Token(id)).map(|(_, bias)| *bias);
    assert_eq!((bias(1), bias(7)), (Some(2.0), Some(3.0)));
}

#[test]
fn clap_refuses_weights_that_are_not_numbers() {
    for args in
        [["--weight", "kind"], ["--weight", "kind=inf"], ["--weight", "=1"], ["--arm", "kind"], ["--arm", "a=:1"]]
    {
        assert!(Flags::try_parse_from([&["test"][..], &args].concat()).is_err(), "{args:?}");
    }
}

#[test]
fn without_a_file_the_flags_are_enough() {
    let config = Config::load(None, &flags(&["--base", "b.gguf", "--arm", "kind=k.gguf"])).unwrap();
    assert_eq!((config.arms.len(), config.weights()), (1, vec![1.0]));
    let error = Config::load(None, &flags(&[])).unwrap_err();
    assert!(error.is_usage(), "{error}");
}

#[test]
fn with_a_seed_nothing_follows_measured_times_whoever_names_it_and_at_temperature_0_too() {
    let speculate = |args: &[&str]| parse(args).unwrap().speculate;
    assert_eq!(speculate(&[]), Speculate::Auto);
    for args in [
        &["--seed", "1"][..],
        &["--seed", "1", "--temp", "0"],
        &["--seed", "0", "--speculate", "auto"],
        &["--seed", "1", "--speculate", "off"],
    ] {
        assert_eq!(speculate(args), Speculate::Off, "{args:?}");
    }
    assert_eq!(speculate(&["--seed", "-1"]), Speculate::Auto, "-1 asks for a random seed");
    assert_eq!(
        speculate(&["--seed", "1", "--speculate", "lookup"]),
        Speculate::Lookup,
        "a fixed length follows no times"
    );
    let of_file = |text: &str| Config::parse(text, Path::new("p.yaml"), &Overrides::default()).unwrap().speculate;
    assert_eq!(of_file("{base: b.gguf, speculate: auto, sampling: {seed: 3}}"), Speculate::Off);
    assert_eq!(of_file("{base: b.gguf, speculate: auto}"), Speculate::Auto);
}

#[test]
fn a_path_stands_for_a_model_and_for_an_adapter() {
    let of = |text: &str| Config::parse(text, Path::new("folder/p.yaml"), &Overrides::default());
    let long = "base: {model: b.gguf}\narms:\n  kind: {model: k.gguf}\n  brief: {lora: [{path: l.gguf}]}\n";
    let short = "base: b.gguf\narms:\n  kind: k.gguf\n  brief: {lora: l.gguf}\n";
    assert_eq!(of(short), of(long));
    assert_eq!(of(&short.replace("lora: l.gguf", "lora: {path: l.gguf}")), of(long));
    assert_eq!(of(&short.replace("lora: l.gguf", "lora: [l.gguf]")), of(long));
    let error = |text: &str| of(text).unwrap_err().to_string();
    let expected = "expected a path or a mapping (key: value), got";
    assert_eq!(error("base: [b.gguf]\n"), format!("folder/p.yaml:1:7: base: {expected} a list"));
    assert_eq!(error("base: 5\n"), format!("folder/p.yaml:1:7: base: {expected} 5"));
    let wrong = error("base: b.gguf\narms:\n  kind: {lora: 5}\n");
    assert!(wrong.starts_with("folder/p.yaml:3:16: arms.kind.lora: expected a path, a mapping"), "{wrong}");
    let wrong = "base: b.gguf\narms:\n  kind: {modle: k.gguf}\n";
    assert_eq!(error(wrong), "folder/p.yaml:3:10: unknown key \"modle\" in arms.kind; did you mean \"model\"?");
}

#[test]
fn a_tilde_is_the_home_folder_in_files_and_flags() {
    let home = std::env::home_dir().expect("a home folder");
    let text = "{base: ~/b.gguf, arms: {kind: {lora: ~/l.gguf}}}";
    let config = Config::parse(text, Path::new("folder/p.yaml"), &flags(&["--arm", "new=~/n.gguf"])).unwrap();
    assert_eq!(config.base.model, home.join("b.gguf"));
    assert_eq!(config.arms[0].spec.lora[0].path, home.join("l.gguf"));
    assert_eq!(config.arms[1].spec.model, home.join("n.gguf"));
    let error = Config::parse("base: ~someone/b.gguf", Path::new("p.yaml"), &flags(&[])).unwrap_err().to_string();
    assert!(error.contains("base") && error.contains("~someone") && error.contains("whole path"), "{error}");
}

#[test]
fn sampling_takes_the_names_of_the_command_line() {
    let text = "{base: b.gguf, sampling: {temperature: 0.3, repeat_last_n: 5, typical_p: 0.5}}";
    let sampling = Config::parse(text, Path::new("p.yaml"), &flags(&[])).unwrap().sampling;
    assert_eq!((sampling.temp, sampling.penalty_last_n, sampling.typ_p), (0.3, 5, 0.5));
}

#[test]
fn a_system_prompt_makes_a_persona_of_the_base_with_the_base_as_its_reference() {
    let file = "base: {model: base.gguf, lora: style.gguf, n_ctx: 512}\n\
        arms:\n  kind: {system: Be kind.}\n  other: {model: chat.gguf, system: Be kind.}\n  bare: {system: Be brief., reference: none}\n";
    let config = Config::parse(file, Path::new("prefs.yaml"), &flags(&["--persona", "merry=Laugh."])).unwrap();
    let [kind, other, bare, merry] = &config.arms[..] else { panic!("four ARMs") };
    assert_eq!((&kind.spec, &bare.spec, &merry.spec), (&config.base, &config.base, &config.base));
    assert_eq!((&kind.reference, &other.reference), (&Reference::Base, &Reference::Base));
    assert_eq!((&bare.reference, &merry.reference), (&Reference::None, &Reference::Base));
    assert_eq!((merry.reading.system.as_deref(), merry.weight), (Some("Laugh."), 1.0));
    assert_eq!(other.spec.lora, [], "another model has no adapter of the base's");
}

#[test]
fn personas_are_refused_without_a_name_or_a_text() {
    let typed =
        |value: &str| Flags::try_parse_from(["test", "--persona", value]).map(|_| ()).map_err(|e| e.to_string());
    for (value, problem) in
        [("merry", "expected NAME=TEXT"), ("merry= ", "without a text"), ("=Laugh.", "cannot name an ARM")]
    {
        assert!(typed(value).unwrap_err().contains(problem), "{value}");
    }
    let twice = parse(&["--persona", "kind=Be kind."]).unwrap_err().to_string();
    assert!(twice.contains("--persona") && twice.contains("\"kind\" already"), "{twice}");
}

#[test]
fn limits_on_the_command_line_beat_those_of_the_file() {
    let file = "base: base.gguf\nguidance: {max_kl: 0.5, plausible: 0.1}\n";
    let limits = |args: &[&str]| Config::parse(file, Path::new("prefs.yaml"), &flags(args)).map(|c| c.guidance.limits);
    assert_eq!(limits(&["--max-kl", "2"]).unwrap(), Limits { max_kl: Some(2.0), plausible: Some(0.1) });
    assert!(limits(&["--plausible", "0"]).unwrap_err().to_string().contains("--plausible: must be above 0"));
}
