//! LM Studio's folder of models: `PUBLISHER/MODEL/FILE.gguf`.

use std::fs;
use std::path::{Path, PathBuf};

use super::choose::{choose, names};
use super::environment::Variables;
use super::folder::{folders, ggufs};
use super::name::RepoName;

/// The folder of the models: the one that the settings name, else `models` in LM Studio's own folder.
pub fn root(variables: &Variables<'_>) -> Option<PathBuf> {
    let home = variables("HOME")?;
    let own = own_folder(&home);
    let settings = fs::read(own.join("settings.json")).ok();
    let settings: serde_json::Value = settings.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    match settings["downloadsFolder"].as_str().filter(|folder| !folder.trim().is_empty()) {
        Some(folder) => Some(at_home(folder, &home)),
        None => Some(own.join("models")),
    }
}

/// LM Studio's own folder: where its pointer leads, else `~/.lmstudio`, else that of older versions.
fn own_folder(home: &Path) -> PathBuf {
    let pointer = fs::read_to_string(home.join(".lmstudio-home-pointer")).unwrap_or_default();
    let (current, old) = (home.join(".lmstudio"), home.join(".cache/lm-studio"));
    match pointer.trim() {
        "" if !current.is_dir() && old.is_dir() => old,
        "" => current,
        folder => at_home(folder, home),
    }
}

fn at_home(folder: &str, home: &Path) -> PathBuf {
    match folder.trim().strip_prefix("~/") {
        Some(below) => home.join(below),
        None => PathBuf::from(folder.trim()),
    }
}

/// The file that a name means here; `None` where it, or a part of it, is not here.
pub fn find(root: &Path, name: &RepoName) -> Option<PathBuf> {
    let folder = root.join(&name.repo);
    let files = ggufs(&folder);
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    choose(&files, &name.pick).ok().map(|chosen| folder.join(chosen[0]))
}

/// All models of the folder, in the order of their names.
pub fn list(root: &Path) -> Vec<(RepoName, Vec<PathBuf>)> {
    let mut all = Vec::new();
    for publisher in folders(root) {
        for model in folders(&root.join(&publisher)) {
            let repo = format!("{publisher}/{model}");
            let folder = root.join(&repo);
            let files = ggufs(&folder);
            let files: Vec<_> = files.iter().map(String::as_str).collect();
            let paths = |files: Vec<&str>| files.into_iter().map(|file| folder.join(file)).collect();
            all.extend(names(&repo, &files).into_iter().map(|(name, files)| (name, paths(files))));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root_of(home: &Path) -> PathBuf {
        root(&|name: &str| (name == "HOME").then(|| home.to_owned())).unwrap()
    }

    #[test]
    fn the_folder_is_where_pointer_and_settings_lead() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        assert_eq!(root_of(home), home.join(".lmstudio/models"));
        fs::create_dir_all(home.join(".cache/lm-studio")).unwrap();
        assert_eq!(root_of(home), home.join(".cache/lm-studio/models"));
        fs::create_dir_all(home.join(".lmstudio")).unwrap();
        assert_eq!(root_of(home), home.join(".lmstudio/models"));
        let own = home.join("elsewhere");
        fs::create_dir_all(&own).unwrap();
        fs::write(home.join(".lmstudio-home-pointer"), format!("{}\n", own.display())).unwrap();
        assert_eq!(root_of(home), own.join("models"));
        fs::write(own.join("settings.json"), r#"{"downloadsFolder": "~/big disk"}"#).unwrap();
        assert_eq!(root_of(home), home.join("big disk"));
        fs::write(own.join("settings.json"), "broken").unwrap();
        assert_eq!(root_of(home), own.join("models"));
    }

    #[test]
    fn each_listed_name_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for file in ["pub/model/x-Q4_K_M.gguf", "pub/model/x-Q8_0.gguf", "pub/other/plain.gguf", "pub/loose.gguf"] {
            fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            fs::write(root.join(file), "").unwrap();
        }
        let listed = list(root);
        let names: Vec<_> = listed.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["pub/model:Q4_K_M", "pub/model:Q8_0", "pub/other/plain.gguf"]);
        for (name, files) in listed {
            assert_eq!(find(root, &name).as_ref(), files.first());
        }
    }
}
