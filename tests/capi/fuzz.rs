//! Texts that are almost configurations, through `genarm_open_string`.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use genarm::capi::{genarm_close, genarm_open_string, genarm_status};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::root;

/// `make fuzz` runs it for five minutes (`GENARM_FUZZ_SECONDS`); the seed of a run is printed.
#[test]
fn no_text_makes_the_yaml_entry_point_panic_or_abort() {
    let seconds = std::env::var("GENARM_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(2);
    let seed = std::env::var("GENARM_FUZZ_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("GENARM_FUZZ_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let corpus = corpus();
    let folder = CString::new(root().join("models").display().to_string()).expect("no NUL");
    let (end, mut runs, mut opened) = (Instant::now() + Duration::from_secs(seconds), 0u64, 0u64);
    while Instant::now() < end {
        let text = mutate(&corpus, &mut rng);
        let Ok(yaml) = CString::new(text.clone()) else { continue };
        let mut guidance = std::ptr::null_mut();
        // SAFETY: C strings that live during the call, and a place for the result.
        let status = unsafe {
            genarm_open_string(yaml.as_ptr(), folder.as_ptr(), std::ptr::null(), std::ptr::null(), &raw mut guidance)
        };
        assert_ne!(status, genarm_status::GENARM_PANIC, "{:?}", String::from_utf8_lossy(&text));
        if status == genarm_status::GENARM_OK {
            opened += 1;
            assert_eq!(genarm_close(guidance), genarm_status::GENARM_OK);
        }
        runs += 1;
    }
    println!("{runs} texts, {opened} of them opened");
    assert!(runs > 10);
}

fn corpus() -> Vec<Vec<u8>> {
    let folders = ["tests/config/valid", "tests/config/invalid"].map(|folder| root().join(folder));
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("a folder of cases"));
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("a case").path()).collect();
    files.sort();
    files.push(root().join("models/demo.yaml"));
    files.iter().map(|file| std::fs::read(file).expect("a case")).collect()
}

/// A text of the corpus with pieces cut, doubled, moved from others, and bytes changed.
fn mutate(corpus: &[Vec<u8>], rng: &mut StdRng) -> Vec<u8> {
    // Half of them from the demo, whose models are there: so some get as far as the models.
    let demo = corpus.last().expect("a corpus");
    let mut text = if rng.random_bool(0.5) { demo.clone() } else { corpus.choose(rng).expect("a corpus").clone() };
    const WORDS: [&[u8]; 18] = [
        b"&a ",
        b"*a",
        b"<<: *a",
        b"!!binary ",
        b"? ",
        b": ",
        b"- ",
        b"{",
        b"}",
        b"[",
        b"]",
        b"|\n",
        b"\t",
        b"---\n",
        b"1e999",
        b"-9223372036854775809",
        b"\xf0\x9f\x92\xa9",
        b"\xff",
    ];
    for _ in 0..rng.random_range(0..6) {
        let at = rng.random_range(0..=text.len());
        let to = rng.random_range(at..=(at + 40).min(text.len()));
        match rng.random_range(0..5) {
            0 => drop(text.drain(at..to)),
            1 => {
                let piece = text[at..to].to_vec();
                text.splice(at..at, piece);
            }
            2 => drop(text.splice(at..at, WORDS.choose(rng).expect("words").iter().copied())),
            3 => {
                let other = corpus.choose(rng).expect("a corpus");
                let from = rng.random_range(0..=other.len());
                text.splice(at..to, other[from..(from + 40).min(other.len())].iter().copied());
            }
            _ if at < text.len() => text[at] = rng.random(),
            _ => {}
        }
    }
    text
}
