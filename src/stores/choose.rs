//! Which of a repository's files a name means: llama.cpp's rules, for the hub, the caches and LM Studio's folder.

use super::name::{Pick, RepoName};
use crate::nearest::nearest;

/// Quantisations that a name without one means, the first that is there.
const USUAL: [&str; 2] = ["Q4_K_M", "Q8_0"];

/// Parts of the names of files that belong to a model and are none.
const HELPERS: [&str; 6] = ["mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-"];

/// No file is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoFile {
    /// There is no GGUF at all.
    Empty,
    /// There is no such quantisation.
    Quant {
        /// Those that are there.
        there: Vec<String>,
    },
    /// There is no such file.
    File {
        /// The nearest name that is there.
        near: Option<String>,
    },
    /// Other parts of a split model are missing.
    Parts {
        /// How many.
        missing: usize,
    },
}

/// The place of a file among the parts of a split model, by its name.
struct Part<'a> {
    /// The path without number and ending.
    stem: &'a str,
    /// From 1.
    index: u32,
    n_parts: u32,
}

impl<'a> Part<'a> {
    fn of(path: &'a str) -> Self {
        let stem = path.len().checked_sub(5).and_then(|end| path.get(..end)).unwrap_or(path);
        let numbers = || {
            let (rest, n_parts) = stem.rsplit_once("-of-")?;
            let (name, index) = rest.rsplit_once('-')?;
            let number = |digits: &str| (digits.len() == 5).then(|| digits.parse().ok()).flatten();
            Some(Self { stem: name, index: number(index)?, n_parts: number(n_parts)? })
        };
        numbers().unwrap_or(Self { stem, index: 1, n_parts: 1 })
    }

    /// The quantisation, such as `Q4_K_M`: the last part of the name.
    fn quant(&self) -> Option<String> {
        let name = self.stem.rsplit('/').next().unwrap_or(self.stem);
        let (_, last) = name.rsplit_once(['-', '.'])?;
        let known = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_quant = last.contains(|c: char| c.is_ascii_digit()) && last.chars().all(known);
        is_quant.then(|| last.to_ascii_uppercase())
    }
}

/// The name of a file without its ending, its quantisation and its number among parts.
pub fn stem(name: &str) -> &str {
    let part = Part::of(name);
    let quant = part.quant().map_or(0, |quant| quant.len() + 1);
    &part.stem[..part.stem.len() - quant]
}

/// Whether a file may be a model or an adapter: not a projector, say.
fn is_model(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    name.ends_with(".gguf") && !HELPERS.iter().any(|helper| name.contains(helper))
}

/// Whether `quant` stands in a path as a word: `Q4_K_M` in `x-Q4_K_M.gguf`, and `Q4_0` not in `x-IQ4_0.gguf`.
fn has_quant(path: &str, quant: &str) -> bool {
    let (path, quant) = (path.to_ascii_lowercase(), quant.to_ascii_lowercase());
    let ends = |rest: &str| rest.starts_with(['.', '-', '/']);
    let begins = |before: &str| !before.ends_with(|c: char| c.is_ascii_alphanumeric());
    path.match_indices(&quant).any(|(at, _)| begins(&path[..at]) && ends(&path[at + quant.len()..]))
}

/// The files that are meant, all parts of a split model; the first one is the one to open.
///
/// # Errors
///
/// [`NoFile`].
pub fn choose<'a>(files: &[&'a str], pick: &Pick) -> Result<Vec<&'a str>, NoFile> {
    let models = || firsts(files);
    let of_quant = |quant: &str| models().find(|path| has_quant(path, quant));
    let first = match pick {
        Pick::File(wanted) => files
            .iter()
            .copied()
            .find(|path| path == wanted)
            .ok_or_else(|| NoFile::File { near: nearest(wanted, models()).map(str::to_owned) })?,
        Pick::Quant(quant) => of_quant(quant).ok_or_else(|| match quants(files) {
            there if there.is_empty() => NoFile::Empty,
            there => NoFile::Quant { there },
        })?,
        Pick::Usual => {
            USUAL.iter().find_map(|quant| of_quant(quant)).or_else(|| models().next()).ok_or(NoFile::Empty)?
        }
    };
    let part = Part::of(first);
    if part.n_parts <= 1 {
        return Ok(vec![first]);
    }
    let is_other = |path: &&str| {
        let other = Part::of(path);
        (other.stem, other.n_parts) == (part.stem, part.n_parts)
    };
    let mut parts: Vec<_> = files.iter().copied().filter(is_other).collect();
    parts.sort_by_key(|path| Part::of(path).index);
    match (part.n_parts as usize).saturating_sub(parts.len()) {
        0 => Ok(parts),
        missing => Err(NoFile::Parts { missing }),
    }
}

/// The models among these files, by their first parts.
fn firsts<'a>(files: &[&'a str]) -> impl Iterator<Item = &'a str> {
    files.iter().copied().filter(|path| is_model(path) && Part::of(path).index == 1)
}

/// What can be written after the colon: the quantisations of these files, or their paths where a name has none.
pub fn quants(files: &[&str]) -> Vec<String> {
    let mut all: Vec<_> = firsts(files).map(|path| Part::of(path).quant().unwrap_or_else(|| path.to_owned())).collect();
    all.sort();
    all.dedup();
    all
}

/// The models among these files, each with all parts that are there.
pub fn models<'a>(files: &[&'a str]) -> Vec<Vec<&'a str>> {
    let firsts =
        files.iter().copied().filter(|path| path.to_ascii_lowercase().ends_with(".gguf") && Part::of(path).index == 1);
    let whole = |path: &'a str| choose(files, &Pick::File(path.to_owned())).unwrap_or_else(|_| vec![path]);
    firsts.map(whole).collect()
}

/// The names of all models of a repository, each with the files that it stands for: by the quantisation where that is
/// enough.
pub fn names<'a>(repo: &str, files: &[&'a str]) -> Vec<(RepoName, Vec<&'a str>)> {
    let models = firsts(files);
    let name = |path: &'a str| {
        let of_quant = Part::of(path).quant().map(Pick::Quant);
        let by_quant = of_quant.and_then(|pick| Some((choose(files, &pick).ok()?, pick)));
        let (files, pick) = match by_quant {
            Some((found, pick)) if found[0] == path => (found, pick),
            _ => {
                let pick = Pick::File(path.to_owned());
                (choose(files, &pick).unwrap_or_else(|_| vec![path]), pick)
            }
        };
        (RepoName { repo: repo.to_owned(), pick }, files)
    };
    models.map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [&str; 9] = [
        "README.md",
        "mmproj-model-Q8_0.gguf",
        "model-IQ4_0.gguf",
        "model-Q2_K.gguf",
        "model-Q4_0.gguf",
        "model-Q4_K_M-00001-of-00002.gguf",
        "model-Q4_K_M-00002-of-00002.gguf",
        "model.Q8_0.gguf",
        "BF16/model-BF16-00001-of-00003.gguf",
    ];

    fn of(pick: Pick) -> Result<Vec<&'static str>, NoFile> {
        choose(&FILES, &pick)
    }

    #[test]
    fn a_name_means_the_file_that_llama_cpp_would_take() {
        let parts = vec!["model-Q4_K_M-00001-of-00002.gguf", "model-Q4_K_M-00002-of-00002.gguf"];
        assert_eq!(of(Pick::Usual), Ok(parts.clone()));
        assert_eq!(of(Pick::Quant("q4_k_m".into())), Ok(parts));
        assert_eq!(of(Pick::Quant("q8_0".into())), Ok(vec!["model.Q8_0.gguf"]));
        assert_eq!(of(Pick::Quant("Q4_0".into())), Ok(vec!["model-Q4_0.gguf"]));
        assert_eq!(of(Pick::File("model-Q2_K.gguf".into())), Ok(vec!["model-Q2_K.gguf"]));
        assert_eq!(choose(&["a.gguf", "b-Q8_0.gguf"], &Pick::Usual), Ok(vec!["b-Q8_0.gguf"]));
        assert_eq!(choose(&["imatrix.gguf", "z.gguf", "a.gguf"], &Pick::Usual), Ok(vec!["z.gguf"]));
    }

    #[test]
    fn what_is_not_there_is_told_apart() {
        let there = ["BF16", "IQ4_0", "Q2_K", "Q4_0", "Q4_K_M", "Q8_0"].map(str::to_owned).to_vec();
        assert_eq!(of(Pick::Quant("Q6_K".into())), Err(NoFile::Quant { there }));
        assert_eq!(of(Pick::Quant("BF16".into())), Err(NoFile::Parts { missing: 2 }));
        let near = Some("model-Q2_K.gguf".to_owned());
        assert_eq!(of(Pick::File("model-Q2_k.gguf".into())), Err(NoFile::File { near }));
        assert_eq!(choose(&["README.md", "mmproj-x.gguf"], &Pick::Usual), Err(NoFile::Empty));
        assert_eq!(choose(&[], &Pick::Quant("Q8_0".into())), Err(NoFile::Empty));
    }

    #[test]
    fn each_listed_name_leads_back_to_its_file() {
        let files = [&FILES[..], &["sub/model-Q2_K.gguf", "plain.gguf", "ä.gguf", ".gguf", "x"]].concat();
        let names = names("a/b", &files);
        for (name, found) in &names {
            if !matches!(choose(&files, &name.pick), Err(NoFile::Parts { .. })) {
                assert_eq!(choose(&files, &name.pick).as_ref(), Ok(found), "{name}");
            }
        }
        let shown: Vec<_> = names.iter().map(|(name, _)| name.to_string()).collect();
        assert!(
            shown.contains(&"a/b:Q2_K".to_owned()) && shown.contains(&"a/b/sub/model-Q2_K.gguf".to_owned()),
            "{shown:?}"
        );
        assert!(shown.contains(&"a/b/plain.gguf".to_owned()), "{shown:?}");
    }
}
