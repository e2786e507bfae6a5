//! `base=1.2B,arm=180M,lora=r8`: which models of which size, and which adapters of which rank.

use thiserror::Error;

/// One model to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRequest {
    /// `base`, or the name of an ARM.
    pub name: String,
    /// How large.
    pub size: Size,
}

/// The size of what is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// A model of so many parameters.
    Params(u64),
    /// A LoRA adapter of this rank on the base.
    Rank(u64),
}

/// Why a list of sizes makes no sense.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// An entry is not `name=size`.
    #[error("\"{entry}\" is not NAME=SIZE, such as base=1.2B")]
    Entry {
        /// The entry.
        entry: String,
    },
    /// A size is not a number with K, M or B.
    #[error("\"{size}\" is neither a number of parameters nor a rank; give it such as 180M, 1.2B or r8")]
    Size {
        /// The size.
        size: String,
    },
    /// A name is there twice.
    #[error("{name} appears twice; names must differ")]
    Twice {
        /// The name.
        name: String,
    },
    /// No entry is named `base`, or the base is an adapter.
    #[error("there is no base; add base=SIZE")]
    NoBase,
}

/// Parses a list of sizes such as `base=1.2B,arm=180M,lora=r8`: one `base`, and any number of ARMs by their names. `r8`
/// is a LoRA adapter of rank 8 on the base.
///
/// # Errors
///
/// The first of [`RequestError`] that applies.
///
/// ```
/// # use genarm::bench::synthetic::{Size, parse_shapes};
/// let models = parse_shapes("base=1.2B,arm=180M,lora=r8")?;
/// assert_eq!((models[1].name.as_str(), models[1].size), ("arm", Size::Params(180_000_000)));
/// assert_eq!(models[2].size, Size::Rank(8));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn parse_shapes(list: &str) -> Result<Vec<ModelRequest>, RequestError> {
    let mut requests: Vec<ModelRequest> = Vec::new();
    for entry in list.split(',').map(str::trim) {
        let (name, size) = match entry.split_once('=') {
            Some((name, size)) if is_name(name.trim()) => (name.trim(), size.trim()),
            _ => return Err(RequestError::Entry { entry: entry.to_owned() }),
        };
        if requests.iter().any(|request| request.name == name) {
            return Err(RequestError::Twice { name: name.to_owned() });
        }
        let rank = |text: &str| text.parse().ok().filter(|rank| (1..=1024).contains(rank)).map(Size::Rank);
        let size = match size.strip_prefix('r') {
            Some(text) => rank(text),
            None => parse_size(size).map(Size::Params),
        }
        .ok_or_else(|| RequestError::Size { size: size.to_owned() })?;
        requests.push(ModelRequest { name: name.to_owned(), size });
    }
    if !requests.iter().any(|request| request.name == "base" && matches!(request.size, Size::Params(_))) {
        return Err(RequestError::NoBase);
    }
    Ok(requests)
}

/// A name becomes part of a file's name.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

fn parse_size(size: &str) -> Option<u64> {
    /// Beyond this no machine makes the file.
    const MAX: f64 = 1e12;
    let unit = match size.chars().last()?.to_ascii_uppercase() {
        'K' => 1e3,
        'M' => 1e6,
        'B' | 'G' => 1e9,
        _ => return None,
    };
    // Digits and a point only: parse() alone would take "nan" and "1e9".
    let number = &size[..size.len() - 1];
    if !number.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let n = number.parse::<f64>().ok()? * unit;
    (1.0..=MAX).contains(&n).then_some(n.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_sizes_is_parsed_or_refused_with_its_culprit() {
        let sizes = |list: &str| parse_shapes(list).map(|models| models.iter().map(|m| m.size).collect::<Vec<_>>());
        let params = [1_200_000_000, 180_000_000, 260_000].map(Size::Params);
        assert_eq!(sizes("base=1.2B, arm=180m,tiny=260K"), Ok(params.to_vec()));
        assert_eq!(sizes("base=1K,lora=r16"), Ok(vec![Size::Params(1000), Size::Rank(16)]));
        for list in ["arm=1B", "base=r8"] {
            assert_eq!(sizes(list), Err(RequestError::NoBase));
        }
        assert_eq!(sizes("base=1B,base=2B"), Err(RequestError::Twice { name: "base".into() }));
        for entry in ["", "base", "=1B", "../base=1B"] {
            assert_eq!(sizes(entry), Err(RequestError::Entry { entry: entry.into() }));
        }
        for size in ["", "1", "B", "nanB", "-1B", "1e3B", "0M", "9999999B", "1.2.3B", "1é", "r", "r0", "r1.5", "r9999"]
        {
            assert_eq!(sizes(&format!("base={size}")), Err(RequestError::Size { size: size.into() }));
        }
    }
}
