//! What a name under `hosts:` stands for.

use std::fs;

use serde_json::json;

use super::{Store, WITH, WITHOUT, after_the_note, cheerful};
use crate::capi::built;

#[test]
fn models_are_named_by_path_by_name_or_by_pattern_however_the_program_names_them() {
    let blob = format!("store/blobs/sha256-{}", "a".repeat(64));
    let file = blob.rsplit('/').next().expect("a name");
    let store = Store::new(&json!({}));
    fs::create_dir(store.at("links")).expect("a folder");
    std::os::unix::fs::symlink(store.blob('a'), store.at("links/my.gguf")).expect("a link");
    fs::copy(store.blob('a').with_extension("tokens"), store.at("links/my.gguf.tokens")).expect("the tokens");
    let whole = store.blob('a').display().to_string();
    // Whether the server is guided that gets these arguments and this LLAMA_ARG_MODEL.
    let guided = |name: &str, arguments: &[&str], variable: &str| {
        store.configure(&json!({"hosts": {"ollama:qwen3:4b": cheerful(), name: cheerful()}}));
        let server = built().join("server");
        let (code, out, talk) = store.run(&["--strict"], |command| {
            let arguments = arguments.iter().filter(|argument| !argument.is_empty());
            command.arg(server).args(arguments).env("LLAMA_ARG_MODEL", variable)
        });
        assert_eq!(code, Some(0), "{name}: {talk}");
        match after_the_note(&talk) {
            WITH => assert_eq!(out, "chain: logits -> genarm -> top-k\n"),
            talk => assert_eq!((out.as_str(), talk), ("chain: logits -> top-k\n", WITHOUT)),
        }
        talk.ends_with(&format!("\n{WITH}"))
    };
    for given in [["--model", &whole, "", ""], ["-m", &blob, "", ""], ["-m", "x", "-m", &blob]] {
        assert!(guided("ollama:llama3.2", &given, "x"), "{given:?}");
    }
    assert!(guided("ollama:llama3.2", &[&format!("--model={blob}")], "x") && guided("ollama:llama3.2", &[], &blob));
    for name in [&*whole, &blob, file, "*", "sha256-a*", "store/blobs/*", "./store/*/sha256-a[a]*"] {
        assert!(guided(name, &["-m", &blob], ""), "{name}");
    }
    for name in ["links/my.gguf", "my.gguf", "m?.gguf", "links/*.gguf", &whole, "ollama:llama3.2:latest"] {
        assert!(guided(name, &["-m", "links/my.gguf"], ""), "{name}");
    }
    // However the folder is written, here and there.
    let beside = store.folder.path().file_name().expect("a name").to_str().expect("UTF-8");
    for name in [&format!("../{beside}/links/*.gguf"), "./store/../links//*.gguf", "*/my.gguf"] {
        for given in ["links/my.gguf", "./links/my.gguf", "store/.././/links/./my.gguf"] {
            assert!(guided(name, &["-m", given], ""), "{name} {given}");
        }
    }
    for name in ["links/other*", "*.bin", "blobs/*", "store/*", "sha256-b*"] {
        assert!(!guided(name, &["-m", &whole], ""), "{name}");
    }
}

#[test]
fn a_model_that_is_named_as_on_the_hub_is_guided() {
    let store = Store::new(&json!({}));
    let repo = store.at("hub/models--me--Tiny-GGUF");
    let snapshot = repo.join("snapshots/0123456789abcdef0123456789abcdef01234567");
    for folder in [&snapshot, &repo.join("refs")] {
        fs::create_dir_all(folder).expect("a folder");
    }
    fs::write(repo.join("refs/main"), "0123456789abcdef0123456789abcdef01234567").expect("a reference");
    for file in ["Tiny-Q8_0.gguf", "Tiny-Q4_K_M.gguf"] {
        fs::copy(store.blob('a'), snapshot.join(file)).expect("a model");
    }
    fs::copy(store.blob('a').with_extension("tokens"), store.at("hub.tokens")).expect("the tokens");
    for (name, given, guided) in [
        ("hf:me/Tiny-GGUF", "me/Tiny-GGUF:Q8_0", true),
        ("hf:me/Tiny-GGUF:Q8_0", "me/tiny-gguf:q8_0", true),
        ("hf:me/Tiny-GGUF:Q8_0", "me/Tiny-GGUF", false),
        ("hf:me/Tiny-GGUF", "me/Tiny-GGUF-2:Q8_0", false),
        // What llama.cpp takes by default.
        ("hf:me/Tiny-GGUF:q4_k_m", "me/Tiny-GGUF", true),
        ("hf:me/Tiny-GGUF:Q4_K_M", "me/Tiny-GGUF:Q8_0", false),
        // A file counts before a quantisation.
        ("hf:me/Tiny-GGUF", "me/Tiny-GGUF -hff Tiny-Q8_0.gguf", true),
        ("hf:me/Tiny-GGUF/Tiny-Q8_0.gguf", "me/Tiny-GGUF:Q4_K_M --hf-file Tiny-Q8_0.gguf", true),
        ("hf:me/Tiny-GGUF/Tiny-Q8_0.gguf", "me/Tiny-GGUF", false),
        ("hf:me/Tiny-GGUF:Q4_K_M", "me/Tiny-GGUF -hff Tiny-Q8_0.gguf", false),
    ] {
        store.configure(&json!({"hosts": {name: cheerful()}}));
        let (code, out, talk) = store.run(&["--strict"], |command| {
            command
                .env_remove("LLAMA_CACHE")
                .env("HF_HUB_CACHE", store.at("hub"))
                .arg(built().join("server"))
                .arg("-hf")
                .args(given.split(' '))
        });
        assert_eq!((code, after_the_note(&talk)), (Some(0), if guided { WITH } else { WITHOUT }), "{name} {given}");
        assert_eq!(out.contains("genarm"), guided, "{out}");
    }
}

#[test]
fn what_ollama_pulls_while_it_runs_is_guided_too() {
    let store = Store::new(&json!({"ollama:later": cheerful()}));
    store.name("library/later/prepared", 'a');
    let manifests = store.at("store/manifests/registry.ollama.ai/library/later");
    let (code, out, talk) = store.run(&[], |command| {
        let script = r#""$0" -m "$1"; mv "$2/prepared" "$2/latest"; "$0" -m "$1""#;
        command.args(["bash", "-c", script]).arg(built().join("server")).arg(store.blob('a')).arg(&manifests)
    });
    assert_eq!((code, out.as_str()), (Some(0), "chain: logits -> top-k\nchain: logits -> genarm -> top-k\n"), "{talk}");
    let lines: Vec<_> = talk.lines().collect();
    assert!(
        lines[0].starts_with("genarm: hosts.ollama:later: this model is not on this machine; Ollama has ")
            && lines[0].contains("ollama:llama3.2:latest, ollama:qwen3:4b")
            && lines[0].ends_with("; it is guided once it is there"),
        "{talk}"
    );
    assert_eq!(lines[1..], [WITHOUT.trim(), WITH.trim()]);
    // What is looked up only once, and a file.
    store.configure(&json!({"hosts": {"hf:me/Tiny-GGUF": cheerful(), "store/blobs/x.gguf": cheerful()}}));
    let (code, _, talk) = store.run(&[], |command| command.env("HF_HUB_CACHE", store.at("hub")).arg("true"));
    let lines: Vec<_> = talk.lines().collect();
    assert_eq!((code, lines.len()), (Some(0), 2), "{talk}");
    assert!(lines[0].ends_with("run genarm pull hf:me/Tiny-GGUF; start this again once it is there"), "{talk}");
    assert!(lines[1].ends_with("/store/blobs has no GGUF; it is guided once it is there"), "{talk}");
    store.configure(&json!({"hosts": {"ollama:later": cheerful()}}));
    // What should be guided and cannot be ends it under --strict, before the tool runs.
    fs::remove_file(manifests.join("latest")).expect("the manifest");
    let (code, _, talk) = store.run(&["--strict"], |command| command.args(["touch", "ran"]));
    assert!(
        code == Some(1) && talk.contains("Ollama has ollama:llama3.2:latest") && talk.lines().count() == 1,
        "{talk}"
    );
    assert!(!store.at("ran").exists());
}

#[test]
fn a_blob_that_is_a_link_to_another_disk_is_still_the_models() {
    let store = Store::new(&json!({"ollama:Later": cheerful()}));
    store.name("library/prepared/latest", 'a');
    let disk = store.at("disk.gguf");
    fs::rename(store.blob('a'), &disk).expect("moved");
    std::os::unix::fs::symlink(&disk, store.blob('a')).expect("a link");
    // It comes while the tool runs, by a name in small letters.
    let (_, out, talk) = store.run(&[], |command| {
        let script = r#"mv "$2/prepared" "$2/later"; exec "$0" -m "$1""#;
        let models = store.at("store/manifests/registry.ollama.ai/library");
        command.args(["bash", "-c", script]).arg(built().join("server")).arg(store.blob('a')).arg(models)
    });
    assert!(out == "chain: logits -> genarm -> top-k\n" && talk.ends_with(WITH), "{out}{talk}");
}

#[test]
fn two_names_of_one_file_are_guided_as_the_first() {
    let store = Store::new(&json!({"ollama:llama3.2": cheerful(), "ollama:mine": cheerful()}));
    store.name("library/mine/latest", 'a');
    let (_, _, talk) = store.run(&[], |command| command.arg("true"));
    assert!(
        talk.contains("ollama:llama3.2 and ollama:mine are one file, so both are guided as ollama:llama3.2"),
        "{talk}"
    );
}
