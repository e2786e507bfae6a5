//! The cache of llama.cpp before it shared Hugging Face's: `USER_REPO_FILE.gguf` in one folder, with
//! `manifest=USER=REPO=TAG.json` beside them.

use std::fs;
use std::path::{Path, PathBuf};

use super::choose::{choose, models, stem};
use super::environment::Variables;
use super::folder::ggufs;
use super::name::{Pick, RepoName};

/// The folder of the cache.
pub fn root(variables: &Variables<'_>) -> Option<PathBuf> {
    let own = || {
        if cfg!(target_os = "macos") {
            return variables("HOME").map(|home| home.join("Library/Caches"));
        }
        if cfg!(windows) {
            return variables("LOCALAPPDATA");
        }
        variables("XDG_CACHE_HOME").or_else(|| variables("HOME").map(|home| home.join(".cache")))
    };
    variables("LLAMA_CACHE").or_else(|| own().map(|folder| folder.join("llama.cpp")))
}

/// What a manifest says.
struct Manifest {
    name: RepoName,
    /// The name of its file in the folder.
    file: String,
}

/// The manifests of the folder, those that can be read.
fn manifests(root: &Path) -> Vec<Manifest> {
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let parts: Vec<_> = name.strip_prefix("manifest=")?.strip_suffix(".json")?.split('=').collect();
        let [user, repo, tag] = parts[..] else { return None };
        let text: serde_json::Value = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
        let path = text["ggufFile"]["rfilename"].as_str()?;
        let name = format!("{user}/{repo}:{tag}").parse().ok()?;
        Some(Manifest { name, file: format!("{user}_{repo}_{}", path.replace('/', "_")) })
    };
    let mut all: Vec<_> = fs::read_dir(root).into_iter().flatten().flatten().filter_map(read).collect();
    all.sort_by_key(|manifest| manifest.name.to_string());
    all
}

/// The file that a name means here; `None` where it, or a part of it, is not here.
pub fn find(root: &Path, name: &RepoName) -> Option<PathBuf> {
    let quant = |pick: &Pick| match pick {
        Pick::Usual => Some(String::new()),
        Pick::Quant(quant) => Some(quant.to_ascii_uppercase()),
        Pick::File(_) => None,
    };
    let is_meant = |manifest: &&Manifest| {
        manifest.name.repo == name.repo
            && quant(&manifest.name.pick) == quant(&name.pick)
            && quant(&name.pick).is_some()
    };
    let (manifests, files) = (manifests(root), flat(root));
    let all: Vec<_> = files.iter().map(String::as_str).collect();
    let whole = |file: &String| choose(&all, &Pick::File(file.clone())).ok().map(|parts| root.join(parts[0]));
    let by_manifest = manifests.iter().find(is_meant).and_then(|manifest| whole(&manifest.file));
    by_manifest.or_else(|| by_file(&all, &manifests, name).map(|file| root.join(file)))
}

/// Older versions wrote no manifests, and none is written for a file that is named as such.
fn by_file(files: &[&str], manifests: &[Manifest], name: &RepoName) -> Option<String> {
    let prefix = format!("{}_", name.repo.replace('/', "_"));
    let of = |file: &str| manifests.iter().find(|manifest| manifest.file == file);
    let is_of_repo = |parts: &Vec<&str>| match (of(parts[0]), &name.pick) {
        (Some(manifest), _) => manifest.name.repo == name.repo,
        (None, Pick::File(_)) => true,
        (None, _) => parts[0].strip_prefix(&prefix).is_some_and(|rest| is_plain(rest, &name.repo)),
    };
    let groups = models(files).into_iter().filter(is_of_repo);
    let of_repo: Vec<_> = groups.flatten().filter_map(|file| file.strip_prefix(&prefix)).collect();
    let pick = match &name.pick {
        Pick::File(file) => Pick::File(file.replace('/', "_")),
        other => other.clone(),
    };
    choose(&of_repo, &pick).ok().map(|chosen| format!("{prefix}{}", chosen[0]))
}

/// Whether what follows a repository's name is the name of a file and no more: `me_y_GGUF_y-Q8_0.gguf` may be of `me/y`
/// and of `me/y_GGUF`. It is where there is no `_` but in the quantisation, or where it begins as the repository does.
fn is_plain(rest: &str, repo: &str) -> bool {
    let (rest, repo) = (rest.to_ascii_lowercase(), repo.to_ascii_lowercase());
    let name = repo.rsplit('/').next().unwrap_or(&repo);
    let name = name.strip_suffix("gguf").map_or(name, |name| name.trim_end_matches(['-', '_', '.']));
    !stem(&rest).contains('_') || !name.is_empty() && rest.starts_with(name)
}

/// The GGUFs in the folder itself.
fn flat(root: &Path) -> Vec<String> {
    ggufs(root).into_iter().filter(|file| !file.contains('/')).collect()
}

/// All models of the cache with their files, each with its name where a manifest tells it.
pub fn list(root: &Path) -> Vec<(Option<RepoName>, Vec<PathBuf>)> {
    let (manifests, files) = (manifests(root), flat(root));
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    let name = |file: &str| manifests.iter().find(|manifest| manifest.file == file).map(|found| found.name.clone());
    let model = |parts: Vec<&str>| (name(parts[0]), parts.into_iter().map(|part| root.join(part)).collect());
    models(&files).into_iter().map(model).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_the_files_of_old_caches_with_and_without_manifests() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let write = |name: &str, text: &str| fs::write(root.join(name), text).unwrap();
        write("manifest=ggml-org=x-GGUF=latest.json", r#"{"ggufFile": {"rfilename": "sub/x-q5.gguf"}}"#);
        write("manifest=ggml-org=x-GGUF=Q2_K.json", "broken");
        write("ggml-org_x-GGUF_sub_x-q5.gguf", "");
        write("me_y_GGUF_y-Q8_0.gguf", "");
        write("me_y_GGUF_y-Q8_0.gguf.json", "{}");
        let find = |name: &str| {
            find(root, &name.parse().unwrap()).map(|path| path.strip_prefix(root).unwrap().display().to_string())
        };
        let found = Some("ggml-org_x-GGUF_sub_x-q5.gguf".to_owned());
        assert_eq!(find("ggml-org/x-GGUF"), found);
        assert_eq!(find("ggml-org/x-GGUF/sub/x-q5.gguf"), found);
        assert_eq!(find("me/y_GGUF:q8_0"), Some("me_y_GGUF_y-Q8_0.gguf".to_owned()));
        assert_eq!((find("ggml-org/x-GGUF:Q2_K"), find("me/z")), (None, None));
        let names: Vec<_> = list(root).into_iter().map(|(name, _)| name.map(|name| name.to_string())).collect();
        assert_eq!(names, [Some("ggml-org/x-GGUF".to_owned()), None]);
    }

    #[test]
    fn a_file_that_may_be_of_another_repository_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for file in [
            "me_y_GGUF_y-Q8_0.gguf",
            "me_z_z_1-Q2_K-00001-of-00002.gguf",
            "me_z_z_1-Q2_K-00002-of-00002.gguf",
            "me_cut_x-Q8_0-00001-of-00002.gguf",
            "me_a_b-Q4_0.gguf",
        ] {
            fs::write(root.join(file), "").unwrap();
        }
        let find = |name: &str| {
            find(root, &name.parse().unwrap()).map(|path| path.strip_prefix(root).unwrap().display().to_string())
        };
        assert_eq!((find("me/y"), find("me/y:Q8_0")), (None, None));
        assert_eq!(find("me/y_GGUF").as_deref(), Some("me_y_GGUF_y-Q8_0.gguf"));
        // Named as a whole, it is the file of that name.
        assert_eq!(find("me/y/GGUF/y-Q8_0.gguf").as_deref(), Some("me_y_GGUF_y-Q8_0.gguf"));
        assert_eq!(find("me/z:q2_k").as_deref(), Some("me_z_z_1-Q2_K-00001-of-00002.gguf"));
        assert_eq!((find("me/cut"), find("me/a").as_deref()), (None, Some("me_a_b-Q4_0.gguf")));
        // What a manifest gives to one repository is of no other.
        fs::write(root.join("manifest=me=a_b=latest.json"), r#"{"ggufFile": {"rfilename": "c-Q4_0.gguf"}}"#).unwrap();
        fs::rename(root.join("me_a_b-Q4_0.gguf"), root.join("me_a_b_c-Q4_0.gguf")).unwrap();
        assert_eq!((find("me/a"), find("me/a/b_c-Q4_0.gguf")), (None, None));
        assert_eq!(find("me/a_b").as_deref(), Some("me_a_b_c-Q4_0.gguf"));
        let sizes: Vec<_> = list(root).into_iter().map(|(_, files)| files.len()).collect();
        assert_eq!(sizes, [1, 1, 1, 2]);
    }
}
