//! Names as they are typed: `hf:USER/REPO[:QUANT]`, `hf:USER/REPO/FILE.gguf`, `ollama:NAME[:TAG]`,
//! `lmstudio:PUBLISHER/MODEL[:QUANT]`, `lmstudio:PUBLISHER/MODEL/FILE.gguf`.

use std::fmt;
use std::str::FromStr;

use super::error::FindError;
use super::ollama::OllamaName;

/// A model by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ModelName {
    /// `hf:`: a file of a repository on the Hugging Face hub.
    Hub(RepoName),
    /// `ollama:`: a model of Ollama's.
    Ollama(OllamaName),
    /// `lmstudio:`: a file in LM Studio's folder.
    LmStudio(RepoName),
}

/// `USER/REPO[:QUANT]` or `USER/REPO/FILE.gguf`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RepoName {
    /// `USER/REPO`.
    pub repo: String,
    /// Which of its files.
    pub pick: Pick,
}

/// Which of a repository's GGUFs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pick {
    /// Q4_K_M, else Q8_0, else the first one.
    Usual,
    /// The one with this quantisation in its name.
    Quant(String),
    /// This one, by its path in the repository.
    File(String),
}

impl ModelName {
    /// Reads a name; `None` where the text is a path.
    ///
    /// # Errors
    ///
    /// [`FindError::Name`] for a text that begins as a name and does not go on as one.
    pub fn parse(text: &str) -> Option<Result<Self, FindError>> {
        let (store, rest) = text.split_once(':')?;
        match store {
            "hf" => Some(rest.strip_prefix("//").unwrap_or(rest).parse().map(Self::Hub)),
            "ollama" => Some(rest.parse().map(Self::Ollama)),
            "lmstudio" => Some(RepoName::read(store, rest, is_folder).map(Self::LmStudio)),
            _ => None,
        }
    }

    /// Whether a text begins as a name.
    pub fn is_name(text: &str) -> bool {
        Self::parse(text).is_some()
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub(name) => write!(f, "hf:{name}"),
            Self::Ollama(name) => write!(f, "ollama:{name}"),
            Self::LmStudio(name) => write!(f, "lmstudio:{name}"),
        }
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pick {
            Pick::Usual => f.write_str(&self.repo),
            Pick::Quant(quant) => write!(f, "{}:{quant}", self.repo),
            Pick::File(file) => write!(f, "{}/{file}", self.repo),
        }
    }
}

impl FromStr for RepoName {
    type Err = FindError;

    /// Reads a name on the hub, without its `hf:`.
    fn from_str(text: &str) -> Result<Self, FindError> {
        Self::read("hf", text, is_repo_part)
    }
}

impl RepoName {
    fn read(store: &str, text: &str, is_part: fn(&str) -> bool) -> Result<Self, FindError> {
        let wrong = |problem: &str| FindError::Name { name: format!("{store}:{text}"), problem: problem.to_owned() };
        let form = match store {
            "hf" => "write hf:USER/REPO[:QUANT] or hf:USER/REPO/FILE.gguf, as in hf:ggml-org/gemma-3-1b-it-GGUF:Q4_K_M",
            _ => "write lmstudio:PUBLISHER/MODEL[:QUANT] or lmstudio:PUBLISHER/MODEL/FILE.gguf",
        };
        let (user, rest) = text.split_once('/').ok_or_else(|| wrong(form))?;
        let (repo, pick) = match (rest.split_once('/'), rest.split_once(':')) {
            (Some((repo, file)), _) if is_file(file) => (repo, Pick::File(file.to_owned())),
            (Some((repo, _)), _) if !repo.contains(':') => {
                return Err(wrong("what follows the repository must be a path that ends in .gguf"));
            }
            (None, Some((repo, quant))) if is_quant(quant) => match quant.eq_ignore_ascii_case("latest") {
                true => (repo, Pick::Usual),
                false => (repo, Pick::Quant(quant.to_owned())),
            },
            (None, None) => (rest, Pick::Usual),
            _ => return Err(wrong(form)),
        };
        match is_part(user) && is_part(repo) {
            true => Ok(Self { repo: format!("{user}/{repo}"), pick }),
            false => Err(wrong(form)),
        }
    }
}

/// What the hub takes as a user or a repository: letters, digits and `_`, with single `.` and `-` between.
fn is_repo_part(part: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let ends = part.starts_with(is_word) && part.ends_with(is_word);
    let doubled = [".", "-"].iter().any(|a| [".", "-"].iter().any(|b| part.contains(&format!("{a}{b}"))));
    ends && !doubled && part.len() <= 128 && part.chars().all(|c| is_word(c) || ".-".contains(c))
}

/// The name of a folder within another.
fn is_folder(part: &str) -> bool {
    !part.is_empty() && !part.starts_with('.') && !part.contains(|c: char| c.is_control() || "/\\:".contains(c))
}

/// A path within a repository that ends in `.gguf`.
pub(super) fn is_file(path: &str) -> bool {
    let is_gguf = path.rsplit_once('.').is_some_and(|(_, ending)| ending.eq_ignore_ascii_case("gguf"));
    is_gguf
        && path
            .split('/')
            .all(|part| is_folder(part) || part.starts_with('.') && part.len() > 2 && is_folder(&part[1..]))
}

fn is_quant(quant: &str) -> bool {
    !quant.is_empty() && quant.len() <= 64 && quant.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_and_written_alike() {
        for name in [
            "hf:ggml-org/gemma-3-1b-it-GGUF",
            "hf:ggml-org/gemma-3-1b-it-GGUF:Q4_K_M",
            "hf:unsloth/x_y.z/UD-Q4/model-00001-of-00002.gguf",
            "ollama:llama3.2:1b",
            "ollama:me/model:latest",
            "lmstudio:some one/My Model/file.GGUF",
            "lmstudio:lmstudio-community/Qwen2.5-GGUF:q8_0",
        ] {
            assert_eq!(ModelName::parse(name).unwrap().unwrap().to_string(), name);
        }
        let shown = |name: &str| ModelName::parse(name).unwrap().unwrap().to_string();
        assert_eq!(shown("hf://a/b:latest"), "hf:a/b");
        assert_eq!(shown("ollama:llama3.2"), "ollama:llama3.2:latest");
    }

    #[test]
    fn a_path_is_no_name() {
        for path in
            ["model.gguf", "./hf:a/b", "C:\\model.gguf", "/x/hf:y", "hf", "HF/x", "https://huggingface.co/a/b", "a:b"]
        {
            assert!(ModelName::parse(path).is_none(), "{path}");
        }
    }

    #[test]
    fn what_begins_as_a_name_and_is_none_says_what_to_write() {
        for name in [
            "hf:",
            "hf:a",
            "hf:/b",
            "hf:a/",
            "hf:a/b/",
            "hf:a/b/c.bin",
            "hf:a/b:",
            "hf:a/b:Q4/x",
            "hf:a/..",
            "hf:../b",
            "hf:a/b/../../c.gguf",
            "hf:a/b/./c.gguf",
            "hf:a/b\\c/d.gguf",
            "hf:a b/c",
            "hf:a/b:Q4 K",
            "hf:a--b/c",
            "hf:-a/b",
            "lmstudio:a",
            "lmstudio:../b",
            "lmstudio:a/b/c",
            "ollama:",
            "ollama:../x",
            "hf:a/b/\u{7}.gguf",
        ] {
            let error = ModelName::parse(name).expect("a name").expect_err(name).to_string();
            assert!(error.contains(" is no model's name: ") && error.len() < 250, "{error}");
        }
    }
}
