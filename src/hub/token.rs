//! The access token of the Hugging Face hub.

use std::fs;
use std::path::PathBuf;

use crate::stores::Variables;

/// The token of `HF_TOKEN`, else of the file that `hf auth login` writes.
pub fn token(variables: &Variables<'_>) -> Option<String> {
    let text = |name: &str| variables(name).map(|value| value.to_string_lossy().into_owned());
    let of_environment = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
    of_environment.or_else(|| fs::read_to_string(file(variables)?).ok()).and_then(|token| clean(&token))
}

/// A token that can stand in a header.
pub fn clean(token: &str) -> Option<String> {
    let token = token.trim();
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    is_token.then(|| token.to_owned())
}

fn file(variables: &Variables<'_>) -> Option<PathBuf> {
    let home = || variables("HF_HOME");
    let cache = || variables("XDG_CACHE_HOME").or_else(|| variables("HOME").map(|home| home.join(".cache")));
    let folder = || home().or_else(|| cache().map(|cache| cache.join("huggingface")));
    variables("HF_TOKEN_PATH").or_else(|| folder().map(|folder| folder.join("token")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_counts_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), "of_the_file\n").unwrap();
        let home = |name: &str| (name == "HF_HOME").then(|| folder.path().to_owned());
        assert_eq!(token(&home).as_deref(), Some("of_the_file"));
        let both = |name: &str| if name == "HF_TOKEN" { Some("of_the_variable ".into()) } else { home(name) };
        assert_eq!(token(&both).as_deref(), Some("of_the_variable"));
        assert_eq!(token(&|_: &str| None), None);
        assert_eq!(clean("two\nlines"), None);
    }
}
