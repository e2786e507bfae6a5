//! GBNF to a tree, as llama.cpp reads it.

use super::tree::{Expr, Rule, Tree, negate, short};
use super::{Fault, MAX_DEPTH, MAX_NAME, MAX_REPEAT, MAX_STACKED};
use crate::expert::Token;

/// Turns the text of a token (`<think>`) into its id, where it is exactly one.
pub type TokenOf<'a> = dyn Fn(&str) -> Option<Token> + 'a;

/// Control tokens that the grammar may spell, with their names.
pub type Spelled = [(Token, String)];

/// Reads a grammar. The rules that it names are all there, `root` among them. Where one of its texts holds the name of
/// a `spelled` token, that token matches there too.
pub fn parse(text: &str, token_of: &TokenOf<'_>, spelled: &Spelled) -> Result<Tree, Fault> {
    let mut parser = Parser { rest: text, text, rules: indexmap::IndexMap::new(), depth: 0, token_of, spelled };
    parser.space(true);
    while !parser.rest.is_empty() {
        parser.rule()?;
    }
    let Some(root) = parser.rules.get_index_of("root") else {
        return Err(Fault::new("has no rule \"root\", and that is where a text begins"));
    };
    let defined = |(name, rule): (String, Option<Expr>)| match rule {
        Some(body) => Ok(Rule { name, body }),
        None => Err(Fault::new(format!("names a rule \"{}\" that it does not define", short(&name)))),
    };
    let rules = parser.rules.into_iter().map(defined).collect::<Result<_, _>>()?;
    Ok(Tree { rules, root })
}

struct Parser<'a> {
    rest: &'a str,
    text: &'a str,
    /// Rules in the order of their names' first use; without a body until they are defined.
    rules: indexmap::IndexMap<String, Option<Expr>>,
    depth: usize,
    token_of: &'a TokenOf<'a>,
    spelled: &'a Spelled,
}

impl<'a> Parser<'a> {
    fn fail<T>(&self, wanted: &str) -> Result<T, Fault> {
        let before = &self.text[..self.text.len() - self.rest.len()];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Err(Fault::new(format!("is not GBNF: line {line}, column {column}: expected {wanted}")))
    }

    fn next(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn eat(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, text: &str) -> Result<(), Fault> {
        if self.eat(text) { Ok(()) } else { self.fail(&format!("\"{text}\"")) }
    }

    /// Skips spaces and comments; line ends too where they do not end a rule.
    fn space(&mut self, newline_ok: bool) {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t']);
            if self.rest.starts_with('#') {
                self.rest = &self.rest[self.rest.find(['\r', '\n']).unwrap_or(self.rest.len())..];
            } else if newline_ok && self.rest.starts_with(['\r', '\n']) {
                self.rest = &self.rest[1..];
            } else {
                return;
            }
        }
    }

    fn name(&mut self) -> Result<&'a str, Fault> {
        let end = self.rest.find(|c: char| !is_word(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        match name.len() {
            0 => self.fail("the name of a rule"),
            n if n > MAX_NAME => self.fail(&format!("a name of at most {MAX_NAME} characters")),
            _ => {
                self.rest = rest;
                Ok(name)
            }
        }
    }

    fn id_of(&mut self, name: &str) -> usize {
        let entry = self.rules.entry(name.to_owned());
        let at = entry.index();
        entry.or_insert(None);
        at
    }

    fn rule(&mut self) -> Result<(), Fault> {
        let name = self.name()?;
        let at = self.id_of(name);
        self.space(false);
        self.expect("::=")?;
        self.space(true);
        let body = self.alternatives(false)?;
        // As in llama.cpp, the last definition of a name counts.
        self.rules[at] = Some(body);
        if !(self.rest.is_empty() || self.rest.starts_with(['\r', '\n'])) {
            return self.fail("the end of the line");
        }
        self.space(true);
        Ok(())
    }

    fn alternatives(&mut self, nested: bool) -> Result<Expr, Fault> {
        let mut all = vec![self.sequence(nested)?];
        while self.eat("|") {
            self.space(true);
            all.push(self.sequence(nested)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Expr::Any(all) })
    }

    fn sequence(&mut self, nested: bool) -> Result<Expr, Fault> {
        let mut items = Vec::new();
        while let Some(next) = self.next() {
            let item = match next {
                '"' => self.literal()?,
                '[' => self.class()?,
                '<' => self.token(false)?,
                '!' => self.token(true)?,
                '(' => self.group()?,
                '.' => {
                    self.rest = &self.rest[1..];
                    Expr::Class(negate(&[]))
                }
                '*' | '+' | '?' | '{' => match items.pop() {
                    Some(item) => self.repeated(item, nested)?,
                    None => return self.fail("something to repeat before this"),
                },
                c if is_word(c) => {
                    let name = self.name()?;
                    Expr::Rule(self.id_of(name))
                }
                _ => break,
            };
            self.space(nested);
            items.push(item);
        }
        Ok(Expr::All(items))
    }

    fn group(&mut self) -> Result<Expr, Fault> {
        self.rest = &self.rest[1..];
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::new(format!("has parentheses nested more than {MAX_DEPTH} deep; name parts as rules")));
        }
        self.space(true);
        let inner = self.alternatives(true)?;
        self.depth -= 1;
        self.expect(")")?;
        Ok(inner)
    }

    fn repeated(&mut self, item: Expr, nested: bool) -> Result<Expr, Fault> {
        let (min, max) = if self.eat("*") {
            (0, None)
        } else if self.eat("+") {
            (1, None)
        } else if self.eat("?") {
            (0, Some(1))
        } else {
            self.bounds(nested)?
        };
        // They nest, as groups do.
        let depth = 1 + if let Expr::Repeat { depth, .. } = item { depth } else { 0 };
        if depth > MAX_STACKED {
            return self.fail("fewer repetitions of repetitions");
        }
        Ok(Expr::Repeat { item: Box::new(item), min, max, depth })
    }

    /// `{m}`, `{m,}` or `{m,n}`.
    fn bounds(&mut self, nested: bool) -> Result<(usize, Option<usize>), Fault> {
        self.rest = &self.rest[1..];
        self.space(nested);
        let Some(min) = self.number() else { return self.fail("a number") };
        self.space(nested);
        let mut max = Some(min);
        if self.eat(",") {
            self.space(nested);
            max = self.number();
            self.space(nested);
        }
        self.expect("}")?;
        if min > MAX_REPEAT {
            return self.fail(&format!("at most {MAX_REPEAT} repetitions before this"));
        }
        if max.is_some_and(|max| max < min) {
            return self.fail("a largest number of repetitions that is not below the least, before this");
        }
        // As in llama.cpp, a larger bound is none.
        Ok((min, max.filter(|max| *max <= MAX_REPEAT)))
    }

    fn number(&mut self) -> Option<usize> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        // What has too many digits is more than any bound.
        (!digits.is_empty()).then(|| digits.parse().unwrap_or(usize::MAX))
    }

    fn literal(&mut self) -> Result<Expr, Fault> {
        self.rest = &self.rest[1..];
        let mut bytes = Vec::new();
        while !self.eat("\"") {
            match char::from_u32(self.character()?) {
                Some(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                // No text has this character, so the rule matches none.
                None => return self.fail("a character that Unicode has, before this"),
            }
        }
        Ok(spelling(bytes, self.spelled))
    }

    fn class(&mut self) -> Result<Expr, Fault> {
        self.rest = &self.rest[1..];
        let negated = self.eat("^");
        let mut ranges = Vec::new();
        while !self.eat("]") {
            let first = self.character()?;
            let is_range = self.rest.starts_with('-') && !self.rest.starts_with("-]");
            let last = if is_range && self.eat("-") { self.character()? } else { first };
            ranges.push((first, last));
        }
        Ok(match (ranges.is_empty(), negated) {
            // llama.cpp reads an empty class as nothing at all.
            (true, _) => Expr::All(Vec::new()),
            (false, true) => Expr::Class(negate(&ranges)),
            (false, false) => Expr::Class(ranges),
        })
    }

    /// A character, or its escape.
    fn character(&mut self) -> Result<u32, Fault> {
        let Some(c) = self.next() else { return self.fail("a closing quote or bracket") };
        self.rest = &self.rest[c.len_utf8()..];
        if c != '\\' {
            return Ok(c.into());
        }
        let Some(escaped) = self.next() else { return self.fail("an escaped character") };
        let known = match escaped {
            'x' => Ok(2),
            'u' => Ok(4),
            'U' => Ok(8),
            't' => Err('\t'),
            'r' => Err('\r'),
            'n' => Err('\n'),
            '\\' | '"' | '[' | ']' | '-' => Err(escaped),
            _ => return self.fail("one of the escapes x, u, U, t, r, n, \\, \", [, ] and -"),
        };
        self.rest = &self.rest[1..];
        match known {
            Err(c) => Ok(c.into()),
            Ok(n) => {
                let digits = self.rest.get(..n).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
                let Some(value) = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) else {
                    return self.fail(&format!("{n} hexadecimal digits"));
                };
                self.rest = &self.rest[n..];
                Ok(value)
            }
        }
    }

    /// `<[1000]>` or `<think>`, after a `!` any other.
    fn token(&mut self, negated: bool) -> Result<Expr, Fault> {
        if negated {
            self.expect("!")?;
        }
        let end = self.rest.find('>').filter(|end| *end <= MAX_NAME && self.rest.starts_with('<'));
        let Some(end) = end else { return self.fail("a token, such as <[1000]> or <think>") };
        let whole = &self.rest[..=end];
        let id = match whole.strip_prefix("<[").and_then(|rest| rest.strip_suffix("]>")) {
            Some(id) => id.parse().ok(),
            None => (self.token_of)(whole),
        };
        let Some(id) = id else { return self.fail("the text or the id of one token of the vocabulary") };
        self.rest = &self.rest[end + 1..];
        Ok(Expr::Token { id, negated })
    }
}

/// A text, in which a name may be its token.
fn spelling(bytes: Vec<u8>, spelled: &Spelled) -> Expr {
    let place = |(id, name): &(Token, String)| {
        let at = bytes.windows(name.len().max(1)).position(|part| part == name.as_bytes())?;
        Some((at, name.len(), *id))
    };
    // Of two names at one place the longer one is meant.
    let first = spelled.iter().filter_map(place).min_by_key(|(at, n, _)| (*at, std::cmp::Reverse(*n)));
    let Some((at, n, id)) = first else { return Expr::Bytes(bytes) };
    let name = Expr::Any(vec![Expr::Bytes(bytes[at..at + n].to_vec()), Expr::Token { id, negated: false }]);
    let rest = spelling(bytes[at + n..].to_vec(), spelled);
    Expr::All(vec![Expr::Bytes(bytes[..at].to_vec()), name, rest])
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-'
}
