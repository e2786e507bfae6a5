//! Which parts of a rendered text came from messages.
//!
//! A template can trim, cut, copy and compare what it is given, so its output does not say where it came from. It is
//! rendered again with the messages in cipher: characters of their own are told apart from the template's wherever they
//! end up. The second text is deciphered; only if that gives the first, character by character, does the cipher say
//! what came from where. A template that looks into messages may render something else then, and the next cipher, which
//! changes less, is tried.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::conversation::Message;

/// Finds what a text spells of control tokens.
pub type Controls<'a> = &'a dyn Fn(&str) -> Vec<Range<usize>>;

/// How messages are put in cipher, from the one that tells most to the one that changes least.
#[derive(Debug, Clone, Copy)]
enum Method {
    /// Every character but white space, which templates trim.
    Everything,
    /// Every character with which a control token of the rendered text begins: a template that deletes text from a
    /// message may join a control token out of its parts.
    Openers,
    /// The first character of every control token.
    First,
    /// A mark before every control token.
    Before,
    /// A mark after every control token.
    After,
}

const METHODS: [Method; 5] = [Method::Everything, Method::Openers, Method::First, Method::Before, Method::After];

/// Characters for private use: two planes, of which a conversation never needs more than it has different characters.
fn private() -> impl Iterator<Item = char> {
    ('\u{f0000}'..='\u{ffffd}').chain('\u{100000}'..='\u{10fffd}')
}

/// The places of `plain`, what `render` made of the messages, that came from them. `None` where no cipher tells.
pub fn contents<E>(
    messages: &[Message],
    plain: &str,
    controls: Controls<'_>,
    mut render: impl FnMut(&[Message]) -> Result<String, E>,
) -> Option<Vec<Range<usize>>> {
    let opener = |place: Range<usize>| plain[place.start..].chars().next();
    let openers: HashSet<char> = controls(plain).into_iter().filter_map(opener).collect();
    METHODS.into_iter().find_map(|method| {
        let mut cipher = Cipher::new(method, messages, plain)?;
        let messages: Vec<Message> = messages
            .iter()
            .map(|message| {
                let mut write = |text: &str| cipher.write(text, controls, &openers);
                let content = write(&message.content)?;
                let reasoning_content = match &message.reasoning_content {
                    Some(text) => Some(write(text)?),
                    None => None,
                };
                Some(Message { content, reasoning_content, ..message.clone() })
            })
            .collect::<Option<_>>()?;
        cipher.read(&render(&messages).ok()?, plain)
    })
}

struct Cipher {
    method: Method,
    /// Unused characters.
    free: Box<dyn Iterator<Item = char>>,
    to: HashMap<char, char>,
    from: HashMap<char, char>,
    /// Stands beside control tokens.
    mark: char,
}

impl Cipher {
    fn new(method: Method, messages: &[Message], plain: &str) -> Option<Self> {
        let is_private = |c: &char| *c >= '\u{f0000}';
        let texts = |message: &'_ Message| {
            [Some(message.content.clone()), message.reasoning_content.clone()].into_iter().flatten()
        };
        let contents = messages.iter().flat_map(texts).collect::<String>();
        let contents = contents.chars();
        let used: HashSet<char> = contents.chain(plain.chars()).filter(is_private).collect();
        let mut free = private().filter(move |c| !used.contains(c));
        let mark = free.next()?;
        Some(Self { method, free: Box::new(free), to: HashMap::new(), from: HashMap::new(), mark })
    }

    fn secret(&mut self, c: char) -> Option<char> {
        if let Some(secret) = self.to.get(&c) {
            return Some(*secret);
        }
        let secret = self.free.next()?;
        self.to.insert(c, secret);
        self.from.insert(secret, c);
        Some(secret)
    }

    fn write(&mut self, text: &str, controls: Controls<'_>, openers: &HashSet<char>) -> Option<String> {
        if let Method::Openers = self.method {
            return text.chars().map(|c| if openers.contains(&c) { self.secret(c) } else { Some(c) }).collect();
        }
        if let Method::Everything = self.method {
            return text.chars().map(|c| if c.is_whitespace() { Some(c) } else { self.secret(c) }).collect();
        }
        let places: HashSet<usize> = match self.method {
            Method::After => controls(text).into_iter().map(|place| place.end).collect(),
            _ => controls(text).into_iter().map(|place| place.start).collect(),
        };
        let mut out = String::with_capacity(text.len());
        for (i, c) in text.char_indices() {
            match (places.contains(&i), self.method) {
                (true, Method::First) => out.push(self.secret(c)?),
                (true, _) => out.extend([self.mark, c]),
                (false, _) => out.push(c),
            }
        }
        if places.contains(&text.len()) {
            out.push(self.mark);
        }
        Some(out)
    }

    /// The places of secrets in a text that says `plain`.
    fn read(&self, secret: &str, plain: &str) -> Option<Vec<Range<usize>>> {
        let mut places: Vec<Range<usize>> = Vec::new();
        let mut rest = plain.char_indices();
        let mut before = false;
        for c in secret.chars() {
            if c == self.mark {
                match self.method {
                    Method::After => add(&mut places, last_char(plain, rest.offset())?),
                    _ => before = true,
                }
                continue;
            }
            let known = self.from.get(&c);
            let (i, there) = rest.next()?;
            if there != *known.unwrap_or(&c) {
                return None;
            }
            if std::mem::take(&mut before) || known.is_some() {
                add(&mut places, i..i + there.len_utf8());
            }
        }
        rest.next().is_none().then_some(places)
    }
}

fn last_char(text: &str, end: usize) -> Option<Range<usize>> {
    let start = text[..end].char_indices().next_back()?.0;
    Some(start..end)
}

/// Adds a place behind the others; what touches is one place.
fn add(places: &mut Vec<Range<usize>>, place: Range<usize>) {
    match places.last_mut() {
        Some(last) if last.end == place.start => last.end = place.end,
        _ => places.push(place),
    }
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
