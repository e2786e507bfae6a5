//! GGUF files on disk: real ones, damaged ones, and synthetic ones in llama.cpp's own hands.

mod split;
mod synthetic;

use genarm::bench::synthetic::{Quantization, Shape, SyntheticModel, SyntheticVocabulary};
use genarm::engine::gguf::{GgufError, GgufFile, ModelKind};
use proptest::prelude::*;
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The folder with the models that are shared but not part of the repository, if this machine has it.
fn shared_models() -> Option<PathBuf> {
    let shared = std::env::var_os("GENARM_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    Some(shared.join("models")).filter(|folder| folder.is_dir())
}

/// Writes a tiny synthetic model.
fn write_tiny(path: &Path, quantization: Quantization, vocabulary: &SyntheticVocabulary) {
    let shape = Shape::of_size(2_000_000, vocabulary.n_tokens() as u64).expect("a tiny shape");
    let model = SyntheticModel { name: "tiny", shape, quantization, vocabulary, n_ctx_train: 256, seed: 1 };
    model.write(path).expect("the model is written");
}

/// A copy of a trained model in `folder`, or a synthetic one where there is none.
fn some_model(folder: &Path) -> PathBuf {
    let path = folder.join("model.gguf");
    match shared_models() {
        Some(shared) => {
            let bytes = fs::read(shared.join("stories260K.gguf")).expect("the shared base");
            fs::write(&path, bytes).expect("a copy");
        }
        None => write_tiny(&path, Quantization::Q4_0, &SyntheticVocabulary::byte_level(512)),
    }
    path
}

#[test]
fn real_files_are_read_as_what_they_are() {
    let Some(shared) = shared_models() else { return };
    for (name, kind, n_tokens) in [
        ("stories260K.gguf", ModelKind::Model, 512),
        ("arm-cheerful.gguf", ModelKind::Model, 512),
        ("arm-dialogue.gguf", ModelKind::Model, 512),
        ("babyllama-char105.gguf", ModelKind::Model, 105),
        ("ggml-vocab-llama-spm.gguf", ModelKind::VocabOnly, 32_000),
        ("ggml-vocab-phi-3.gguf", ModelKind::VocabOnly, 32_064),
        ("ggml-vocab-llama-bpe.gguf", ModelKind::VocabOnly, 128_256),
    ] {
        let file = GgufFile::open(shared.join(name)).expect("a sound file");
        assert_eq!((file.kind(), file.vocabulary().map(|v| v.n_tokens())), (kind, Some(n_tokens)), "{name}");
        assert!(file.architecture().is_some(), "{name}");
    }
    let bytes = |name| GgufFile::open(shared.join(name)).expect("a file").vocabulary().map(|v| v.has_all_bytes());
    assert_eq!((bytes("stories260K.gguf"), bytes("babyllama-char105.gguf")), (Some(true), Some(false)));

    let vocabulary_only = GgufFile::open_model(shared.join("ggml-vocab-phi-3.gguf")).expect_err("no weights");
    assert!(vocabulary_only.to_string().contains("give the file that has the weights"), "{vocabulary_only}");
    let adapter = GgufFile::open_adapter(shared.join("stories260K.gguf")).expect_err("a model");
    assert!(adapter.to_string().contains("a language model, not a LoRA adapter"), "{adapter}");
}

#[test]
fn a_vocabulary_of_128_thousand_tokens_is_read_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = match shared_models() {
        Some(shared) => shared.join("ggml-vocab-llama-bpe.gguf"),
        None => {
            let path = folder.path().join("vocabulary.gguf");
            let writer = genarm::engine::gguf::GgufWriter::new(&path).meta("general.architecture", "llama");
            let vocabulary = SyntheticVocabulary::byte_level(128_256);
            let add = |writer: genarm::engine::gguf::GgufWriter<'static>, (key, value): &(String, _)| {
                writer.meta(key, Clone::clone(value))
            };
            vocabulary.metadata().iter().fold(writer, add).finish().expect("the vocabulary is written");
            path
        }
    };
    let file = GgufFile::open(&path).expect("a sound file");
    assert_eq!(file.vocabulary().map(|v| v.n_tokens()), Some(128_256));
}

#[test]
fn paths_that_hold_no_model_say_what_to_do() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let said = |path: &Path| GgufFile::open(path).expect_err("no model").to_string();
    assert!(said(&folder.path().join("absent.gguf")).contains("no such file; check the path"));
    assert!(said(folder.path()).contains("is a directory"));
    let model = some_model(folder.path());
    assert!(said(folder.path()).contains("did you mean"), "{}", said(folder.path()));
    for address in ["https://huggingface.co/some/model.gguf", "hf.co/some/model"] {
        assert!(said(Path::new(address)).contains("only files on this machine can be read"));
    }
    #[cfg(unix)]
    {
        let link = folder.path().join("link.gguf");
        std::os::unix::fs::symlink("../blobs/0123abcd", &link).expect("a link");
        assert!(said(&link).contains("is a link to ../blobs/0123abcd, which does not exist"), "{}", said(&link));
        fs::remove_file(&link).expect("it goes");
    }
    let weights = folder.path().join("hf");
    fs::create_dir(&weights).expect("a folder");
    fs::write(weights.join("model.safetensors"), "").expect("a file");
    assert!(said(&weights).contains("convert_hf_to_gguf.py"), "{}", said(&weights));
    fs::write(folder.path().join("empty.gguf"), "").expect("an empty file");
    assert!(said(&folder.path().join("empty.gguf")).contains("is empty (0 bytes)"));
    fs::write(folder.path().join("notes.gguf"), "Dear diary").expect("a text file");
    assert!(said(&folder.path().join("notes.gguf")).contains("starts with \"Dear diary\""));

    let size = fs::metadata(&model).expect("the model").len();
    OpenOptions::new().write(true).open(&model).and_then(|f| f.set_len(size - 4096)).expect("it is cut");
    match GgufFile::open(&model) {
        Err(GgufError::Truncated { expected, actual, .. }) => assert!(expected > actual && actual == size - 4096),
        other => panic!("{other:?}"),
    }
    assert!(said(&model).ends_with("download it again"));
}

#[test]
fn damage_anywhere_in_the_header_is_an_error_or_harmless_but_never_a_panic() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = some_model(folder.path());
    let sound = fs::read(&path).expect("the model");
    let header = GgufFile::open(&path).expect("a sound model").tensors()[0].offset as usize;
    let places = prop::collection::vec((0..header, any::<u8>()), 1..4);
    let mut file = OpenOptions::new().write(true).open(&path).expect("the model");
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&places, |damage| {
            let write = |file: &mut &fs::File, place: usize, byte: u8| {
                file.seek(SeekFrom::Start(place as u64)).and_then(|_| file.write_all(&[byte]))
            };
            damage.iter().try_for_each(|(place, byte)| write(&mut &file, *place, *byte))?;
            let result = GgufFile::open(&path);
            damage.iter().try_for_each(|(place, _)| write(&mut &file, *place, sound[*place]))?;
            if let Err(error) = result {
                let said = error.to_string();
                prop_assert!(!said.chars().any(char::is_control), "{said:?}");
            }
            Ok(())
        })
        .expect("no panic, one line");
    file.flush().expect("nothing is buffered");
}
