//! Patterns of paths under `hosts:`.

use std::path::{Component, Path, PathBuf};

/// A text as a pattern that fits it alone.
pub(super) fn literal(text: &str) -> String {
    let escaped = |c: char| if "*?[]\\".contains(c) { vec!['\\', c] } else { vec![c] };
    text.chars().flat_map(escaped).collect()
}

/// A pattern is compared with whole paths, which have no `./` and no `//` in them.
pub(super) fn without_dots(pattern: &str) -> String {
    let root = if pattern.starts_with('/') { "/" } else { "" };
    root.to_owned() + &pattern.split('/').filter(|part| !matches!(*part, "." | "")).collect::<Vec<_>>().join("/")
}

/// The patterns that stand for a pattern of whole paths: with its folder as it is written but for `..`, and with its
/// folder as the system has it, without links. A pattern of names stands for itself.
#[doc(hidden)]
pub fn pattern_spellings(pattern: &str) -> Vec<String> {
    let parts: Vec<_> = pattern.split('/').collect();
    let n_plain = parts.iter().position(|part| is_wild(part)).unwrap_or(parts.len()).min(parts.len() - 1);
    if n_plain == 0 {
        return vec![pattern.to_owned()];
    }
    let (folder, rest) = parts.split_at(n_plain);
    let folder = PathBuf::from(plain(&folder.join("/")) + "/");
    let spelled = |folder: &Path| {
        let folder = literal(&folder.display().to_string());
        format!("{}/{}", folder.trim_end_matches('/'), rest.join("/"))
    };
    let mut all = vec![spelled(&without_parents(&folder))];
    all.extend(folder.canonicalize().ok().map(|real| spelled(&real)).filter(|real| *real != all[0]));
    all
}

/// Whether a part fits more than one text.
fn is_wild(part: &str) -> bool {
    let mut chars = part.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// The text that a pattern without wildcards fits.
fn plain(pattern: &str) -> String {
    let mut chars = pattern.chars();
    std::iter::from_fn(|| chars.next().map(|c| if c == '\\' { chars.next().unwrap_or(c) } else { c })).collect()
}

/// `/a/../b` as `/b`.
fn without_parents(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut folder, part| {
        match part {
            Component::ParentDir => drop(folder.pop()),
            part => folder.push(part),
        }
        folder
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_pattern_leads_out_of_its_folder_and_keeps_its_wildcards() {
        for (pattern, expected) in [
            ("/no/such/../*.gguf", "/no/*.gguf"),
            ("/no/such/a/../../*/../x.gguf", "/no/*/../x.gguf"),
            ("/../no/*.gguf", "/no/*.gguf"),
            ("/no \\[1\\]/../no \\[2\\]/*", "/no \\[2\\]/*"),
            ("/*/a.gguf", "/*/a.gguf"),
            ("*.gguf", "*.gguf"),
            ("a.gguf", "a.gguf"),
        ] {
            assert_eq!(pattern_spellings(pattern), [expected], "{pattern}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_is_reached_by_a_link_counts_by_both_names() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("disk/models")).unwrap();
        std::os::unix::fs::symlink("disk/models", root.join("link")).unwrap();
        let root = root.display();
        assert_eq!(
            pattern_spellings(&format!("{root}/link/*.gguf")),
            [format!("{root}/link/*.gguf"), format!("{root}/disk/models/*.gguf")]
        );
        // Where a link leads up, the system counts from what it leads to.
        assert_eq!(
            pattern_spellings(&format!("{root}/link/../*.gguf")),
            [format!("{root}/*.gguf"), format!("{root}/disk/*.gguf")]
        );
    }
}
