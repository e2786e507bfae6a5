//! `genarm models`.

use std::path::Path;

use genarm::engine::gguf::{Array, GgufFile, Strings, Value};
use serde_json::Value as Json;

use super::hub::sha256;
use super::{Home, arm, bad, good, model, text, write};
use crate::support::models;
use crate::support::random::{self, lora, lora_that_says, model_that_reads};

/// The list as JSON.
fn listed(home: &Home, args: &[&str]) -> Vec<Json> {
    let output = good(home.genarm(&[&["models", "--json"], args].concat()));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The entry of this name.
fn entry<'a>(list: &'a [Json], name: &str) -> &'a Json {
    let names: Vec<_> = list.iter().map(|entry| entry["name"].as_str().expect("a name")).collect();
    list.iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("{name} is not among {names:?}"))
}

/// Puts a file into the Hugging Face cache at home.
fn into_cache(home: &Home, repo: &str, file: &str, bytes: impl AsRef<[u8]>) {
    let folder = home.cache().join(format!("models--{}", repo.replace('/', "--")));
    write(&folder.join("refs/main"), "abc");
    write(&folder.join("snapshots/abc").join(file), bytes);
}

/// Writes a model whose vocabulary is that of the test models, with unused tokens behind.
fn padded(path: &Path, n_more: usize) {
    let file = GgufFile::open_model(&models().base).expect("a model");
    let longer = |(key, value): &(String, Value)| {
        let value = match value.as_array() {
            Some(Array::Strings(texts)) if key.ends_with(".tokens") => {
                let texts = texts.iter().map(|text| String::from_utf8_lossy(text).into_owned());
                texts.chain((0..n_more).map(|i| format!("[PAD{i}]"))).collect::<Strings>().into()
            }
            Some(Array::F32(scores)) => [&scores[..], &vec![0.0; n_more]].concat().into(),
            Some(Array::I32(types)) => [&types[..], &vec![5; n_more]].concat().into(),
            _ => value.clone(),
        };
        (key.clone(), value)
    };
    let n_vocab = file.vocabulary().expect("a vocabulary").n_tokens() + n_more;
    let tokenizer = file.metadata().iter().filter(|(key, _)| key.starts_with("tokenizer.")).map(longer);
    model_that_reads(path, "llama", tokenizer, n_vocab);
}

#[test]
fn the_models_of_every_store_are_listed_with_what_they_can_steer() {
    let home = Home::new();
    into_cache(&home, "me/stories-GGUF", "stories-Q4_K_M.gguf", model());
    into_cache(&home, "me/stories-GGUF", "mmproj.gguf", "not listed");
    write(&home.path().join(".lmstudio/models/me/arms/arm.gguf"), arm());
    let hash = sha256(&model());
    let layer =
        serde_json::json!({"mediaType": "application/vnd.ollama.image.model", "digest": format!("sha256:{hash}")});
    write(&home.path().join(format!("ollama/blobs/sha256-{hash}")), model());
    write(
        &home.path().join("ollama/manifests/registry.ollama.ai/library/stories/latest"),
        serde_json::json!({"layers": [layer]}).to_string(),
    );
    let folder = home.path().join("folder");
    padded_into(&folder, "padded.gguf");
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/base.gguf");
    write(&folder.join("other.gguf"), std::fs::read(other).expect("a model"));
    let list = listed(&home, &["--dir", folder.to_str().expect("UTF-8")]);
    assert_eq!(list.len(), 5, "{list:?}");
    let [stored, arm, ollama] = ["hf:me/stories-GGUF:Q4_K_M", "lmstudio:me/arms/arm.gguf", "ollama:stories:latest"];
    let (padded, other) =
        (folder.join("padded.gguf").display().to_string(), folder.join("other.gguf").display().to_string());
    let steered: Vec<_> = entry(&list, arm)["can_steer"].as_array().expect("a list").clone();
    let expected = [(stored, false), (ollama, false), (&padded, true)];
    for (name, padded) in expected {
        assert!(steered.contains(&serde_json::json!({"name": name, "padded": padded})), "{name}: {steered:?}");
    }
    assert_eq!(steered.len(), 3);
    assert_eq!(entry(&list, &other)["can_steer"], serde_json::json!([]));
    assert_eq!(entry(&list, stored)["vocabulary"], entry(&list, arm)["vocabulary"]);
    assert_ne!(entry(&list, stored)["vocabulary"], entry(&list, &padded)["vocabulary"]);
    assert_eq!(entry(&list, stored)["bytes"].as_u64(), Some(model().len() as u64));
    // What is said holds.
    let steer = |base: &str| home.genarm(&["generate", "--base", base, "--arm", &format!("a={arm}"), "-n", "2", "Hi"]);
    good(steer(stored));
    good(steer(&padded));
    bad(steer(&other));
    let shown = text(&good(home.genarm(&["models"])).stdout);
    assert!(
        shown.contains("Can steer each other (one vocabulary):")
            && shown.contains(stored)
            && shown.contains("ARCHITECTURE"),
        "{shown}"
    );
}

fn padded_into(folder: &Path, name: &str) {
    std::fs::create_dir_all(folder).expect("made");
    padded(&folder.join(name), 12);
}

#[test]
fn broken_files_are_listed_with_the_reason_and_do_not_end_the_list() {
    let home = Home::new();
    into_cache(&home, "me/a", "a-Q8_0.gguf", &model()[..5000]);
    into_cache(&home, "me/b", "b-Q8_0.gguf", "<html>");
    into_cache(&home, "me/c", "c-Q8_0.gguf", model());
    write(&home.path().join("ollama/manifests/registry.ollama.ai/library/gone/latest"), "{}");
    let list = listed(&home, &[]);
    let problem = |name: &str| entry(&list, name)["problem"].as_str().expect("a reason").to_owned();
    assert!(problem("hf:me/a:Q8_0").contains("damaged"), "{}", problem("hf:me/a:Q8_0"));
    assert!(problem("hf:me/b:Q8_0").contains("is not a GGUF file"));
    assert!(problem("ollama:gone:latest").contains("lists no GGUF"));
    assert_eq!(entry(&list, "hf:me/c:Q8_0").get("problem"), None);
    let output = good(home.genarm(&["models"]));
    let shown = text(&output.stdout);
    let broken = shown.split("Cannot be used:\n").nth(1).expect("a list");
    assert_eq!(broken.lines().count(), 3, "{shown}");
}

#[test]
fn adapters_are_listed_with_the_models_that_they_fit() {
    let home = Home::new();
    let folder = home.path().join("folder");
    padded_into(&folder, "base.gguf");
    lora(&folder.join("adapter.gguf"), "llama", 4, &["attn_q"], 1, None);
    lora(&folder.join("stranger.gguf"), "qwen2", 4, &["attn_q"], 1, None);
    let folder = folder.to_str().expect("UTF-8");
    let list = listed(&home, &["--dir", folder]);
    let name = |file: &str| Path::new(folder).join(file).display().to_string();
    let fits = &entry(&list, &name("adapter.gguf"))["fits"];
    assert_eq!(*fits, serde_json::json!([name("base.gguf")]));
    assert_eq!(entry(&list, &name("stranger.gguf")).get("fits"), None);
    let shown = text(&good(home.genarm(&["models", "--dir", folder])).stdout);
    assert!(shown.contains(&format!("{}: {}", name("adapter.gguf"), name("base.gguf"))), "{shown}");
    assert!(shown.contains(&format!("{}: no model here", name("stranger.gguf"))), "{shown}");
}

#[test]
fn what_a_crafted_file_says_ends_no_list_and_reaches_no_terminal() {
    let home = Home::new();
    let folder = home.path().join("folder");
    std::fs::create_dir_all(&folder).expect("made");
    let adapter = folder.join("adapter.gguf");
    let texts = [("genarm.vocab.hash", "1234567é9"), ("general.name", "a\u{1b}[31m"), ("genarm.objective", "\u{7}")];
    lora_that_says(&adapter, "x\u{1b}[2J", &texts);
    let folder = folder.to_str().expect("UTF-8");
    for args in [&["models", "--dir", folder][..], &["inspect", "--all", adapter.to_str().expect("UTF-8")]] {
        let shown = text(&good(home.genarm(args)).stdout);
        assert!(shown.contains("x\\u{1b}[2J") && !shown.contains(['\u{1b}', '\u{7}']), "{shown}");
    }
    assert_eq!(listed(&home, &["--dir", folder])[0]["vocabulary"], Json::Null);
}

#[test]
fn models_that_end_their_texts_with_other_tokens_are_told_apart() {
    let home = Home::new();
    let folder = home.path().join("folder");
    std::fs::create_dir_all(&folder).expect("made");
    let file = GgufFile::open_model(&models().base).expect("a model");
    let other = |(key, value): &(String, Value)| match key.as_str() {
        "tokenizer.ggml.eos_token_id" => (key.clone(), 7u32.into()),
        _ => (key.clone(), value.clone()),
    };
    let vocabulary = file.vocabulary().expect("a vocabulary");
    let tokenizer = file.metadata().iter().filter(|(key, _)| key.starts_with("tokenizer.")).map(other);
    model_that_reads(&folder.join("other-end.gguf"), "llama", tokenizer, vocabulary.n_tokens());
    into_cache(&home, "me/stories", "stories.gguf", model());
    let folder = folder.to_str().expect("UTF-8");
    let shown = text(&good(home.genarm(&["models", "--dir", folder])).stdout);
    let line = shown.split("cannot steer each other:\n").nth(1).and_then(|rest| rest.lines().next()).expect("a line");
    assert!(
        line.contains("hf:me/stories/stories.gguf and ") && line.contains("other-end.gguf: eos is token"),
        "{shown}"
    );
    assert!(!shown.contains("Can steer each other"), "{shown}");
}

#[test]
fn the_recipe_for_a_base_is_a_configuration_that_generates() {
    let home = Home::new();
    into_cache(&home, "me/Big-2M-GGUF", "big-2m-Q8_0.gguf", model());
    let tale = home.path().join("tale.gguf");
    random::model(&tale, "llama");
    let tale = std::fs::read(&tale).expect("a model");
    into_cache(&home, "me/Tale-1M-Instruct-GGUF", "tale-1m-instruct-Q8_0.gguf", &tale);
    into_cache(&home, "me/Tale-1M-GGUF", "tale-1m-Q8_0.gguf", &tale);
    let folder = home.path().join("a folder");
    padded_into(&folder, "padded.gguf");
    lora(&folder.join("adapter.gguf"), "llama", 4, &["attn_q"], 1, None);
    let output =
        good(home.genarm(&["models", "--dir", folder.to_str().expect("UTF-8"), "--pairs", "hf:me/Big-2M-GGUF"]));
    let yaml = text(&output.stdout);
    let parsed: Json = serde_saphyr::from_str(&yaml).unwrap_or_else(|e| panic!("{e}: {yaml}"));
    let schema: Json = serde_json::from_str(&genarm::config::json_schema()).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    assert!(validator.is_valid(&parsed), "{yaml}");
    assert_eq!(parsed["base"], "hf:me/Big-2M-GGUF:Q8_0");
    let tuned = &parsed["arms"]["tale-1m-instruct"];
    assert_eq!(
        (tuned["model"].as_str(), tuned["reference"].as_str()),
        (Some("hf:me/Tale-1M-Instruct-GGUF:Q8_0"), Some("hf:me/Tale-1M-GGUF:Q8_0"),),
        "{yaml}"
    );
    assert!(parsed["arms"]["adapter"]["lora"].as_str().is_some_and(|path| path.ends_with("adapter.gguf")), "{yaml}");
    // Wherever the file is, with every way on.
    let config = home.path().join("elsewhere/prefs.yaml");
    write(&config, yaml.replace("weight: 0.0", "weight: 0.5"));
    let output =
        good(home.genarm(&["generate", "-f", config.to_str().expect("UTF-8"), "-n", "4", "--seed", "1", "Once"]));
    assert!(!output.stdout.is_empty());
    // Of the untuned model itself: the tuned one less the base.
    let output = good(home.genarm(&["models", "--pairs", "hf:me/Tale-1M-GGUF"]));
    let parsed: Json = serde_saphyr::from_str(&text(&output.stdout)).expect("YAML");
    assert_eq!(parsed["arms"]["tale-1m-instruct"]["reference"], "base");
}

#[test]
fn the_recipe_translates_arms_of_other_vocabularies() {
    let home = Home::new();
    let folder = home.path().join("folder");
    std::fs::create_dir_all(&folder).expect("made");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["base.gguf", "arm-cheerful.gguf"] {
        std::fs::copy(repository.join("models").join(file), folder.join(file)).expect("a copy");
    }
    lora(&folder.join("other.gguf"), "llama", 4, &["attn_q"], 1, None);
    let base = repository.join("tests/models/stories260K.gguf").display().to_string();
    let folder = folder.to_str().expect("UTF-8");
    let yaml = text(&good(home.genarm(&["models", "--dir", folder, "--pairs", &base])).stdout);
    let parsed: Json = serde_saphyr::from_str(&yaml).unwrap_or_else(|e| panic!("{e}: {yaml}"));
    let cheerful = &parsed["arms"]["arm-cheerful"];
    assert_eq!(cheerful["model"], format!("{folder}/base.gguf"), "{yaml}");
    assert_eq!(cheerful["vocabulary"], "translate", "{yaml}");
    // What fits the base itself needs no translation.
    assert_eq!(parsed["arms"].as_object().map(serde_json::Map::len), Some(2), "{yaml}");
    assert_eq!(parsed["arms"]["other"].get("vocabulary"), None, "{yaml}");
    let config = home.path().join("prefs.yaml");
    write(&config, yaml.replace("weight: 0.0", "weight: 0.5"));
    let config = config.to_str().expect("UTF-8");
    assert!(!good(home.genarm(&["generate", "-f", config, "-n", "4", "--seed", "1", "Once"])).stdout.is_empty());
}

#[test]
fn a_base_that_nothing_steers_and_files_that_are_none_are_said() {
    let home = Home::new();
    let output = good(home.genarm(&["models"]));
    assert!(output.stdout.is_empty() && text(&output.stderr).contains("genarm pull hf:USER/REPO"));
    assert_eq!(listed(&home, &[]), Vec::<Json>::new());
    let base = models().base.display().to_string();
    let (line, code) = bad(home.genarm(&["models", "--pairs", &base]));
    assert!(line.contains("can steer") && line.contains("--persona"), "{line}");
    assert_eq!(code, Some(1));
    let (line, _) = bad(home.genarm(&["models", "--pairs", "hf:me/x", "--offline"]));
    assert!(line.contains("run genarm pull hf:me/x"), "{line}");
    let (line, code) = bad(home.genarm(&["models", "--dir", "no-such-folder"]));
    assert!(line.contains("--dir: no-such-folder is no folder"), "{line}");
    assert_eq!(code, Some(2));
}
