//! β of single objectives.

use serde::{Deserialize, Deserializer, Serialize};

/// The β of one objective: `NAME=X`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Beta(pub String, pub f64);

impl std::str::FromStr for Beta {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('=').and_then(|(name, x)| Some(Self(name.trim().into(), x.trim().parse().ok()?)));
        parsed.ok_or_else(|| format!("expected NAME=X, as helpful=0.05, got \"{text}\""))
    }
}

/// A recipe's spelling: a mapping, or one text with commas.
pub(super) fn betas<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Beta>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a mapping of objectives to numbers, or one text as NAME=X,NAME=X")]
    enum Betas {
        Mapping(indexmap::IndexMap<String, f64>),
        Text(String),
    }
    match Option::<Betas>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Betas::Mapping(map)) => Ok(Some(map.into_iter().map(|(name, x)| Beta(name, x)).collect())),
        Some(Betas::Text(text)) => {
            text.split(',').map(str::parse).collect::<Result<_, String>>().map(Some).map_err(serde::de::Error::custom)
        }
    }
}
