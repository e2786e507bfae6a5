//! Where in the text every key and value of a YAML stands.
//!
//! The wire structs stay plain serde structs, and errors still name file, line and key: the text is read a second
//! time into a tree of positions, in which a key path finds its position and a position finds its key path.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

/// A line and a column, both counted from 1.
pub type Position = (u64, u64);

/// A YAML value with the positions of what is in it.
#[derive(Debug)]
pub(super) struct Node {
    at: Position,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// The value as an error message shows it.
    Scalar(String),
    Map(Vec<(String, Position, Node)>),
    List(Vec<Node>),
}

/// A key that stands twice in one mapping.
pub(super) struct Duplicate {
    pub parent: String,
    pub key: String,
    pub first: Position,
    pub second: Position,
}

impl Node {
    /// Reads the tree. Duplicate keys are kept, see [`duplicate`](Self::duplicate).
    pub(super) fn parse(text: &str) -> Result<Self, serde_saphyr::Error> {
        let options = serde_saphyr::options! {
            duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
            non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough,
            strict_booleans: true,
            with_snippet: false,
        };
        serde_saphyr::from_str_with_options::<Spanned<Kind>>(text, options).map(Self::from)
    }

    /// The position of the value at `path`, or of the nearest parent that is there.
    pub(super) fn position_of(&self, path: &[&str]) -> Position {
        self.get(path).unwrap_or_else(|parent| parent).at
    }

    /// The position of the key at the end of `path`, or of the nearest parent that is there.
    pub(super) fn position_of_key(&self, path: &[&str]) -> Position {
        let Some((last, parents)) = path.split_last() else { return self.at };
        match self.get(parents) {
            Ok(Self { kind: Kind::Map(entries), at }) => {
                entries.iter().find(|(key, ..)| key == last).map_or(*at, |(_, key_at, _)| *key_at)
            }
            Ok(node) | Err(node) => node.at,
        }
    }

    /// Whether there is a value at `path`.
    pub(super) fn has(&self, path: &[&str]) -> bool {
        self.get(path).is_ok()
    }

    /// The scalar at a position, as an error message shows it; a list is called that.
    pub(super) fn scalar_at(&self, at: Position) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(text) if self.at == at => Some(text),
            Kind::Scalar(_) => None,
            Kind::Map(entries) => entries.iter().find_map(|(_, _, node)| node.scalar_at(at)),
            Kind::List(_) if self.at == at => Some("a list"),
            Kind::List(items) => items.iter().find_map(|node| node.scalar_at(at)),
        }
    }

    /// The name of the entry that has a scalar at this position, in the value or in its name.
    pub(super) fn name_at(&self, at: Position) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(_) => None,
            Kind::Map(entries) => entries.iter().find_map(|(name, key, node)| {
                let is_here = matches!(node.kind, Kind::Scalar(_)) && (node.at == at || *key == at);
                if is_here { Some(name.as_str()) } else { node.name_at(at) }
            }),
            Kind::List(items) => items.iter().find_map(|node| node.name_at(at)),
        }
    }

    /// The path of the key or value at a position: `arms.cheerful.weight`, `samplers[2]`.
    ///
    /// A mapping begins where its first key begins; the outer one is meant, as serde reports the mapping there only
    /// when a scalar was wanted, and reports keys through [`key_path_at`](Self::key_path_at).
    pub(super) fn path_at(&self, at: Position) -> Option<String> {
        self.find(at, String::new(), false)
    }

    /// The path of the key at a position.
    pub(super) fn key_path_at(&self, at: Position) -> Option<String> {
        self.find(at, String::new(), true)
    }

    /// The position of the value whose key stands at `at`.
    pub(super) fn value_of_key_at(&self, at: Position) -> Option<Position> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find_map(|(_, key_at, node)| match *key_at == at {
                true => Some(node.at),
                false => node.value_of_key_at(at),
            }),
            Kind::List(items) => items.iter().find_map(|node| node.value_of_key_at(at)),
            Kind::Scalar(_) => None,
        }
    }

    /// The first key that stands twice in one mapping.
    pub(super) fn duplicate(&self) -> Option<Duplicate> {
        self.duplicate_below(String::new())
    }

    fn get(&self, path: &[&str]) -> Result<&Self, &Self> {
        let Some((first, rest)) = path.split_first() else { return Ok(self) };
        match &self.kind {
            Kind::Map(entries) => match entries.iter().find(|(key, ..)| key == first) {
                Some((_, _, node)) => node.get(rest),
                None => Err(self),
            },
            Kind::List(items) => match first.parse::<usize>().ok().and_then(|i| items.get(i)) {
                Some(node) => node.get(rest),
                None => Err(self),
            },
            Kind::Scalar(_) => Err(self),
        }
    }

    fn find(&self, at: Position, path: String, key: bool) -> Option<String> {
        if !key && self.at == at {
            return Some(path);
        }
        match &self.kind {
            Kind::Map(entries) => entries.iter().find_map(|(name, key_at, node)| {
                let path = join(&path, name);
                if key && *key_at == at { Some(path) } else { node.find(at, path, key) }
            }),
            Kind::List(items) => {
                items.iter().enumerate().find_map(|(i, node)| node.find(at, format!("{path}[{i}]"), key))
            }
            Kind::Scalar(_) => None,
        }
    }

    fn duplicate_below(&self, path: String) -> Option<Duplicate> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().enumerate().find_map(|(i, (key, second, node))| {
                let first = entries[..i].iter().find(|(earlier, ..)| earlier == key).map(|(_, first, _)| *first);
                match first {
                    Some(first) => Some(Duplicate { parent: path.clone(), key: key.clone(), first, second: *second }),
                    None => node.duplicate_below(join(&path, key)),
                }
            }),
            Kind::List(items) => {
                items.iter().enumerate().find_map(|(i, node)| node.duplicate_below(format!("{path}[{i}]")))
            }
            Kind::Scalar(_) => None,
        }
    }
}

impl From<Spanned<Kind>> for Node {
    fn from(spanned: Spanned<Kind>) -> Self {
        Self { at: position(spanned.referenced), kind: spanned.value }
    }
}

/// serde-saphyr's location as a line and a column.
pub(super) fn position(at: Location) -> Position {
    (at.line(), at.column())
}

/// A path with one more key.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, x: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(x.to_string()))
    }

    fn visit_i64<E>(self, x: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar(x.to_string()))
    }

    fn visit_u64<E>(self, x: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar(x.to_string()))
    }

    fn visit_i128<E>(self, x: i128) -> Result<Kind, E> {
        Ok(Kind::Scalar(x.to_string()))
    }

    fn visit_u128<E>(self, x: u128) -> Result<Kind, E> {
        Ok(Kind::Scalar(x.to_string()))
    }

    fn visit_f64<E>(self, x: f64) -> Result<Kind, E> {
        Ok(Kind::Scalar(x.to_string()))
    }

    fn visit_str<E>(self, x: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar(format!("{:?}", shorten(x))))
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Kind, E> {
        Ok(Kind::Scalar("binary data".to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar("nothing".to_owned()))
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar("nothing".to_owned()))
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Kind, D::Error> {
        Kind::deserialize(d)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Kind>>()? {
            items.push(item.into());
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let at = position(key.referenced);
            entries.push((key.value, at, map.next_value::<Spanned<Kind>>()?.into()));
        }
        Ok(Kind::Map(entries))
    }
}

/// Keeps an error on one readable line whatever the file holds.
fn shorten(text: &str) -> String {
    const MAX: usize = 60;
    if text.chars().count() <= MAX { text.to_owned() } else { text.chars().take(MAX).chain(['…']).collect() }
}
