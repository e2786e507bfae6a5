//! Triggers of lazy grammars: a token, or a pattern that the text matches, from which on the grammar holds, as in
//! llama.cpp (`llama_grammar_accept_impl`).

use fancy_regex::Regex;

use super::GrammarError;
use crate::expert::Token;

/// Bytes of a pattern.
const MAX_PATTERN: usize = 4096;

/// From where on a lazy grammar holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// A token.
    Token(Token),
    /// This text.
    Word(String),
    /// A regular expression, anywhere in the text. The grammar begins where its first group with a match does.
    Pattern(String),
    /// A regular expression that the whole text matches.
    Whole(String),
}

/// Triggers, ready to be looked for.
pub struct Triggers {
    tokens: Vec<Token>,
    patterns: Vec<Regex>,
    /// Control tokens that count by their names.
    spelled: Vec<(Token, String)>,
}

impl Triggers {
    pub(super) fn new(triggers: &[Trigger], spelled: &[(Token, String)]) -> Result<Self, GrammarError> {
        let (mut tokens, mut patterns) = (Vec::new(), Vec::new());
        for trigger in triggers {
            let pattern = match trigger {
                Trigger::Token(token) => {
                    tokens.push(*token);
                    continue;
                }
                Trigger::Word(word) => fancy_regex::escape(word).into_owned(),
                Trigger::Pattern(pattern) => pattern.clone(),
                Trigger::Whole(pattern) => format!("^(?:{pattern})$"),
            };
            let fail = |problem: String| GrammarError { field: "tools", problem };
            if pattern.len() > MAX_PATTERN {
                return Err(fail(format!("a trigger may have {MAX_PATTERN} bytes, this has {}", pattern.len())));
            }
            let compiled = Regex::new(&pattern).map_err(|e| fail(format!("the template's trigger {pattern:?}: {e}")));
            patterns.push(compiled?);
        }
        Ok(Self { tokens, patterns, spelled: spelled.to_vec() })
    }

    /// Where in a text the grammar begins.
    fn find(&self, text: &str) -> Option<usize> {
        let start = |pattern: &Regex| {
            // A search that takes too many steps finds nothing.
            let groups = pattern.captures(text).ok().flatten()?;
            let group = (1..groups.len()).find_map(|i| groups.get(i).filter(|group| group.start() < group.end()));
            Some(group.or(groups.get(0))?.start())
        };
        self.patterns.iter().find_map(start)
    }
}

/// The text before the first trigger.
#[derive(Default)]
pub struct TriggerBuffer {
    bytes: Vec<u8>,
    /// How many of them are known to be text.
    n_text: usize,
    /// The tokens, and where in the bytes each begins.
    tokens: Vec<(Token, usize)>,
}

/// What a grammar takes at its trigger: the end of a token inside which that begins, and the tokens from there on.
pub struct Tail {
    pub part: Vec<u8>,
    pub tokens: Vec<Token>,
}

impl TriggerBuffer {
    /// A text that begins so.
    pub fn new(begun: &[u8]) -> Self {
        Self { bytes: begun.to_vec(), n_text: 0, tokens: Vec::new() }
    }

    /// Forgets the text but for its beginning.
    pub fn begin(&mut self, begun: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(begun);
        self.n_text = 0;
        self.tokens.clear();
    }

    /// The text so far. A character that is not whole yet cannot end a match; bytes that are none count as one each.
    fn text(&mut self) -> &str {
        while let Err(e) = std::str::from_utf8(&self.bytes[self.n_text..]) {
            self.n_text += e.valid_up_to();
            let Some(n) = e.error_len() else { break };
            self.bytes[self.n_text..][..n].fill(0x1a);
        }
        let n = std::str::from_utf8(&self.bytes[self.n_text..]).map_or(self.n_text, |_| self.bytes.len());
        self.n_text = n;
        std::str::from_utf8(&self.bytes[..n]).unwrap_or_default()
    }

    /// Takes a token; returns what the grammar is to take where a trigger has come.
    pub fn push(&mut self, triggers: &Triggers, token: Token, bytes: &[u8]) -> Option<Tail> {
        if triggers.tokens.contains(&token) {
            return Some(Tail { part: Vec::new(), tokens: vec![token] });
        }
        let name = triggers.spelled.iter().find(|(spelled, _)| *spelled == token).map(|(_, name)| name.as_bytes());
        let bytes = name.unwrap_or(bytes);
        if bytes.is_empty() {
            return None;
        }
        self.tokens.push((token, self.bytes.len()));
        self.bytes.extend_from_slice(bytes);
        let start = triggers.find(self.text())?;
        let first = self.tokens.partition_point(|(_, at)| *at < start);
        let from = self.tokens.get(first).map_or(self.bytes.len(), |(_, at)| *at);
        let tail = Tail {
            part: self.bytes[start..from].to_vec(),
            tokens: self.tokens[first..].iter().map(|(token, _)| *token).collect(),
        };
        self.begin(&[]);
        Some(tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn triggers(list: &[Trigger]) -> Triggers {
        Triggers::new(list, &[(9, "<call>".to_owned())]).unwrap()
    }

    /// What the grammar takes at each token.
    fn taken(triggers: &Triggers, tokens: &[(Token, &str)]) -> Vec<Option<(String, Vec<Token>)>> {
        let mut before = TriggerBuffer::default();
        let push = |(token, text): &(Token, &str)| {
            let tail = before.push(triggers, *token, text.as_bytes())?;
            Some((String::from_utf8(tail.part).unwrap(), tail.tokens))
        };
        tokens.iter().map(push).collect()
    }

    #[test]
    fn a_lazy_grammar_takes_the_text_from_a_token_a_word_or_a_pattern_on() {
        let word = triggers(&[Trigger::Word("{\"a".into())]);
        assert_eq!(taken(&word, &[(1, "well {"), (2, "\"a")]), [None, Some(("{".into(), vec![2]))]);
        let token = triggers(&[Trigger::Token(5)]);
        assert_eq!(taken(&token, &[(1, "x"), (5, "")]), [None, Some((String::new(), vec![5]))]);
        let group = triggers(&[Trigger::Pattern("think\\s*(<call>)".into())]);
        assert_eq!(taken(&group, &[(1, "think "), (9, "")]), [None, Some((String::new(), vec![9]))]);
        let whole = triggers(&[Trigger::Whole("a+(b)".into())]);
        assert_eq!(taken(&whole, &[(1, "xa"), (2, "b")]), [None, None]);
        assert_eq!(taken(&whole, &[(1, "aa"), (2, "b")]), [None, Some((String::new(), vec![2]))]);
    }

    #[test]
    fn a_trigger_is_found_behind_bytes_that_are_no_text_and_in_what_is_begun() {
        let word = triggers(&[Trigger::Word("<tool>".into())]);
        let mut before = TriggerBuffer::default();
        assert!(before.push(&word, 1, b"\xff\xe2").is_none());
        assert!(before.push(&word, 2, b"x").is_none());
        assert!(before.push(&word, 3, b"").is_none(), "a token without text is no part of it");
        let tail = before.push(&word, 4, b" <tool>").expect("the trigger");
        assert_eq!((tail.part.as_slice(), tail.tokens), (&b"<tool>"[..], Vec::new()));
        let mut before = TriggerBuffer::new(b"so: <to");
        let tail = before.push(&word, 5, b"ol>{").expect("the trigger");
        assert_eq!((tail.part.as_slice(), tail.tokens), (&b"<to"[..], vec![5]));
    }

    #[test]
    fn a_pattern_that_cannot_be_read_is_an_error_about_the_tools() {
        assert!(Triggers::new(&[Trigger::Pattern(">>>(?!all)".into())], &[]).is_ok());
        let error = Triggers::new(&[Trigger::Pattern("(x".into())], &[]).err().unwrap();
        assert_eq!(error.field, "tools");
    }
}
