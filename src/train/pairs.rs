//! Training data: five spellings of examples, read one by one, tokenised, filtered and counted.

use super::TrainError;
use super::render::{Prompt, Raw, Renderer};
use super::settings::{Overlong, Settings};
use crate::chat::{ChatTemplate, Message, Tokenize, source, text_of_parts};
use flate2::read::MultiGzDecoder;
use serde::Deserializer;
use serde::de::{SeqAccess, Visitor};
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// A tokenised example. Training on plain text leaves `rejected` empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The prompt, with what the vocabulary wants at the beginning. Not scored.
    pub prompt: Vec<u32>,
    /// The preferred response (or the text).
    pub chosen: Vec<u32>,
    /// The other response.
    pub rejected: Vec<u32>,
}

impl Example {
    /// Tokens read for this example.
    pub fn n_tokens(&self) -> usize {
        let rejected = if self.rejected.is_empty() { 0 } else { self.prompt.len() + self.rejected.len() };
        self.prompt.len() + self.chosen.len() + rejected
    }
}

/// What became of the lines of a data file.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Examples kept.
    pub used: usize,
    /// Left out: an empty prompt and response, or an empty response.
    pub empty: usize,
    /// Left out: both responses alike.
    pub identical: usize,
    /// Left out: seen before.
    pub duplicate: usize,
    /// Left out: longer than allowed.
    pub overlong: usize,
    /// Kept, shortened.
    pub truncated: usize,
    /// Left out: malformed.
    pub bad: usize,
    /// Of those read: conversations, which the template has rendered.
    pub conversations: usize,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} used, {} truncated; left out: {} overlong, {} duplicate, {} identical, {} empty, {} bad",
            self.used, self.truncated, self.overlong, self.duplicate, self.identical, self.empty, self.bad
        )
    }
}

/// Reads a data file whole, one example at a time in memory as text, all of them as tokens.
///
/// # Errors
///
/// [`TrainError::Data`] for a malformed line (unless `skip_bad`), [`TrainError::NoData`] when nothing is left.
pub fn load(
    settings: &Settings,
    words: &dyn Tokenize,
    template: &ChatTemplate,
    max_len: usize,
) -> Result<(Vec<Example>, Counts), TrainError> {
    let path = settings.pairs.as_path();
    let pairs = settings.objective != super::Objective::Sft;
    let mut loader = Loader {
        settings,
        renderer: Renderer { template, words, eos: settings.eos },
        max_len,
        seen: HashSet::new(),
        out: Vec::new(),
        counts: Counts::default(),
    };
    each_value(path, &mut |line, value| {
        let raw = value.and_then(|v| parse(&v, pairs)).and_then(|raw| loader.add(raw));
        match raw {
            Ok(()) => Ok(()),
            Err(_) if settings.skip_bad => {
                loader.counts.bad += 1;
                Ok(())
            }
            Err(reason) => Err(TrainError::Data { path: path.into(), line, reason }),
        }
    })?;
    if loader.out.is_empty() {
        return Err(TrainError::NoData { path: path.into(), counts: loader.counts.to_string() });
    }
    loader.counts.used = loader.out.len();
    Ok((loader.out, loader.counts))
}

struct Loader<'a> {
    settings: &'a Settings,
    renderer: Renderer<'a>,
    max_len: usize,
    seen: HashSet<u64>,
    out: Vec<Example>,
    counts: Counts,
}

impl Loader<'_> {
    fn add(&mut self, raw: Raw) -> Result<(), String> {
        if raw.chosen.is_empty() || raw.rejected.as_ref().is_some_and(String::is_empty) {
            self.counts.empty += 1;
            return Ok(());
        }
        if raw.rejected.as_ref() == Some(&raw.chosen) {
            self.counts.identical += 1;
            return Ok(());
        }
        let mut hasher = DefaultHasher::new();
        format!("{raw:?}").hash(&mut hasher);
        if !self.seen.insert(hasher.finish()) {
            self.counts.duplicate += 1;
            return Ok(());
        }
        let tokens = self.renderer.tokens(&raw)?;
        self.counts.conversations += usize::from(matches!(raw.prompt, Prompt::Chat(_)));
        let example = Example { prompt: tokens.prompt, chosen: tokens.chosen, rejected: tokens.rejected };
        self.fit(example, raw.is_plain())
    }

    /// Applies the length rule. Plain text (no prompt, no pair) is cut into pieces; an example is dropped, or
    /// keeps the end of its prompt (after BOS) and the beginning of its responses.
    fn fit(&mut self, mut e: Example, plain: bool) -> Result<(), String> {
        if e.prompt.is_empty() {
            // Without BOS the first token has nothing to be predicted from.
            let Some(&first) = e.chosen.first() else { return Ok(()) };
            if plain {
                e.prompt = vec![first];
                e.chosen.remove(0);
            } else {
                return Err("an empty prompt needs a vocabulary with a BOS token".into());
            }
        }
        let longest = e.prompt.len() + e.chosen.len().max(e.rejected.len());
        if plain {
            for piece in e.chosen.chunks(self.max_len - e.prompt.len()) {
                self.out.push(Example { prompt: e.prompt.clone(), chosen: piece.to_vec(), rejected: Vec::new() });
            }
            return Ok(());
        }
        let max_prompt = self.settings.max_prompt.min(self.max_len - 1);
        if e.prompt.len() > max_prompt || longest > self.max_len {
            if self.settings.overlong == Overlong::Drop {
                self.counts.overlong += 1;
                return Ok(());
            }
            self.counts.truncated += 1;
            let extra = e.prompt.len().saturating_sub(max_prompt);
            e.prompt.drain(1..=extra);
            let room = self.max_len - e.prompt.len();
            e.chosen.truncate(room);
            e.rejected.truncate(room);
            if e.chosen == e.rejected {
                self.counts.truncated -= 1;
                self.counts.overlong += 1;
                return Ok(());
            }
        }
        self.out.push(e);
        Ok(())
    }
}

/// Reads one JSON value in any of the known forms: a pair, or a text or a prompt with one response.
///
/// # Errors
///
/// What is wrong with it, in a line.
pub fn parse(value: &Value, pairs: bool) -> Result<Raw, String> {
    let Some(object) = value.as_object() else { return Err("not a JSON object".into()) };
    if !pairs {
        return parse_text(object);
    }
    let get = |key: &str| object.get(key).ok_or_else(|| format!("`{key}` is missing"));
    let (chosen, rejected) = (get("chosen")?, get("rejected")?);
    if let Some(conversation) = object.get("conversations") {
        let messages = messages(conversation)?;
        return Ok(Raw {
            prompt: Prompt::Chat(messages),
            chosen: content(chosen)?,
            rejected: Some(content(rejected)?),
        });
    }
    match (object.get("prompt"), chosen, rejected) {
        (Some(Value::String(p)), Value::String(c), Value::String(r)) => {
            Ok(Raw { prompt: Prompt::Text(p.clone()), chosen: c.clone(), rejected: Some(r.clone()) })
        }
        (None, Value::String(c), Value::String(r)) => transcripts(c, r),
        (Some(p @ Value::Array(_)), c, r) => {
            Ok(Raw { prompt: Prompt::Chat(messages(p)?), chosen: content(c)?, rejected: Some(content(r)?) })
        }
        (None, Value::Array(c), Value::Array(r)) => {
            let n = c.iter().zip(r).take_while(|(a, b)| a == b).count();
            let prompt = messages(&Value::Array(c[..n].to_vec()))?;
            let rest = |v: &[Value]| content(&Value::Array(v[n..].to_vec()));
            Ok(Raw { prompt: Prompt::Chat(prompt), chosen: rest(c)?, rejected: Some(rest(r)?) })
        }
        _ => Err("`prompt`, `chosen` and `rejected` must be texts, or lists of messages".into()),
    }
}

/// A text, or a prompt with its response, for next-token training. Of a pair the chosen response is taken.
fn parse_text(object: &Map<String, Value>) -> Result<Raw, String> {
    if let Some(Value::String(text)) = object.get("text") {
        return Ok(Raw { prompt: Prompt::Text(String::new()), chosen: text.clone(), rejected: None });
    }
    if let Some(Value::Array(list)) = object.get("messages") {
        let Some((last, before)) = list.split_last() else { return Err("`messages` is empty".into()) };
        let prompt = Prompt::Chat(messages(&Value::Array(before.to_vec()))?);
        return Ok(Raw { prompt, chosen: content(last)?, rejected: None });
    }
    let response = ["response", "completion"].iter().find_map(|k| object.get(*k));
    if let (Some(prompt), Some(response)) = (object.get("prompt"), response) {
        let prompt = match prompt {
            Value::String(text) => Prompt::Text(text.clone()),
            list => Prompt::Chat(messages(list)?),
        };
        return Ok(Raw { prompt, chosen: content(response)?, rejected: None });
    }
    let mut pair = object.clone();
    let chosen = pair.get("chosen").cloned().ok_or("expected `text`, `messages`, or `prompt` with `response`")?;
    pair.entry("rejected").or_insert(chosen);
    let raw = parse(&Value::Object(pair), true)?;
    Ok(Raw { rejected: None, ..raw })
}

/// Two whole transcripts, split after the last "\n\nAssistant:" they share.
fn transcripts(chosen: &str, rejected: &str) -> Result<Raw, String> {
    const MARK: &str = "\n\nAssistant:";
    let common = chosen.char_indices().zip(rejected.chars()).take_while(|((_, a), b)| a == b);
    let end = common.last().map_or(0, |((i, c), _)| i + c.len_utf8());
    let at = chosen[..end].rfind(MARK).ok_or("the transcripts share no \"\\n\\nAssistant:\" turn")? + MARK.len();
    Ok(Raw {
        prompt: Prompt::Text(chosen[..at].to_string()),
        chosen: chosen[at..].to_string(),
        rejected: Some(rejected[at..].to_string()),
    })
}

/// Messages in TRL's (`role`, `content`) or ShareGPT's (`from`, `value`) words.
fn messages(list: &Value) -> Result<Vec<Message>, String> {
    let Some(list) = list.as_array() else { return Err("expected a list of messages".into()) };
    list.iter()
        .map(|m| {
            let text = content(m)?;
            let role =
                m.get("role").or_else(|| m.get("from")).and_then(Value::as_str).ok_or("a message has no role")?;
            let role = match role {
                "human" | "user" => "user",
                "gpt" | "assistant" => "assistant",
                "system" | "developer" => "system",
                other => return Err(format!("unknown role `{other}`")),
            };
            Ok(Message::new(role, text))
        })
        .collect()
}

/// The text of a response: a string, a message, or a list of one message.
fn content(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Object(m) => {
            let text = m.get("content").or_else(|| m.get("value")).ok_or("a message has no text")?;
            text_of_parts(text)
        }
        Value::Array(list) if list.len() == 1 => content(&list[0]),
        _ => Err("a response must be one message".into()),
    }
}

type Each<'a> = dyn FnMut(usize, Result<Value, String>) -> Result<(), TrainError> + 'a;

/// Calls `each` with line (or element) number and value of every example of a file, gzip or not.
fn each_value(path: &Path, each: &mut Each<'_>) -> Result<(), TrainError> {
    let mut file = BufReader::new(File::open(path).map_err(TrainError::io(path))?);
    let start = file.fill_buf().map_err(TrainError::io(path))?;
    let reader: Box<dyn Read> =
        if start.starts_with(&[0x1f, 0x8b]) { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    // Some editors begin a file with a byte-order mark.
    if reader.fill_buf().map_err(TrainError::io(path))?.starts_with("\u{feff}".as_bytes()) {
        reader.consume("\u{feff}".len());
    }
    let start = reader.fill_buf().map_err(TrainError::io(path))?;
    let array = start.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[');
    if array {
        return each_element(path, reader, each);
    }
    let plain = path.extension().is_some_and(|e| e == "txt");
    let mut paragraph = String::new();
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let n = reader.read_until(b'\n', &mut bytes).map_err(TrainError::io(path))?;
        let text = std::str::from_utf8(&bytes);
        if plain {
            let text = text.unwrap_or_default();
            if (text.trim().is_empty() || n == 0) && !paragraph.is_empty() {
                each(line, Ok(json!({"text": std::mem::take(&mut paragraph).trim_end()})))?;
            }
            if !text.trim().is_empty() {
                paragraph += &source::plain(text);
            }
        } else if text.is_err() || !bytes.trim_ascii().is_empty() {
            let value = text.map_err(|_| "not UTF-8".to_string());
            each(line, value.and_then(|t| serde_json::from_str(t).map_err(|e| format!("not JSON ({e})"))))?;
        }
        if n == 0 {
            break;
        }
    }
    Ok(())
}

/// Streams the elements of one JSON array.
fn each_element(path: &Path, reader: impl Read, each: &mut Each<'_>) -> Result<(), TrainError> {
    struct Elements<'a, 'b> {
        each: &'a mut Each<'b>,
        failure: &'a mut Option<TrainError>,
        index: &'a mut usize,
    }
    impl<'de> Visitor<'de> for Elements<'_, '_> {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a JSON array of examples")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
            while let Some(value) = seq.next_element::<Value>()? {
                *self.index += 1;
                if let Err(e) = (self.each)(*self.index, Ok(value)) {
                    *self.failure = Some(e);
                    return Err(serde::de::Error::custom("stopped"));
                }
            }
            Ok(())
        }
    }
    let (mut failure, mut index) = (None, 0);
    let visitor = Elements { each, failure: &mut failure, index: &mut index };
    let done = serde_json::Deserializer::from_reader(reader).deserialize_seq(visitor);
    match (failure, done) {
        (Some(e), _) => Err(e),
        (None, Err(e)) => {
            Err(TrainError::Data { path: path.into(), line: e.line(), reason: format!("not JSON ({e})") })
        }
        (None, Ok(())) => Ok(()),
    }
}
