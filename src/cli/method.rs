//! The ways to answer that the command line names.

use std::path::PathBuf;
use std::str::FromStr;

use crate::config::parse_weight;
use crate::stores::ModelName;

/// A way to answer, as the command line names it.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    /// `base`: without guidance.
    Base,
    /// `genarm`, `genarm:NAME=W,…`, or `guided` in its place: guided, with the configuration's weights or these.
    Guided(Vec<(String, f32)>),
    /// `best-of-N`, `best-of-N:NAME=W,…`: by the reward of the ARMs.
    BestOf(usize, Vec<(String, f32)>),
    /// `args`, `args-K`, `args-K:NAME=W,…`: guided among the base's K likeliest tokens.
    Args(usize, Vec<(String, f32)>),
    /// `FILE.yaml`: another configuration, guided by its weights.
    Config(PathBuf),
    /// `FILE.gguf`, `FILE.gguf+LORA.gguf`, or names of models in their place: another model, alone.
    Model(PathBuf, Option<PathBuf>),
}

/// Candidates of ARGS where no number is given: the authors' choice.
const ARGS_K: usize = 10;

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "expected base, genarm[:NAME=W,…], best-of-N[:NAME=W,…], args[-K][:NAME=W,…], a FILE.yaml or a \
                 FILE.gguf[+LORA.gguf], got \"{text}\""
            )
        };
        let lower = text.to_lowercase();
        if lower.ends_with(".yaml") || lower.ends_with(".yml") {
            return Ok(Self::Config(text.into()));
        }
        if ModelName::is_name(text) && !lower.contains(".gguf+") {
            let (model, lora) = text.split_once('+').map_or((text, None), |(model, lora)| (model, Some(lora.into())));
            return Ok(Self::Model(model.into(), lora));
        }
        if lower.ends_with(".gguf") {
            return Ok(match text.split_once(".gguf+") {
                Some((model, lora)) => Self::Model(format!("{model}.gguf").into(), Some(lora.into())),
                None => Self::Model(text.into(), None),
            });
        }
        let (name, weights) = text.split_once(':').unwrap_or((text, ""));
        let weight = |w: &str| parse_weight(w.trim());
        let weights = weights.split(',').filter(|w| !w.is_empty()).map(weight).collect::<Result<Vec<_>, _>>()?;
        let number = |n: &str| n.parse().ok().filter(|n| (1..=10_000).contains(n)).ok_or_else(wrong);
        match name {
            "base" if weights.is_empty() => Ok(Self::Base),
            "genarm" | "guided" => Ok(Self::Guided(weights)),
            "args" => Ok(Self::Args(ARGS_K, weights)),
            _ => match (name.strip_prefix("best-of-"), name.strip_prefix("args-")) {
                (Some(n), _) => Ok(Self::BestOf(number(n)?, weights)),
                (_, Some(k)) => Ok(Self::Args(number(k)?, weights)),
                _ => Err(wrong()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_read_as_they_are_named() {
        let of = |text: &str| text.parse::<Method>();
        assert_eq!(of("base"), Ok(Method::Base));
        assert_eq!(of("genarm"), Ok(Method::Guided(vec![])));
        assert_eq!(of("guided"), of("genarm"));
        let weights = vec![("a".to_owned(), 0.5), ("b".to_owned(), -1.0)];
        assert_eq!(of("genarm:a=0.5,b=-1"), Ok(Method::Guided(weights.clone())));
        assert_eq!(of("guided:a=0.5,b=-1"), of("genarm:a=0.5,b=-1"));
        assert_eq!(of("best-of-16:a=0.5,b=-1"), Ok(Method::BestOf(16, weights)));
        assert_eq!(of("args"), Ok(Method::Args(10, vec![])));
        assert_eq!(of("args-4"), Ok(Method::Args(4, vec![])));
        assert_eq!(of("x/y.yaml"), Ok(Method::Config("x/y.yaml".into())));
        assert_eq!(of("m.gguf+l.gguf"), Ok(Method::Model("m.gguf".into(), Some("l.gguf".into()))));
        assert_eq!(of("hf:a/b:Q8_0"), Ok(Method::Model("hf:a/b:Q8_0".into(), None)));
        assert_eq!(of("hf:a/b+l.gguf"), Ok(Method::Model("hf:a/b".into(), Some("l.gguf".into()))));
        for wrong in ["", "bases", "base:a=1", "best-of-0", "best-of-x", "args-0", "genarm:a", "genarm:a=nan"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
