//! Files that do not fit, or are not what was written: refused in one line, and nothing is changed.

use std::path::{Path, PathBuf};

use genarm::Flow;
use genarm::session::{Caches, CachesError, Session};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{model, names, open, tokens};
use crate::support::random;

/// A base with a model as ARM and an adapter as ARM, in a folder of their own.
struct Models {
    folder: TempDir,
}

impl Models {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let models = Self { folder };
        for (from, to) in [("stories260K.gguf", "base.gguf"), ("arm-cheerful.gguf", "arm.gguf")] {
            std::fs::copy(model(&format!("tests/models/{from}")), models.path(to)).expect("a copy");
        }
        random::lora_on(&models.path("base.gguf"), &models.path("lora.gguf"), 3, 0.1, "all");
        models
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn yaml(&self) -> String {
        let path = |name: &str| self.path(name).display().to_string();
        let (base, arm, lora) = (path("base.gguf"), path("arm.gguf"), path("lora.gguf"));
        format!(
            "base: {{model: {base}, n_ctx: 128, threads: 1}}\narms:\n  whole: {{model: {arm}}}\n  \
             light: {{model: {base}, lora: [{{path: {lora}}}]}}\nspeculate: \"off\"\nshare_batch: \"off\"\n"
        )
    }

    /// Caches of 60 tokens, in a file.
    fn saved(&self) -> PathBuf {
        let mut session = open(&self.yaml());
        write(&mut session, 60);
        let file = self.path("text.cache");
        session.save_caches().expect("caches").write(&file).expect("written");
        file
    }
}

/// Two tokens after a prompt.
fn write(session: &mut Session, n: usize) {
    let prompt = session.token_prompt(tokens(5, n)).expect("tokens");
    let params = genarm::sampling::params::SamplingParams { temp: 0.0, ignore_eos: true, ..Default::default() };
    let mut sampler = session.sampler(&params).expect("a sampler");
    session.generate(&mut sampler, &prompt, 2, &mut |_| Flow::Continue).expect("a text");
}

/// Why a session does not take the caches of a file over. It goes on with what it had.
fn refused(yaml: &str, file: &Path) -> String {
    let mut session = open(yaml);
    write(&mut session, 30);
    let before = session.n_decoded();
    let error = session.restore_caches(&Caches::read(file).expect("a sound file")).expect_err("they do not fit");
    write(&mut session, 30);
    assert!(session.n_decoded() - before <= 2, "what was there is there: {error}");
    let line = error.to_string();
    assert!(!line.contains('\n'));
    line
}

#[test]
fn a_model_that_differs_is_named() {
    let models = Models::new();
    let file = models.saved();
    let yaml = models.yaml();
    open(&yaml).restore_caches(&Caches::read(&file).expect("caches")).expect("the same models fit");

    for (flag, was) in [("cache_type_k: f32", "--cache-type-k f16"), ("flash_attn: \"off\"", "--flash-attn auto")] {
        let said = refused(&yaml.replacen("n_ctx: 128", &format!("n_ctx: 128, {flag}"), 1), &file);
        assert!(said.contains("the base") && said.contains(was), "{said}");
    }
    let said = refused(&yaml.replacen("n_ctx: 128", "n_ctx: 48", 1), &file);
    assert!(said.contains("61 tokens") && said.contains("48") && said.contains("--n-ctx"), "{said}");
    let said = refused(&yaml.replacen("lora.gguf}", "lora.gguf, scale: 0.5}", 1), &file);
    assert!(said.contains("ARM \"light\"") && said.contains("adapter"), "{said}");
    let without = yaml.lines().filter(|line| !line.contains("whole")).collect::<Vec<_>>().join("\n");
    let said = refused(&without, &file);
    assert!(said.contains("ARM \"whole\"") && said.contains("not loaded"), "{said}");
    let dialogue = model("tests/models/arm-dialogue.gguf");
    let with = yaml.replacen("arms:\n", &format!("arms:\n  more: {{model: {dialogue}}}\n"), 1);
    let said = refused(&with, &file);
    assert!(said.contains("no cache of ARM \"more\""), "{said}");

    random::lora_on(&models.path("base.gguf"), &models.path("lora.gguf"), 4, 0.1, "all");
    let said = refused(&yaml, &file);
    assert!(said.contains("ARM \"light\"") && said.contains("adapter"), "{said}");
    std::fs::copy(model("tests/models/arm-dialogue.gguf"), models.path("arm.gguf")).expect("a copy");
    let said = refused(&yaml, &file);
    assert!(said.contains("ARM \"whole\" is another model"), "{said}");
}

#[test]
fn a_model_that_changed_on_disk_while_it_ran_is_not_saved() {
    let models = Models::new();
    let mut session = open(&models.yaml());
    write(&mut session, 10);
    random::lora_on(&models.path("base.gguf"), &models.path("other.gguf"), 4, 0.1, "all");
    std::fs::rename(models.path("other.gguf"), models.path("lora.gguf")).expect("renamed");
    let error = session.save_caches().expect_err("another adapter").to_string();
    assert!(error.contains("ARM \"light\"") && error.contains("has changed"), "{error}");
}

#[test]
fn a_damaged_file_is_refused_wherever_the_damage_is() {
    let models = Models::new();
    let file = models.saved();
    let sound = std::fs::read(&file).expect("a file");
    let broken = models.path("broken.cache");
    let read = |bytes: &[u8]| {
        std::fs::write(&broken, bytes).expect("written");
        Caches::read(&broken)
    };
    assert!(read(&sound).is_ok());
    for n in (0..sound.len()).step_by(sound.len() / 97).chain([sound.len() - 1]) {
        let error = read(&sound[..n]).expect_err("cut off");
        assert!(matches!(error, CachesError::Foreign | CachesError::Damaged(_)), "{n}: {error}");
        let mut flipped = sound.clone();
        flipped[n] ^= 1 << (n % 8);
        read(&flipped).expect_err("a bit is another one");
    }
    read(&[&sound[..], &[0]].concat()).expect_err("longer");
    assert!(matches!(
        read(b"GGUF and so on, and some more bytes than a sum has").expect_err("foreign"),
        CachesError::Foreign
    ));
    assert!(matches!(Caches::read(models.folder.path()).expect_err("a folder"), CachesError::Foreign));
    assert!(matches!(Caches::read(&models.path("missing")).expect_err("missing"), CachesError::Io(_)));
}

/// A file with another header, and the right sum.
fn forged(sound: &[u8], change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let n = u32::from_le_bytes(sound[12..16].try_into().expect("a number")) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&sound[16..16 + n]).expect("a header");
    change(&mut header);
    let header = serde_json::to_vec(&header).expect("a header");
    let length = u32::try_from(header.len()).expect("a number").to_le_bytes();
    let body = [&sound[..12], &length, &header, &sound[16 + n..sound.len() - 32]].concat();
    let sum = Sha256::digest(&body);
    [&body[..], &sum].concat()
}

#[test]
fn a_file_that_lies_under_a_right_sum_is_refused_and_harms_nothing() {
    let models = Models::new();
    let file = models.saved();
    let sound = std::fs::read(&file).expect("a file");
    let yaml = models.yaml();
    let mut session = open(&yaml);
    let mut check = |bytes: &[u8]| {
        std::fs::write(&file, bytes).expect("written");
        let taken = Caches::read(&file).and_then(|caches| session.restore_caches(&caches));
        write(&mut session, 30);
        taken
    };
    check(&forged(&sound, |_| {})).expect("nothing was changed");
    let sizes = ["n_tokens", "n_bytes"];
    for (model, name) in [0, 1, 2].into_iter().flat_map(|model| sizes.map(|name| (model, name))) {
        for lie in [0u64, 1, 1 << 20, 1 << 40, u64::MAX, u64::MAX / 4 + 1] {
            let lying = forged(&sound, |header| header["models"][model]["states"][0][name] = lie.into());
            check(&lying).expect_err("sizes that lie");
        }
    }
    // Sizes that lie, and whose sum is right.
    let shifted = forged(&sound, |header| {
        let state = &mut header["models"][0]["states"][0];
        let [n_tokens, n_bytes] = sizes.map(|name| state[name].as_u64().expect("a number"));
        (state["n_tokens"], state["n_bytes"]) = ((n_tokens + 1).into(), (n_bytes - 4).into());
    });
    check(&shifted).expect_err("other borders");
    for change in [
        |header: &mut serde_json::Value| header["llama_cpp"] = "0.0.0".into(),
        |header: &mut serde_json::Value| header["models"][0]["states"] = serde_json::json!([]),
        |header: &mut serde_json::Value| header["models"] = serde_json::json!([]),
        |header: &mut serde_json::Value| header["models"][2]["origin"]["settings"] = serde_json::json!([]),
    ] {
        check(&forged(&sound, change)).expect_err("another header");
    }
    // The first cells of the base, each of whose fields lies in turn.
    let n = u32::from_le_bytes(sound[12..16].try_into().expect("a number")) as usize;
    let memory = 16 + n + 61 * 4;
    for at in (memory..memory + 60).step_by(4) {
        for lie in [0u32, 2, 1 << 20, u32::MAX] {
            let mut lying = sound.clone();
            lying[at..at + 4].copy_from_slice(&lie.to_le_bytes());
            let _ = check(&forged(&lying, |_| {}));
        }
    }
}

#[test]
fn a_write_that_fails_leaves_the_old_file() {
    let models = Models::new();
    let file = models.saved();
    let caches = Caches::read(&file).expect("caches");
    caches.write(&file).expect("written over");
    assert_eq!(Caches::read(&file).expect("caches"), caches);
    let folder = models.path("folder");
    std::fs::create_dir(&folder).expect("a folder");
    caches.write(&folder).expect_err("a folder is in the way");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&file).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "the text is in it");
    }
    let left = names(models.folder.path());
    assert_eq!(left, ["arm.gguf", "base.gguf", "folder", "lora.gguf", "text.cache"], "and nothing else");
}
