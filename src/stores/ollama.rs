//! Ollama's store: `manifests/HOST/NAMESPACE/MODEL/TAG` lists layers, and `blobs/sha256-…` holds them.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use super::environment::Variables;
use super::error::{CLOSED, FindError};
use crate::nearest::nearest;

const HOST: &str = "registry.ollama.ai";
const NAMESPACE: &str = "library";
const TAG: &str = "latest";

/// The layer that is the model's GGUF.
const MODEL: &str = "application/vnd.ollama.image.model";
/// A layer that is a LoRA adapter.
const ADAPTER: &str = "application/vnd.ollama.image.adapter";

/// `[[HOST/]NAMESPACE/]MODEL[:TAG]`, as `ollama run` takes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OllamaName {
    host: String,
    namespace: String,
    model: String,
    tag: String,
}

impl FromStr for OllamaName {
    type Err = FindError;

    fn from_str(text: &str) -> Result<Self, FindError> {
        let wrong = || FindError::Name {
            name: format!("ollama:{text}"),
            problem: "write ollama:NAME[:TAG], as in ollama:llama3.2:1b".to_owned(),
        };
        let (path, last) = text.rsplit_once('/').map_or((None, text), |(path, last)| (Some(path), last));
        let (model, tag) = last.split_once(':').unwrap_or((last, TAG));
        let (host, namespace) = match path.map(|path| path.split_once('/').ok_or(path)) {
            None => (HOST, NAMESPACE),
            Some(Err(namespace)) => (HOST, namespace),
            Some(Ok((host, namespace))) => (host, namespace),
        };
        let part = |part: &str, more: &str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c) || more.contains(c);
            !part.is_empty() && part.len() <= 350 && !part.starts_with('.') && part.chars().all(known)
        };
        if !(part(host, ":") && part(namespace, "") && part(model, "") && part(tag, "")) {
            return Err(wrong());
        }
        let [host, namespace, model, tag] = [host, namespace, model, tag].map(str::to_owned);
        Ok(Self { host, namespace, model, tag })
    }
}

impl fmt::Display for OllamaName {
    /// The shortest name, as `ollama list` shows it: with the tag, without the usual host and namespace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, namespace, model, tag } = self;
        match (host.as_str(), namespace.as_str()) {
            (HOST, NAMESPACE) => write!(f, "{model}:{tag}"),
            (HOST, namespace) => write!(f, "{namespace}/{model}:{tag}"),
            (host, namespace) => write!(f, "{host}/{namespace}/{model}:{tag}"),
        }
    }
}

/// What a manifest says, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Debug, Deserialize)]
struct Layer {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: String,
}

/// The files of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OllamaModel {
    /// The GGUF.
    pub model: PathBuf,
    /// LoRA adapters that Ollama puts on it.
    pub adapters: Vec<PathBuf>,
}

/// The folders that Ollama's models may be in, `OLLAMA_MODELS` alone where it is set.
pub fn roots(variables: &Variables<'_>) -> Vec<PathBuf> {
    // As Ollama reads its variables.
    let unquoted = |value: PathBuf| match value.to_str() {
        Some(text) => PathBuf::from(text.trim().trim_matches(['"', '\''])),
        None => value,
    };
    let set = variables("OLLAMA_MODELS").map(unquoted).filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = set {
        return vec![std::path::absolute(&folder).unwrap_or(folder)];
    }
    let own = variables("HOME").map(|home| home.join(".ollama/models"));
    // Where the service keeps them that Ollama's installer makes.
    let service = cfg!(target_os = "linux").then(|| PathBuf::from("/usr/share/ollama/.ollama/models"));
    own.into_iter().chain(service).collect()
}

/// The files of a model in these roots; the first one that has it counts.
///
/// # Errors
///
/// [`FindError`], with the nearest name where the model is not there.
pub fn find(roots: &[PathBuf], name: &OllamaName) -> Result<OllamaModel, FindError> {
    for root in roots {
        if let Some(manifest) = manifest(root, name) {
            return read(root, &manifest, name);
        }
    }
    let named = || format!("ollama:{name}");
    if let Some(path) = closed(roots, |folder| fs::read_dir(folder).map(drop)) {
        return Err(FindError::Closed { name: named(), path });
    }
    let there: Vec<String> = list(roots).into_iter().map(|(name, _)| name.to_string()).collect();
    let of_model = there.iter().filter(|other| other.starts_with(&format!("{}:", name.model)));
    let other_tags: Vec<&str> = of_model.map(String::as_str).collect();
    let advice = if !other_tags.is_empty() {
        format!("Ollama has {}", other_tags.iter().map(|name| format!("ollama:{name}")).collect::<Vec<_>>().join(", "))
    } else if let Some(near) = nearest(&name.to_string(), there.iter().map(String::as_str)) {
        format!("did you mean ollama:{near}?")
    } else {
        format!("run ollama pull {name}, or see genarm models")
    };
    Err(FindError::NotHere { name: named(), advice, can_pull: false })
}

/// The first store that is there and may not be read. `open` opens a folder.
fn closed(roots: &[PathBuf], open: impl Fn(&Path) -> io::Result<()>) -> Option<PathBuf> {
    let is_closed = |root: &&PathBuf| {
        open(&root.join("manifests")).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    };
    roots.iter().find(is_closed).cloned()
}

/// All models of these roots, each with its files or what is wrong with them, in the order of their names.
pub fn list(roots: &[PathBuf]) -> Vec<(OllamaName, Result<OllamaModel, FindError>)> {
    let mut all = Vec::new();
    for root in roots {
        for path in depth(&root.join("manifests"), 4) {
            let parts: Vec<_> = path.iter().rev().take(4).filter_map(OsStr::to_str).map(str::to_owned).collect();
            let Ok([tag, model, namespace, host]) = <[String; 4]>::try_from(parts) else { continue };
            let Ok(name) = format!("{host}/{namespace}/{model}:{tag}").parse() else { continue };
            if !all.iter().any(|(other, _)| *other == name) {
                let files = read(root, &path, &name);
                all.push((name, files));
            }
        }
    }
    all.sort_by_key(|(name, _)| name.to_string());
    all
}

/// Where the manifest of a name is in a store, or the places where it may be once Ollama has the model: Ollama's
/// versions differ in whether they keep capital letters.
pub fn manifest_paths(root: &Path, name: &OllamaName) -> Vec<PathBuf> {
    if let Some(found) = manifest(root, name) {
        return vec![found];
    }
    let [host, namespace, model, tag] =
        [&name.host, &name.namespace, &name.model, &name.tag].map(|part| part.to_ascii_lowercase());
    let small = OllamaName { host, namespace, model, tag };
    let mut all = vec![exact(root, name), exact(root, &small)];
    all.dedup();
    all
}

fn exact(root: &Path, name: &OllamaName) -> PathBuf {
    let parts = [&name.host, &name.namespace, &name.model, &name.tag];
    parts.iter().fold(root.join("manifests"), |path, part| path.join(part))
}

/// The manifest of a name. Ollama does not distinguish case, and file systems do.
fn manifest(root: &Path, name: &OllamaName) -> Option<PathBuf> {
    let exact = exact(root, name);
    if exact.is_file() {
        return Some(exact);
    }
    [&name.host, &name.namespace, &name.model, &name.tag].iter().try_fold(root.join("manifests"), |folder, part| {
        entries(&folder).into_iter().find(|entry| {
            entry.file_name().and_then(OsStr::to_str).is_some_and(|found| found.eq_ignore_ascii_case(part))
        })
    })
}

fn read(root: &Path, manifest: &Path, name: &OllamaName) -> Result<OllamaModel, FindError> {
    let named = || format!("ollama:{name}");
    let damaged = |file: &Path, problem: &str| match problem {
        CLOSED => FindError::Closed { name: named(), path: file.to_owned() },
        problem => {
            let problem = format!("{problem}; run ollama pull {name}");
            FindError::Damaged { name: named(), file: file.to_owned(), problem }
        }
    };
    let bytes = fs::read(manifest).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => damaged(manifest, CLOSED),
        _ => damaged(manifest, &error.to_string()),
    })?;
    let parsed: Manifest =
        serde_json::from_slice(&bytes).map_err(|error| damaged(manifest, &format!("not a manifest ({error})")))?;
    let of_kind = |kind| parsed.layers.iter().filter(move |layer| layer.media_type == kind);
    let file = |layer: &Layer| blob(root, &layer.digest).map_err(|(file, problem)| damaged(&file, problem));
    // Of several, Ollama opens the last.
    let Some(model) = of_kind(MODEL).next_back() else {
        return Err(damaged(manifest, "it lists no GGUF (a cloud model, or one in another format)"));
    };
    Ok(OllamaModel { model: file(model)?, adapters: of_kind(ADAPTER).map(file).collect::<Result<_, _>>()? })
}

/// The file of a digest, `sha256:…`.
fn blob(root: &Path, digest: &str) -> Result<PathBuf, (PathBuf, &'static str)> {
    let blobs = root.join("blobs");
    let hex = digest.strip_prefix("sha256:").or_else(|| digest.strip_prefix("sha256-")).unwrap_or_default();
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err((blobs, "the manifest names a layer by something else than a SHA-256"));
    }
    let file = blobs.join(format!("sha256-{hex}"));
    // Before 0.1.30 the name had the colon.
    let old = blobs.join(format!("sha256:{hex}"));
    match (file.is_file(), old.is_file()) {
        (false, true) => Ok(old),
        (true, _) => Ok(file),
        (false, false) => {
            let is_closed = fs::metadata(&file).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
            Err((file, if is_closed { CLOSED } else { "the file is missing" }))
        }
    }
}

/// The files this many folders below `folder`.
fn depth(folder: &Path, levels: usize) -> Vec<PathBuf> {
    let entries = entries(folder).into_iter();
    match levels {
        0 | 1 => entries.filter(|entry| entry.is_file()).collect(),
        _ => entries.filter(|entry| entry.is_dir()).flat_map(|entry| depth(&entry, levels - 1)).collect(),
    }
}

/// What a folder holds, in the order of names, without hidden entries.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let mut all: Vec<_> = entries.filter(|path| !is_hidden(path)).collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store with this model; its blob holds the name.
    fn store(root: &Path, manifest: &str, layers: &[(&str, &str)]) {
        let layer = |(kind, digest): &(&str, &str)| serde_json::json!({"mediaType": kind, "digest": digest});
        let text = serde_json::json!({ "schemaVersion": 2, "layers": layers.iter().map(layer).collect::<Vec<_>>() });
        let path = root.join("manifests").join(manifest);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::create_dir_all(root.join("blobs")).unwrap();
        fs::write(path, text.to_string()).unwrap();
        for (_, digest) in layers.iter().filter(|(_, digest)| !digest.contains('/')) {
            fs::write(root.join("blobs").join(digest.replace(':', "-")), "").unwrap();
        }
    }

    fn digest(letter: &str) -> String {
        format!("sha256:{}", letter.repeat(64))
    }

    #[test]
    fn a_name_leads_to_the_blob_of_its_model_layer() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let (model, adapter, license) = (digest("a"), digest("b"), digest("c"));
        let layers = [("application/vnd.ollama.image.license", &*license), (MODEL, &*model), (ADAPTER, &*adapter)];
        store(root, "registry.ollama.ai/library/llama3.2/latest", &layers);
        store(root, "hf.co/bartowski/Some-GGUF/Q4_K_M", &[(MODEL, &*model)]);
        let roots = [root.join("absent"), root.to_owned()];
        let find = |name: &str| find(&roots, &name.parse().unwrap());
        let blob = |letter: &str| root.join("blobs").join(format!("sha256-{}", letter.repeat(64)));
        for name in ["llama3.2", "llama3.2:latest", "library/llama3.2", "registry.ollama.ai/library/Llama3.2"] {
            let found = find(name).unwrap();
            assert_eq!((found.model, found.adapters), (blob("a"), vec![blob("b")]), "{name}");
        }
        assert_eq!(find("hf.co/bartowski/Some-GGUF:q4_k_m").unwrap().model, blob("a"));
        let names: Vec<_> = list(&roots).into_iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["hf.co/bartowski/Some-GGUF:Q4_K_M", "llama3.2:latest"]);
    }

    #[test]
    fn of_several_models_in_a_manifest_the_last_one_counts() {
        let folder = tempfile::tempdir().unwrap();
        let layers = [(MODEL, &*digest("a")), (MODEL, &*digest("b"))];
        store(folder.path(), "registry.ollama.ai/library/two/latest", &layers);
        let found = find(&[folder.path().to_owned()], &"two".parse().unwrap()).unwrap();
        assert!(found.model.ends_with(digest("b").replace(':', "-")), "{found:?}");
    }

    #[test]
    fn a_manifest_that_is_not_there_yet_may_come_in_small_letters() {
        let paths = |name: &str| {
            let paths = manifest_paths(Path::new("/s"), &name.parse().unwrap());
            paths.iter().map(|path| path.strip_prefix("/s/manifests").unwrap().to_owned()).collect::<Vec<_>>()
        };
        let path = |path: &str| PathBuf::from("registry.ollama.ai").join(path);
        assert_eq!(paths("me/Model:Q8_0"), [path("me/Model/Q8_0"), path("me/model/q8_0")]);
        assert_eq!(paths("llama3.2"), [path("library/llama3.2/latest")]);
    }

    #[test]
    fn a_store_of_another_user_is_not_called_empty() {
        let roots = ["/a", "/b"].map(PathBuf::from);
        let open = |kind: io::ErrorKind| {
            move |folder: &Path| {
                let kind = if folder.starts_with("/b") { kind } else { io::ErrorKind::NotFound };
                Err::<(), _>(io::Error::from(kind))
            }
        };
        let path = closed(&roots, open(io::ErrorKind::PermissionDenied)).unwrap();
        assert_eq!((&path, closed(&roots, open(io::ErrorKind::NotFound))), (&roots[1], None));
        let error = FindError::Closed { name: "ollama:x:latest".to_owned(), path }.to_string();
        assert_eq!(
            error,
            "ollama:x:latest: /b cannot be read by this user (join the group ollama, or set OLLAMA_MODELS)"
        );
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        store(root, "registry.ollama.ai/library/llama3.2/1b", &[(MODEL, &digest("a"))]);
        let error = |name: &str| find(&[root.to_owned()], &name.parse().unwrap()).unwrap_err().to_string();
        assert_eq!(error("llama3.2"), "ollama:llama3.2:latest is not on this machine; Ollama has ollama:llama3.2:1b");
        assert_eq!(error("lama3.2:1b"), "ollama:lama3.2:1b is not on this machine; did you mean ollama:llama3.2:1b?");
        assert!(error("qwen").contains("run ollama pull qwen:latest"), "{}", error("qwen"));
    }

    #[test]
    fn a_damaged_store_is_named_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let error = |name: &str| find(&[root.to_owned()], &name.parse().unwrap()).unwrap_err().to_string();
        store(root, "registry.ollama.ai/library/gone/latest", &[(MODEL, &digest("a"))]);
        fs::remove_file(root.join("blobs").join(digest("a").replace(':', "-"))).unwrap();
        assert!(error("gone").contains("the file is missing; run ollama pull gone:latest"), "{}", error("gone"));
        store(root, "registry.ollama.ai/library/cloud/latest", &[]);
        assert!(error("cloud").contains("lists no GGUF"), "{}", error("cloud"));
        store(root, "registry.ollama.ai/library/outside/latest", &[(MODEL, "sha256:../../../etc/passwd")]);
        assert!(error("outside").contains("something else than a SHA-256"), "{}", error("outside"));
        fs::write(root.join("manifests/registry.ollama.ai/library/cloud/latest"), "<html>").unwrap();
        assert!(error("cloud").contains("not a manifest"), "{}", error("cloud"));
        assert_eq!(list(&[root.to_owned()]).iter().filter(|(_, files)| files.is_err()).count(), 3);
    }

    #[test]
    fn a_name_stays_within_the_store() {
        for name in ["", "..", "a/..", "../a:b", "a:..", "a b", "a:", "/a", "a/b/c/d", "x\\y"] {
            assert!(name.parse::<OllamaName>().is_err(), "{name}");
        }
        let shown = |name: &str| name.parse::<OllamaName>().unwrap().to_string();
        assert_eq!(shown("localhost:5000/me/model:tag"), "localhost:5000/me/model:tag");
        assert_eq!(shown("me/model"), "me/model:latest");
    }

    #[test]
    fn ollama_models_alone_counts_where_it_is_set() {
        let set = |name: &str| (name != "X").then(|| PathBuf::from(format!("/{name}")));
        assert_eq!(roots(&set), [PathBuf::from("/OLLAMA_MODELS")]);
        for (value, folder) in [(" '/x y' ", "/x y"), ("\"/x\"\n", "/x")] {
            assert_eq!(roots(&|_: &str| Some(value.into())), [Path::new(folder)], "{value}");
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(roots(&|_: &str| Some("models".into())), [here.join("models")]);
        let home = |name: &str| (name == "HOME").then(|| PathBuf::from("/h"));
        assert_eq!(roots(&home)[0], Path::new("/h/.ollama/models"));
    }
}
