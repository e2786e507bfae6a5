//! What two vocabularies are to each other is found once, and kept.

use std::path::{Path, PathBuf};

use super::{arm, base, greedy, kind};
use crate::support::binary::genarm;

fn guided(cache: &Path, more: &[&str]) -> String {
    let (base, given) = (base(), kind("1"));
    let args = greedy(&base, &[&["--arm", &given, "--translate", "kind"], more].concat());
    let output = genarm(&args).env("XDG_CACHE_HOME", cache).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn kept(cache: &Path) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(cache.join("genarm/lexicons")).expect("a folder");
    folder.map(|file| file.expect("a file").path()).collect()
}

#[test]
fn arms_of_one_vocabulary_share_a_lexicon() {
    let cache = tempfile::tempdir().expect("a folder");
    let other = format!("dialogue={}:0.1", arm("dialogue"));
    guided(cache.path(), &["--arm", &other, "--translate", "dialogue"]);
    assert_eq!(kept(cache.path()).len(), 1);
}

#[test]
fn a_lexicon_that_was_kept_gives_the_same_text_and_a_damaged_one_is_made_anew() {
    let cache = tempfile::tempdir().expect("a folder");
    let expected = guided(cache.path(), &[]);
    let [file] = &kept(cache.path())[..] else { panic!("one file") };
    let whole = std::fs::read(file).expect("a lexicon");
    assert_eq!(guided(cache.path(), &[]), expected);
    for damaged in [&whole[..whole.len() / 2], &[], b"something else"] {
        std::fs::write(file, damaged).expect("written");
        assert_eq!(guided(cache.path(), &[]), expected);
        assert!(std::fs::read(file).expect("a lexicon") == whole, "made anew");
    }
}

#[test]
fn a_folder_that_cannot_be_written_costs_time_and_nothing_else() {
    let cache = tempfile::tempdir().expect("a folder");
    let file = cache.path().join("file");
    std::fs::write(&file, "no folder").expect("written");
    assert_eq!(guided(&file, &[]), guided(cache.path(), &[]));
}
