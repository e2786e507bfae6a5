//! Stories from text files: split, cleaned, capitals restored, duplicates left out.

use anyhow::Context;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Every this-many-th story is held out.
const HELD_OUT_EVERY: usize = 25;
/// Openings of held-out stories to write. Where there are fewer stories, the first ones give a second, longer opening.
const N_PROMPTS: usize = 200;

pub fn run(files: &[PathBuf], out: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(out)?;
    let mut stories = Vec::new();
    let mut texts = Vec::new();
    for file in files {
        texts.push(std::fs::read_to_string(file).with_context(|| file.display().to_string())?);
    }
    // Cased files first: of a story in both spellings, the cased one is kept.
    texts.sort_by_key(|t| !t.contains(char::is_uppercase));
    let mut caser = Caser::default();
    let mut seen = HashSet::new();
    for text in &texts {
        let cased = text.contains(char::is_uppercase);
        for story in split(text) {
            let key: String = story.to_lowercase().chars().filter(char::is_ascii_alphanumeric).take(80).collect();
            if key.len() < 60 || !story.is_ascii() || !seen.insert(key) {
                continue;
            }
            if cased {
                caser.learn(&story);
                stories.push(story);
            } else {
                stories.push(caser.restore(&story));
            }
        }
    }
    let (mut train, mut held_out, mut prompts) = (String::new(), String::new(), String::new());
    for (i, story) in stories.iter().enumerate() {
        let to = if i % HELD_OUT_EVERY == 0 { &mut held_out } else { &mut train };
        writeln!(to, "{}", json!({"text": story}))?;
    }
    let unseen: Vec<&String> = stories.iter().step_by(HELD_OUT_EVERY).collect();
    for (i, story) in unseen.iter().cycle().take(N_PROMPTS).enumerate() {
        let n_words = 4 + i % unseen.len() % 9 + 9 * (i / unseen.len());
        writeln!(prompts, "{}", json!({"prompt": opening(story, n_words)}))?;
    }
    std::fs::write(out.join("stories.jsonl"), train)?;
    std::fs::write(out.join("held-out.jsonl"), held_out)?;
    std::fs::write(out.join("prompts.jsonl"), prompts)?;
    eprintln!("{} stories, one in {HELD_OUT_EVERY} held out", stories.len());
    Ok(())
}

/// The first `n` words of a story.
pub fn opening(story: &str, n: usize) -> String {
    story.split(' ').take(n).collect::<Vec<_>>().join(" ").trim_end().to_string()
}

/// Stories stand one a line; an empty line is a paragraph's end within a story.
fn split(text: &str) -> Vec<String> {
    let mut stories: Vec<String> = Vec::new();
    let mut after_blank = false;
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() {
            after_blank = true;
            continue;
        }
        match stories.last_mut() {
            Some(story) if after_blank => {
                story.push_str("\n\n");
                story.push_str(line);
            }
            _ => stories.push(line.to_string()),
        }
        after_blank = false;
    }
    stories
}

/// Words that cased text writes with a capital in the middle of a sentence, and how often with and without.
#[derive(Default)]
struct Caser {
    counts: HashMap<String, (usize, usize)>,
}

impl Caser {
    fn learn(&mut self, story: &str) {
        for (word, start) in words(story) {
            if !start {
                let count = self.counts.entry(word.to_lowercase()).or_default();
                if word.starts_with(char::is_uppercase) { count.0 += 1 } else { count.1 += 1 }
            }
        }
    }

    fn restore(&self, story: &str) -> String {
        // "a girl named sue": a name, in this story.
        let list: Vec<(&str, bool)> = words(story).collect();
        let named: HashSet<&str> =
            list.windows(2).filter(|w| matches!(w[0].0, "named" | "called")).map(|w| w[1].0).collect();
        let mut out = String::with_capacity(story.len());
        let mut rest = story;
        for (word, start) in list {
            let at = word.as_ptr() as usize - rest.as_ptr() as usize;
            out.push_str(&rest[..at]);
            let (upper, lower) = self.counts.get(word).copied().unwrap_or_default();
            let a_name = named.contains(word) && lower == 0;
            if start || upper > lower || a_name {
                out.push_str(&word[..1].to_uppercase());
                out.push_str(&word[1..]);
            } else {
                out.push_str(word);
            }
            rest = &rest[at + word.len()..];
        }
        out + rest
    }
}

/// Words with whether each begins a sentence (or a quoted one).
fn words(story: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut start = true;
    let mut quoted = false;
    let mut from = 0;
    let bytes = story.as_bytes();
    std::iter::from_fn(move || {
        while from < bytes.len() && !bytes[from].is_ascii_alphabetic() {
            match bytes[from] {
                b'.' | b'!' | b'?' => start = true,
                b'\n' => (start, quoted) = (true, false),
                b'"' => {
                    quoted = !quoted;
                    // After a closing quote the sentence goes on ("…!" she said).
                    start = quoted;
                }
                b'0'..=b'9' => start = false,
                _ => {}
            }
            from += 1;
        }
        let begin = from;
        while from < bytes.len() && (bytes[from].is_ascii_alphabetic() || bytes[from] == b'\'') {
            from += 1;
        }
        (begin < from).then(|| (&story[begin..from], std::mem::take(&mut start)))
    })
}
