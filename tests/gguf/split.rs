//! Models split over several files, as llama-gguf-split writes them.

use std::fs;
use std::path::{Path, PathBuf};

use genarm::Expert;
use genarm::engine::gguf::{GgufFile, GgufWriter, ModelKind, TensorInfo, TensorType, Value};
use tempfile::TempDir;

use crate::support::{self, random};

/// A small model as `n` files. The later ones have tensors and their place, and nothing else.
fn split(n: usize, in_first: bool) -> (TempDir, PathBuf, Vec<PathBuf>) {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole.gguf");
    random::model(&whole, "llama");
    let file = GgufFile::open_model(&whole).expect("a model");
    let bytes = fs::read(&whole).expect("its bytes");
    let tensors: Vec<_> = file.tensors().iter().collect();
    let holders = if in_first { n } else { n - 1 };
    let chunks: Vec<&[&TensorInfo]> = tensors.chunks(tensors.len().div_ceil(holders)).collect();
    let part = |i: usize| {
        let path = folder.path().join(format!("m-{:05}-of-{n:05}.gguf", i + 1));
        let mut writer = GgufWriter::new(&path);
        if i == 0 {
            writer = file.metadata().iter().fold(writer, |writer, (key, value)| writer.meta(key, value.clone()));
        }
        writer = writer.meta("split.no", Value::U16(i as u16)).meta("split.count", Value::U16(n as u16));
        writer = writer.meta("split.tensors.count", tensors.len() as i32);
        let own = if in_first { Some(i) } else { i.checked_sub(1) };
        for tensor in own.map_or(&[][..], |i| chunks[i]) {
            let start = tensor.offset as usize;
            let data = bytes[start..start + tensor.n_bytes as usize].to_vec();
            writer = writer.tensor(&tensor.name, &tensor.dims, TensorType::F32, data);
        }
        writer.finish().expect("a part");
        path
    };
    let parts = (0..n).map(part).collect();
    (folder, whole, parts)
}

fn said(path: &Path) -> String {
    let text = GgufFile::open_model(path).expect_err("it cannot be used").to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn a_split_model_is_the_model_that_it_was() {
    for in_first in [true, false] {
        let (_folder, whole, parts) = split(3, in_first);
        let file = GgufFile::open_model(&parts[0]).expect("the first part");
        let of_whole = GgufFile::open_model(&whole).expect("the model");
        assert_eq!((file.kind(), file.n_params()), (ModelKind::Model, of_whole.n_params()));
        assert_eq!(file.n_tensor_bytes(), of_whole.n_tensor_bytes(), "all parts count");
        let row = |path: &Path| support::sequence(&support::load(path)).advance(&[1, 2, 3], 1).expect("a row").to_vec();
        assert_eq!(row(&parts[0]), row(&whole));
    }
}

#[test]
fn a_split_model_is_quantised_into_one_file() {
    use genarm::engine::quantize::{FileType, quantize};
    let (folder, whole, parts) = split(3, true);
    let one = folder.path().join("one.gguf");
    quantize(&parts[0], &one, FileType::F16, 1).expect("a quantised model");
    let file = GgufFile::open_model(&one).expect("a model");
    let of_whole = GgufFile::open_model(&whole).expect("the model");
    assert_eq!((file.paths(), file.n_params()), (vec![one], of_whole.n_params()));
    assert!(file.n_tensor_bytes() < of_whole.n_tensor_bytes() && file.get("split.count").is_none());
}

#[test]
fn a_later_part_says_so_and_names_the_first() {
    let (folder, _, parts) = split(3, true);
    for (i, part) in parts.iter().enumerate().skip(1) {
        let text = said(part);
        let first = parts[0].display().to_string();
        assert!(
            text.contains(&format!("is part {} of a model of 3 files; give the first part, {first}", i + 1)),
            "{text}"
        );
    }
    fs::remove_file(&parts[0]).expect("it goes");
    assert!(said(&parts[1]).ends_with("m-00001-of-00003.gguf, which is not beside it"));
    let renamed = folder.path().join("second.gguf");
    fs::rename(&parts[1], &renamed).expect("it is renamed");
    assert!(said(&renamed).contains("give the first part, whose name ends in -00001-of-00003.gguf"));
}

#[test]
fn parts_that_are_missing_damaged_or_misnamed_are_named() {
    let (folder, _, parts) = split(4, true);
    let bytes = fs::read(&parts[2]).expect("a part");
    fs::write(&parts[2], &bytes[..bytes.len() - 4096]).expect("it is cut");
    let cut = said(&parts[0]);
    assert!(cut.contains("m-00003-of-00004.gguf is truncated"), "{cut}");
    fs::write(&parts[2], b"version https://git-lfs.github.com/spec/v1\n").expect("a pointer");
    let pointer = said(&parts[0]);
    assert!(
        pointer.contains("m-00003-of-00004.gguf is not a GGUF file") && pointer.contains("git lfs pull"),
        "{pointer}"
    );
    fs::copy(&parts[3], &parts[2]).expect("the wrong part");
    let wrong = said(&parts[0]);
    assert!(wrong.contains("it is not part 3 of 4, as its name says"), "{wrong}");
    fs::remove_file(&parts[2]).expect("it goes");
    let one = said(&parts[0]);
    assert!(one.contains("m-00003-of-00004.gguf is not beside it; download all parts into one folder"), "{one}");
    fs::remove_file(&parts[1]).expect("it goes");
    let two = said(&parts[0]);
    assert!(two.contains("m-00002-of-00004.gguf, m-00003-of-00004.gguf are not beside it"), "{two}");
    let renamed = folder.path().join("model.gguf");
    fs::rename(&parts[0], &renamed).expect("it is renamed");
    assert!(said(&renamed).contains("must end in -00001-of-00004.gguf"), "{}", said(&renamed));
}
