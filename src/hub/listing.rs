//! What a repository holds, and what the hub says about one of its files.

use serde_json::Value;

use super::address::{encoded, origin, shown};
use super::client::{Answer, Client, Method, reason, words};
use super::error::HubError;

/// The largest list of files that is read.
const MAX_LIST: u64 = 64 << 20;

/// The files of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The commit, where the hub says it here.
    pub commit: Option<String>,
    /// Their paths.
    pub files: Vec<String>,
}

/// What the hub says about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFacts {
    /// What its contents are called in the cache: for large files their SHA-256.
    pub etag: String,
    /// The commit that it is of.
    pub commit: Option<String>,
    /// Its size in bytes, where the hub says it.
    pub size: Option<u64>,
}

impl FileFacts {
    /// The SHA-256 of the contents, if that is what the ETag is.
    pub fn sha256(&self) -> Option<&str> {
        (self.etag.len() == 64 && self.etag.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(&*self.etag)
    }
}

impl Client {
    /// The files of `repo` at a branch, tag or commit.
    ///
    /// # Errors
    ///
    /// [`HubError`].
    pub fn list(&self, repo: &str, revision: &str) -> Result<Listing, HubError> {
        let api = format!("{}/api/models/{repo}", self.endpoint);
        let at = encoded(revision).replace('/', "%2F");
        let whole = if revision == "main" { api.clone() } else { format!("{api}/revision/{at}") };
        let mut answer = self.ask(Method::Get, &whole, 0)?;
        // Mirrors may have the tree alone.
        if answer.status() != 404 || answer.header("x-error-code").is_some() {
            self.check(&mut answer, repo, &shown(&whole), revision)?;
            let value = json(&mut answer, &whole)?;
            let files = value["siblings"].as_array().map(|files| paths(files, "rfilename"));
            let commit = value["sha"].as_str().map(str::to_owned);
            if let Some(files) = files {
                return Ok(Listing { commit, files });
            }
        }
        let tree = format!("{api}/tree/{at}?recursive=true");
        let mut answer = self.ask(Method::Get, &tree, 0)?;
        self.check(&mut answer, repo, &shown(&whole), revision)?;
        let value = json(&mut answer, &tree)?;
        let Some(files) = value.as_array() else {
            return Err(HubError::NotHub { url: tree, what: "JSON without a list of files".to_owned() });
        };
        Ok(Listing { commit: None, files: paths(files, "path") })
    }

    /// Where a file of a repository is.
    pub fn url(&self, repo: &str, revision: &str, file: &str) -> String {
        let revision = encoded(revision).replace('/', "%2F");
        format!("{}/{repo}/resolve/{revision}/{}", self.endpoint, encoded(file))
    }

    /// What the hub says about a file.
    ///
    /// # Errors
    ///
    /// [`HubError`].
    pub fn facts(&self, repo: &str, revision: &str, file: &str) -> Result<FileFacts, HubError> {
        let url = self.url(repo, revision, file);
        let mut answer = self.ask(Method::Head, &url, 0)?;
        if matches!(answer.status(), 405 | 501) {
            answer = self.ask(Method::Get, &url, 0)?;
        }
        // Who may list a repository and not read its files has not accepted its terms.
        if matches!(answer.status(), 401 | 403) && !(answer.status() == 401 && self.has_token()) {
            return Err(HubError::Gated { repo: repo.to_owned(), endpoint: self.endpoint.clone() });
        }
        if !(300..400).contains(&answer.status()) {
            self.check(&mut answer, repo, &format!("hf:{repo}/{file}"), revision)?;
        }
        let etag = answer.header("x-linked-etag").or_else(|| answer.header("etag")).map(plain_etag).unwrap_or_default();
        let is_known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if etag.is_empty() || etag.len() > 128 || etag.starts_with('.') || !etag.chars().all(is_known) {
            return Err(HubError::NotHub { url, what: "no usable ETag".to_owned() });
        }
        let length = || answer.last_header("content-length").filter(|_| answer.status() == 200);
        let size = answer.header("x-linked-size").or_else(length).and_then(|size| size.trim().parse().ok());
        Ok(FileFacts { size, commit: answer.header("x-repo-commit").map(str::to_owned), etag })
    }

    /// Turns a refusal into an error. `what` was asked for.
    pub(super) fn check(&self, answer: &mut Answer, repo: &str, what: &str, revision: &str) -> Result<(), HubError> {
        let (endpoint, status) = (self.endpoint.clone(), answer.status());
        if (200..300).contains(&status) {
            return Ok(());
        }
        let code = answer.header("x-error-code").unwrap_or_default().to_owned();
        let repo = repo.to_owned();
        let of_storage = origin(&answer.url) != origin(&self.endpoint);
        Err(match (status, code.as_str()) {
            (401 | 403, "GatedRepo") => HubError::Gated { repo, endpoint },
            // A hub that names no reason: 403 means that it knows who asks.
            (403, "") if !of_storage => HubError::Gated { repo, endpoint },
            (401 | 403, _) if !of_storage => HubError::Refused { repo, status, with_token: self.has_token() },
            (404, "RevisionNotFound") => {
                HubError::NotFound { what: format!("revision {revision} of {repo}"), endpoint, advice: String::new() }
            }
            (404, "EntryNotFound") => HubError::NotFound { what: what.to_owned(), endpoint, advice: String::new() },
            (404, _) if !of_storage => HubError::NotFound {
                what: format!("hf:{repo}"),
                endpoint,
                advice: "; check the name (USER/REPO)".to_owned(),
            },
            _ => HubError::Status { url: answer.url.clone(), status, message: words(&mut answer.response) },
        })
    }
}

fn paths(files: &[Value], key: &str) -> Vec<String> {
    let is_file = |file: &&Value| file["type"].as_str().is_none_or(|kind| kind == "file");
    files.iter().filter(is_file).filter_map(|file| file[key].as_str()).map(str::to_owned).collect()
}

fn json(answer: &mut Answer, url: &str) -> Result<Value, HubError> {
    let not_hub = |what: &str| HubError::NotHub { url: url.to_owned(), what: what.to_owned() };
    let text = answer.response.body_mut().with_config().limit(MAX_LIST).lossy_utf8(true).read_to_string();
    let text =
        text.map_err(|error| HubError::Unreachable { endpoint: origin(url).to_owned(), reason: reason(&error) })?;
    match serde_json::from_str(&text) {
        Ok(value) => Ok(value),
        Err(_) if text.trim_start().starts_with('<') => Err(not_hub("a web page")),
        Err(_) => Err(not_hub("no JSON")),
    }
}

/// An ETag without quotes and the mark of a weak one.
fn plain_etag(etag: &str) -> String {
    etag.trim().trim_start_matches("W/").trim_matches('"').to_owned()
}
