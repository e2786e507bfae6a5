//! The cache that Hugging Face's tools and llama.cpp share: `models--USER--REPO/{blobs,refs,snapshots}`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::choose::{choose, names};
use super::environment::Variables;
use super::folder::{folders, ggufs};
use super::name::RepoName;

/// The branch that a name without a revision means.
pub const MAIN: &str = "main";

/// The root of the cache, in llama.cpp's order.
pub fn root(variables: &Variables<'_>) -> Option<PathBuf> {
    let places = [
        ("LLAMA_CACHE", ""),
        ("HF_HUB_CACHE", ""),
        ("HUGGINGFACE_HUB_CACHE", ""),
        ("HF_HOME", "hub"),
        ("XDG_CACHE_HOME", "huggingface/hub"),
        ("HOME", ".cache/huggingface/hub"),
    ];
    let set = |(name, below): (&str, &str)| {
        let folder = variables(name)?;
        Some(if below.is_empty() { folder } else { folder.join(below) })
    };
    places.into_iter().find_map(set)
}

/// The folder of one repository.
#[derive(Debug, Clone)]
pub struct RepoFolder(PathBuf);

impl RepoFolder {
    /// Of `USER/REPO`.
    pub fn new(root: &Path, repo: &str) -> Self {
        Self(root.join(Self::name(repo)))
    }

    /// What it is called in the root.
    pub fn name(repo: &str) -> String {
        format!("models--{}", repo.replace('/', "--"))
    }

    /// The file of contents with this ETag.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.0.join("blobs").join(etag)
    }

    /// The folder of a commit's files.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.0.join("snapshots").join(commit)
    }

    /// The file that holds the commit of a branch or tag.
    pub fn reference(&self, revision: &str) -> PathBuf {
        self.0.join("refs").join(revision)
    }

    /// The snapshots that are there: main's first, then the newest.
    fn snapshots(&self) -> Vec<PathBuf> {
        let main = fs::read_to_string(self.reference(MAIN)).unwrap_or_default();
        let made =
            |folder: &PathBuf| fs::metadata(folder).and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut all: Vec<_> = folders(&self.0.join("snapshots")).into_iter().map(|name| self.snapshot(&name)).collect();
        all.sort_by_key(|folder| (!folder.ends_with(main.trim()), std::cmp::Reverse(made(folder))));
        all
    }
}

/// The file that a name means here; `None` where it, or a part of it, is not here.
pub fn find(root: &Path, name: &RepoName) -> Option<PathBuf> {
    RepoFolder::new(root, &name.repo).snapshots().into_iter().find_map(|snapshot| {
        let files = ggufs(&snapshot);
        let files: Vec<_> = files.iter().map(String::as_str).collect();
        choose(&files, &name.pick).ok().map(|chosen| snapshot.join(chosen[0]))
    })
}

/// The names of a repository's models that are here.
pub fn list_repo(root: &Path, repo: &str) -> Vec<(RepoName, Vec<PathBuf>)> {
    let mut all: Vec<(RepoName, Vec<PathBuf>)> = Vec::new();
    for snapshot in RepoFolder::new(root, repo).snapshots() {
        let files = ggufs(&snapshot);
        let files: Vec<_> = files.iter().map(String::as_str).collect();
        for (name, files) in names(repo, &files) {
            if !all.iter().any(|(other, _)| *other == name) {
                all.push((name, files.into_iter().map(|file| snapshot.join(file)).collect()));
            }
        }
    }
    all
}

/// All models of the cache, in the order of their repositories.
pub fn list(root: &Path) -> Vec<(RepoName, Vec<PathBuf>)> {
    let repo =
        |name: String| name.strip_prefix("models--")?.split_once("--").map(|(user, repo)| format!("{user}/{repo}"));
    folders(root).into_iter().filter_map(repo).flat_map(|repo| list_repo(root, &repo)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_the_first_that_llama_cpp_would_take() {
        let order = ["LLAMA_CACHE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"];
        let expected = ["", "", "", "/hub", "/huggingface/hub", "/.cache/huggingface/hub"];
        for (i, below) in expected.iter().enumerate() {
            let set = |name: &str| order[i..].contains(&name).then(|| PathBuf::from(format!("/{name}")));
            assert_eq!(root(&set), Some(PathBuf::from(format!("/{}{below}", order[i]))));
        }
        assert_eq!(root(&|_: &str| None), None);
    }

    #[test]
    fn main_counts_before_other_commits_and_those_count_where_it_lacks_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let repo = RepoFolder::new(root, "a/b");
        let write = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(repo.snapshot("1111").join("x-Q8_0.gguf"), "");
        write(repo.snapshot("2222").join("x-Q8_0.gguf"), "");
        write(repo.snapshot("2222").join("x-Q2_K.gguf"), "");
        write(repo.reference("main"), "1111\n");
        let find = |name: &str| find(root, &name.parse().unwrap());
        assert_eq!(find("a/b:Q8_0"), Some(repo.snapshot("1111").join("x-Q8_0.gguf")));
        assert_eq!(find("a/b"), Some(repo.snapshot("1111").join("x-Q8_0.gguf")));
        assert_eq!(find("a/b:Q2_K"), Some(repo.snapshot("2222").join("x-Q2_K.gguf")));
        assert_eq!((find("a/b:Q4_K_M"), find("a/c")), (None, None));
        let names: Vec<_> = list(root).into_iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["a/b:Q8_0", "a/b:Q2_K"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_one_that_leads_nowhere_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let repo = RepoFolder::new(folder.path(), "a/b");
        let snapshot = repo.snapshot("1111");
        fs::create_dir_all(snapshot.join("deep")).unwrap();
        fs::create_dir_all(repo.blob("")).unwrap();
        fs::write(repo.blob("abc"), "").unwrap();
        std::os::unix::fs::symlink("../../../blobs/abc", snapshot.join("deep/x-Q8_0.gguf")).unwrap();
        std::os::unix::fs::symlink("../../blobs/gone", snapshot.join("x-Q4_K_M.gguf")).unwrap();
        let find = |name: &str| find(folder.path(), &name.parse().unwrap());
        assert_eq!(find("a/b"), Some(snapshot.join("deep/x-Q8_0.gguf")));
        assert_eq!(find("a/b:Q4_K_M"), None);
    }
}
