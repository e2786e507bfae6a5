//! The cache of llama.cpp before it shared Hugging Face's: `USER_REPO_FILE.gguf` in one folder, with
//! `manifest=USER=REPO=TAG.json` beside them.

use std::fs;
use std::path::{Path, PathBuf};

use super::choose::choose;
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
    let manifests = manifests(root);
    let by_manifest = manifests.iter().find(is_meant).map(|manifest| root.join(&manifest.file));
    by_manifest.filter(|file| file.is_file()).or_else(|| by_file(root, name))
}

/// Older versions wrote no manifests.
fn by_file(root: &Path, name: &RepoName) -> Option<PathBuf> {
    let prefix = format!("{}_", name.repo.replace('/', "_"));
    let files = flat(root);
    let of_repo: Vec<_> = files.iter().filter_map(|file| file.strip_prefix(&prefix)).collect();
    let pick = match &name.pick {
        Pick::File(file) => Pick::File(file.replace('/', "_")),
        other => other.clone(),
    };
    choose(&of_repo, &pick).ok().map(|chosen| root.join(format!("{prefix}{}", chosen[0])))
}

/// The GGUFs in the folder itself.
fn flat(root: &Path) -> Vec<String> {
    ggufs(root).into_iter().filter(|file| !file.contains('/')).collect()
}

/// All models of the cache, each with its name where a manifest tells it.
pub fn list(root: &Path) -> Vec<(Option<RepoName>, PathBuf)> {
    let manifests = manifests(root);
    let name = |file: &String| manifests.iter().find(|manifest| manifest.file == *file).map(|found| found.name.clone());
    flat(root).into_iter().map(|file| (name(&file), root.join(file))).collect()
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
}
