//! The vocabulary contract: when the logits of two models may be added token by token.
//!
//! Sizes alone prove nothing: two vocabularies of 32,000 tokens may be different, and the same vocabulary is often
//! padded to a rounder size. So texts, types and the special tokens are compared, and the answer is one of three:
//! identical; equal but for an unused tail; different, with the first differences.

use std::fmt;

/// What a token is, as far as the contract cares (llama.cpp's `llama_token_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are llama.cpp's
pub enum TokenKind {
    Undefined,
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// A vocabulary, as the contract sees it.
pub trait TokenTable {
    /// Number of tokens.
    fn n_tokens(&self) -> usize;
    /// The text of token `index`, as the file has it.
    fn text(&self, index: usize) -> &[u8];
    /// What token `index` is.
    fn kind(&self, index: usize) -> TokenKind;
    /// The special tokens that decide where a text begins and ends: name and id, if the file says one.
    fn special(&self) -> [(&'static str, Option<u32>); 3];
}

/// How the ARM's tokens lie to the base's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contract {
    /// Tokens that both have: the same ids mean the same.
    pub n_common: usize,
    /// What is after them.
    pub tail: Tail,
}

/// Unused tokens after the common ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// None: the vocabularies are identical.
    None,
    /// The base has this many more; each takes the ARM's smallest logit of the step (its floor), so that no unused
    /// token is raised above the tokens that the ARM likes least.
    Base(usize),
    /// The ARM has this many more; they are ignored.
    Arm(usize),
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tail {
            Tail::None => write!(f, "identical, {} tokens", self.n_common),
            Tail::Base(n) => {
                write!(f, "equal in {} tokens; {n} unused tokens more in the first file get a floor", self.n_common)
            }
            Tail::Arm(n) => {
                write!(f, "equal in {} tokens; {n} unused tokens more in the second file are ignored", self.n_common)
            }
        }
    }
}

/// One token that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Another text.
    Text {
        /// The token's id.
        id: usize,
        /// Its text in the base.
        base: String,
        /// Its text in the ARM.
        arm: String,
    },
    /// Another type.
    Kind {
        /// The token's id.
        id: usize,
        /// Its text.
        text: String,
        /// Its type in the base.
        base: TokenKind,
        /// Its type in the ARM.
        arm: TokenKind,
    },
    /// A used token that only the larger vocabulary has.
    Extra {
        /// The token's id.
        id: usize,
        /// Its text.
        text: String,
        /// Whether it is the base's.
        in_base: bool,
    },
    /// Another special token.
    Special {
        /// Which: bos, eos or eot.
        name: &'static str,
        /// Its id in the base.
        base: u32,
        /// Its id in the ARM.
        arm: u32,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { id, base, arm } => write!(f, "token {id} is {base:?} in the base and {arm:?} in the ARM"),
            Self::Kind { id, text, base, arm } => {
                write!(f, "token {id} {text:?} is {base:?} in the base and {arm:?} in the ARM")
            }
            Self::Extra { id, text, in_base: true } => write!(f, "token {id} {text:?} is in the base only"),
            Self::Extra { id, text, in_base: false } => write!(f, "token {id} {text:?} is in the ARM only"),
            Self::Special { name, base, arm } => write!(f, "{name} is token {base} in the base and {arm} in the ARM"),
        }
    }
}

/// Vocabularies that may not be combined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mismatch {
    /// Number of the base's tokens.
    pub n_base: usize,
    /// Number of the ARM's tokens.
    pub n_arm: usize,
    /// The first differences, at most [`Mismatch::SHOWN`].
    pub first: Vec<Difference>,
    /// How many there are in all.
    pub n_differences: usize,
}

impl Mismatch {
    /// Differences that are reported one by one.
    pub const SHOWN: usize = 5;

    /// How much differs, without the first differences.
    pub fn summary(&self) -> String {
        let Self { n_differences, n_base, n_arm, .. } = self;
        format!("the vocabularies differ in {n_differences} places ({n_base} and {n_arm} tokens)")
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary())?;
        for (i, difference) in self.first.iter().enumerate() {
            write!(f, "{} {difference}", if i == 0 { ":" } else { ";" })?;
        }
        let more = self.n_differences - self.first.len();
        if more > 0 { write!(f, "; and {more} more") } else { Ok(()) }
    }
}

/// Compares an ARM's vocabulary with the base's.
///
/// # Errors
///
/// [`Mismatch`] where a used token has another text or type, or the special tokens differ.
///
/// # Cost
///
/// One pass over both vocabularies: a few milliseconds for 128 thousand tokens.
pub fn check_vocabulary(base: &impl TokenTable, arm: &impl TokenTable) -> Result<Contract, Mismatch> {
    let (n_base, n_arm) = (base.n_tokens(), arm.n_tokens());
    let n_common = n_base.min(n_arm);
    let mut found = Mismatch { n_base, n_arm, first: Vec::new(), n_differences: 0 };
    let mut differs = |difference: Difference| {
        found.n_differences += 1;
        if found.first.len() < Mismatch::SHOWN {
            found.first.push(difference);
        }
    };
    for ((name, base), (_, arm)) in base.special().into_iter().zip(arm.special()) {
        if let (Some(base), Some(arm)) = (base, arm)
            && base != arm
        {
            differs(Difference::Special { name, base, arm });
        }
    }
    for id in 0..n_common {
        if base.text(id) != arm.text(id) {
            differs(Difference::Text { id, base: shown(base.text(id)), arm: shown(arm.text(id)) });
        } else if base.kind(id) != arm.kind(id) {
            differs(Difference::Kind { id, text: shown(base.text(id)), base: base.kind(id), arm: arm.kind(id) });
        }
    }
    for id in (n_common..n_base).filter(|id| !is_padding(base, *id)) {
        differs(Difference::Extra { id, text: shown(base.text(id)), in_base: true });
    }
    for id in (n_common..n_arm).filter(|id| !is_padding(arm, *id)) {
        differs(Difference::Extra { id, text: shown(arm.text(id)), in_base: false });
    }
    let tail = match (n_base - n_common, n_arm - n_common) {
        (0, 0) => Tail::None,
        (more, 0) => Tail::Base(more),
        (_, more) => Tail::Arm(more),
    };
    if found.n_differences == 0 { Ok(Contract { n_common, tail }) } else { Err(found) }
}

/// Converters fill a vocabulary up to the size of the embedding with tokens of type "unused", texts like `[PAD32000]`.
fn is_padding(table: &impl TokenTable, id: usize) -> bool {
    let text = table.text(id);
    let numbered = |prefix: &[u8]| {
        text.strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix(b"]"))
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
    };
    table.kind(id) == TokenKind::Unused || text.is_empty() || numbered(b"[PAD") || numbered(b"[unused")
}

fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Table(Vec<(&'static str, TokenKind)>, u32);

    impl TokenTable for Table {
        fn n_tokens(&self) -> usize {
            self.0.len()
        }
        fn text(&self, index: usize) -> &[u8] {
            self.0[index].0.as_bytes()
        }
        fn kind(&self, index: usize) -> TokenKind {
            self.0[index].1
        }
        fn special(&self) -> [(&'static str, Option<u32>); 3] {
            [("bos", Some(0)), ("eos", Some(self.1)), ("eot", None)]
        }
    }

    fn table(texts: &[&'static str]) -> Table {
        let kind = |text: &str| if text.starts_with("[PAD") { TokenKind::Unused } else { TokenKind::Normal };
        Table(texts.iter().map(|text| (*text, kind(text))).collect(), 1)
    }

    #[test]
    fn equal_tables_are_identical() {
        let contract = check_vocabulary(&table(&["<s>", "</s>", "a"]), &table(&["<s>", "</s>", "a"])).unwrap();
        assert_eq!(contract, Contract { n_common: 3, tail: Tail::None });
    }

    #[test]
    fn an_unused_tail_on_either_side_is_accepted() {
        let (short, long) = (table(&["<s>", "</s>", "a"]), table(&["<s>", "</s>", "a", "[PAD3]", "[PAD4]"]));
        assert_eq!(check_vocabulary(&long, &short).unwrap().tail, Tail::Base(2));
        assert_eq!(check_vocabulary(&short, &long).unwrap().tail, Tail::Arm(2));
    }

    #[test]
    fn a_used_token_in_the_tail_is_refused() {
        let (short, long) = (table(&["<s>", "</s>"]), table(&["<s>", "</s>", "<|user|>"]));
        let refused = check_vocabulary(&short, &long).unwrap_err().to_string();
        assert!(refused.contains("token 2 \"<|user|>\" is in the ARM only"), "{refused}");
    }

    #[test]
    fn another_text_type_or_special_token_is_refused_by_name() {
        let base = table(&["<s>", "</s>", "a", "b"]);
        let refused = check_vocabulary(&base, &table(&["<s>", "</s>", "a", "c"])).unwrap_err().to_string();
        assert!(refused.contains("token 3 is \"b\" in the base and \"c\" in the ARM"), "{refused}");
        let mut other = table(&["<s>", "</s>", "a", "b"]);
        other.0[2].1 = TokenKind::Control;
        let refused = check_vocabulary(&base, &other).unwrap_err().to_string();
        assert!(refused.contains("is Normal in the base and Control in the ARM"), "{refused}");
        let mut other = table(&["<s>", "</s>", "a", "b"]);
        other.1 = 2;
        let refused = check_vocabulary(&base, &other).unwrap_err().to_string();
        assert!(refused.contains("eos is token 1 in the base and 2 in the ARM"), "{refused}");
    }

    #[test]
    fn a_report_is_short_however_much_differs() {
        let refused = check_vocabulary(&table(&["a"; 50]), &table(&["b"; 50])).unwrap_err();
        assert_eq!((refused.first.len(), refused.n_differences), (Mismatch::SHOWN, 50));
        assert!(refused.to_string().ends_with("; and 45 more"), "{refused}");
    }
}
