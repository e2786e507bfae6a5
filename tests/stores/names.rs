//! Models of other programs' stores, by name.

use std::path::Path;

use super::hub::sha256;
use super::{Home, arm, bad, good, model, text, write};

/// Puts a model into Ollama's store at home.
fn into_ollama(home: &Home, manifest: &str, bytes: &[u8]) {
    let (root, hash) = (home.path().join("ollama"), sha256(bytes));
    write(&root.join(format!("blobs/sha256-{hash}")), bytes);
    let layer =
        serde_json::json!({"mediaType": "application/vnd.ollama.image.model", "digest": format!("sha256:{hash}")});
    write(&root.join("manifests").join(manifest), serde_json::json!({"layers": [layer]}).to_string());
}

/// The architecture of what a name leads to.
fn inspected(home: &Home, name: &str) -> String {
    let output = good(home.genarm(&["inspect", name, "--json"]));
    let files: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    files[0]["path"].as_str().expect("a path").to_owned()
}

#[test]
fn models_of_ollama_lm_studio_and_the_caches_steer_each_other_by_name() {
    let home = Home::new();
    into_ollama(&home, "registry.ollama.ai/library/stories/latest", &model());
    write(&home.path().join(".lmstudio/models/me/arms/arm-Q8_0.gguf"), arm());
    let by_name = home.genarm(&[
        "generate",
        "--base",
        "ollama:stories",
        "--arm",
        "a=lmstudio:me/arms:q8_0:1.5",
        "--seed",
        "3",
        "-n",
        "6",
        "Once",
    ]);
    let models = crate::support::models();
    let (base, arm) = (models.base.display().to_string(), format!("a={}:1.5", models.arms[0].display()));
    let by_path = home.genarm(&["generate", "--base", &base, "--arm", &arm, "--seed", "3", "-n", "6", "Once"]);
    assert_eq!(text(&good(by_name).stdout), text(&good(by_path).stdout));
}

#[test]
fn every_store_is_looked_into() {
    let home = Home::new();
    into_ollama(&home, "hf.co/me/model/Q8_0", &model());
    write(&home.path().join(".cache/lm-studio/models/me/model/x.gguf"), model());
    write(&home.path().join("cache/llama.cpp/me_model-GGUF_x-Q8_0.gguf"), model());
    // A cache on a file system without links.
    write(&home.cache().join("models--me--copied/snapshots/abc/x-Q4_K_M.gguf"), model());
    let ends = |name: &str, end: &str| {
        let path = inspected(&home, name);
        assert!(Path::new(&path).ends_with(end), "{name}: {path}");
    };
    ends("ollama:hf.co/me/model:Q8_0", &format!("sha256-{}", sha256(&model())));
    ends("lmstudio:me/model", "model/x.gguf");
    #[cfg(target_os = "linux")]
    ends("hf:me/model-GGUF", "me_model-GGUF_x-Q8_0.gguf");
    ends("hf:me/copied:q4_k_m", "abc/x-Q4_K_M.gguf");
}

#[test]
fn lm_studios_pointer_and_settings_are_followed() {
    let home = Home::new();
    let own = home.path().join("apps/lmstudio");
    write(&home.path().join(".lmstudio-home-pointer"), own.display().to_string());
    write(&own.join("models/me/model/x.gguf"), model());
    inspected(&home, "lmstudio:me/model");
    let folder = home.path().join("big disk");
    write(&own.join("settings.json"), serde_json::json!({"downloadsFolder": folder}).to_string());
    write(&folder.join("me/other/y.gguf"), model());
    inspected(&home, "lmstudio:me/other/y.gguf");
    let (line, _) = bad(home.genarm(&["inspect", "lmstudio:me/model"]));
    assert!(line.contains("lmstudio:me/model is not on this machine; download it in LM Studio"), "{line}");
}

#[test]
fn what_is_not_there_is_named_with_its_place_in_the_file() {
    let home = Home::new();
    into_ollama(&home, "registry.ollama.ai/library/llama3.2/1b", &model());
    let config = home.path().join("prefs.yaml");
    let line = |yaml: &str| {
        write(&config, yaml);
        let (line, code) = bad(home.genarm(&["generate", "-f", config.to_str().expect("UTF-8"), "--offline", "Hi"]));
        assert_eq!(code, Some(1), "{line}");
        line
    };
    let missing = line("base: ollama:llama3.2\n");
    assert!(missing.contains("prefs.yaml:1:7: base"), "{missing}");
    assert!(
        missing.contains("ollama:llama3.2:latest is not on this machine; Ollama has ollama:llama3.2:1b"),
        "{missing}"
    );
    let wrong = line("base: ollama:llama3.2:1b\narms: {a: {lora: [{path: hf:me}]}}\n");
    assert!(
        wrong.contains("prefs.yaml:2:") && wrong.contains("\"hf:me\" is no model's name: write hf:USER/REPO"),
        "{wrong}"
    );
    let reference = line("base: ollama:llama3.2:1b\narms: {a: {model: ollama:llama3.2:1b, reference: hf:me/tuned}}\n");
    assert!(
        reference.contains("arms.a.reference.model: hf:me/tuned is not on this machine; run genarm pull hf:me/tuned"),
        "{reference}"
    );
    let (draft, code) = bad(home.genarm(&[
        "generate",
        "--base",
        "ollama:llama3.2:1b",
        "--speculate",
        "draft:hf:me/small",
        "--offline",
        "Hi",
    ]));
    assert!(draft.contains("--speculate: hf:me/small is not on this machine"), "{draft}");
    assert_eq!(code, Some(1));
    let (usage, code) = bad(home.genarm(&["generate", "--base", "hf:x", "Hi"]));
    assert!(usage.contains("--base: \"hf:x\" is no model's name"), "{usage}");
    assert_eq!(code, Some(2));
}

#[test]
fn weights_are_shown_where_the_models_are_elsewhere() {
    let home = Home::new();
    let config = home.path().join("prefs.yaml");
    write(&config, "base: hf:me/base\narms: {a: {model: ollama:arm, weight: 0.5}}\n");
    let output = good(home.genarm(&["weights", config.to_str().expect("UTF-8")]));
    assert_eq!(text(&output.stdout), "a=0.5\n");
}

#[test]
fn half_a_name_of_the_hub_on_the_command_line_is_refused() {
    let home = Home::new();
    for (args, expected) in [
        (&["chat", "-hf"][..], "-hf needs USER/REPO[:QUANT]"),
        (&["chat", "-hff", "x.gguf"], "-hff x.gguf needs the repository too"),
        (&["chat", "-hf", "a/b", "-hf", "c/d"], "-hf is given twice"),
        (&["chat", "-hf", "a"], "write hf:USER/REPO"),
        (&["devices", "-hf", "a/b"], "genarm devices does not take -hf"),
        (&["pull", "ollama:x"], "run ollama pull x"),
    ] {
        let (line, code) = bad(home.genarm(args));
        assert!(line.contains(expected), "{args:?}: {line}");
        assert_eq!(code, Some(2), "{args:?}: {line}");
    }
}
