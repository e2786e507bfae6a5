//! GGUF files on disk: real ones, damaged ones, and synthetic ones in llama.cpp's own hands.

mod split;
mod synthetic;

use genarm::bench::synthetic::{Architecture, Quantization, Shape, SyntheticModel, SyntheticVocabulary};
use genarm::engine::gguf::{GgufError, GgufFile, GgufWriter, ModelKind, Strings};
use proptest::prelude::*;
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A file of the repository.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Writes a tiny synthetic model.
fn write_tiny(path: &Path, architecture: Architecture, quantization: Quantization, vocabulary: &SyntheticVocabulary) {
    let shape = Shape::of_size(2_000_000, vocabulary.n_tokens() as u64).expect("a tiny shape");
    let shape = shape.with_architecture(architecture);
    let model = SyntheticModel { name: "tiny", shape, quantization, vocabulary, n_ctx_train: 256, seed: 1 };
    model.write(path).expect("the model is written");
}

/// A copy of a trained model in `folder`.
fn some_model(folder: &Path) -> PathBuf {
    let path = folder.join("model.gguf");
    fs::copy(file("tests/models/stories260K.gguf"), &path).expect("a copy");
    path
}

/// Writes a vocabulary without weights.
fn write_vocabulary(path: &Path, vocabulary: &SyntheticVocabulary) {
    let writer = GgufWriter::new(path).meta("general.architecture", "llama");
    let add = |writer: GgufWriter<'static>, (key, value): &(String, _)| writer.meta(key, Clone::clone(value));
    vocabulary.metadata().iter().fold(writer, add).finish().expect("the vocabulary is written");
}

#[test]
fn real_files_are_read_as_what_they_are() {
    for (name, kind, n_tokens) in [
        ("tests/models/stories260K.gguf", ModelKind::Model, Some(512)),
        ("tests/models/arm-dialogue.gguf", ModelKind::Model, Some(512)),
        ("models/base.gguf", ModelKind::Model, Some(2048)),
        ("models/arm-talkative.gguf", ModelKind::Model, Some(2048)),
        ("models/arm-cheerful.gguf", ModelKind::Adapter, None),
    ] {
        let read = GgufFile::open(file(name)).expect("a sound file");
        assert_eq!((read.kind(), read.vocabulary().map(|v| v.n_tokens())), (kind, n_tokens), "{name}");
        assert!(read.architecture().is_some(), "{name}");
    }
    let base = GgufFile::open(file("tests/models/stories260K.gguf")).expect("a file");
    assert_eq!(base.vocabulary().map(|v| v.has_all_bytes()), Some(true));
    let adapter = GgufFile::open_adapter(file("tests/models/stories260K.gguf")).expect_err("a model");
    assert!(adapter.to_string().contains("a language model, not a LoRA adapter"), "{adapter}");
}

#[test]
fn a_vocabulary_of_128_thousand_tokens_is_read_whole_and_is_no_model() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("vocabulary.gguf");
    write_vocabulary(&path, &SyntheticVocabulary::byte_level(128_256));
    let read = GgufFile::open(&path).expect("a sound file");
    assert_eq!((read.kind(), read.vocabulary().map(|v| v.n_tokens())), (ModelKind::VocabOnly, Some(128_256)));
    let refused = GgufFile::open_model(&path).expect_err("no weights");
    assert!(refused.to_string().contains("give the file that has the weights"), "{refused}");
}

#[test]
fn a_vocabulary_that_lacks_a_byte_is_known_by_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("vocabulary.gguf");
    let sound = GgufFile::open(file("tests/models/stories260K.gguf")).expect("a file");
    let write = |tokens: Vec<String>| {
        let writer = GgufWriter::new(&path).meta("general.architecture", "llama").meta("tokenizer.ggml.model", "llama");
        writer
            .meta("tokenizer.ggml.tokens", tokens.into_iter().collect::<Strings>())
            .finish()
            .expect("the vocabulary is written");
        GgufFile::open(&path).expect("a file").vocabulary().map(|v| v.has_all_bytes())
    };
    let texts = sound.vocabulary().expect("a vocabulary");
    let mut tokens: Vec<_> = texts.texts().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    assert_eq!(write(tokens.clone()), Some(true));
    tokens.retain(|token| token != "<0xF0>");
    assert_eq!(write(tokens), Some(false));
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
