//! A hub on loopback, with its storage on another port: what Hugging Face's hub answers, as far as a download asks.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};

/// The commit of every repository.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A request, as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    /// The first byte that is asked for.
    pub from: u64,
    pub token: Option<String>,
    /// Whether the storage was asked, and not the hub.
    pub of_storage: bool,
}

/// How the hub answers.
#[derive(Default)]
pub struct Rules {
    /// The files of the one repository, `me/model`.
    pub files: Vec<(String, Vec<u8>)>,
    /// So many answers of the storage end after so many bytes.
    pub cuts: AtomicUsize,
    pub cut_after: usize,
    /// So many requests are answered with 503.
    pub busy: AtomicUsize,
    /// The status and error code of every file.
    pub refusal: Option<(u16, &'static str)>,
    /// The status of every answer about a repository.
    pub api_refusal: Option<(u16, &'static str)>,
    /// Whether the hash that the hub promises is another one.
    pub wrong_hash: bool,
    /// Whether every answer is a web page.
    pub is_web_page: bool,
    /// Whether the storage gives all of a file where a part is asked for.
    pub no_ranges: bool,
    /// The pause of the storage between pieces of 16 KiB.
    pub drip: Option<Duration>,
    /// Whether the storage is gone once it has cut an answer.
    pub is_lost: bool,
    /// Whether it is a mirror with a tree and files alone: no HEAD, no storage elsewhere.
    pub is_plain: bool,
    /// The status of the mirror's answers to HEAD; 405 where it is 0.
    pub head_status: u16,
    /// Whether the mirror has moved: every request is redirected once.
    pub has_moved: bool,
    /// The files that the listing has and the hub lacks.
    pub gone: Vec<String>,
}

pub struct Hub {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    cut_after: Option<usize>,
    drip: Option<Duration>,
}

impl Reply {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), cut_after: None, drip: None }
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

impl Hub {
    pub fn start(rules: Rules) -> Self {
        let rules = Arc::new(rules);
        let seen = Arc::default();
        let storage = listen(&rules, &seen, None);
        let url = listen(&rules, &seen, Some(storage));
        Self { url, seen }
    }

    /// A hub with these files.
    pub fn with(files: &[(&str, &[u8])]) -> Self {
        Self::start(Rules { files: owned(files), ..Rules::default() })
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }

    /// What was asked of the storage: the first bytes.
    pub fn downloads(&self) -> Vec<u64> {
        self.seen().iter().filter(|seen| seen.of_storage).map(|seen| seen.from).collect()
    }
}

pub fn owned(files: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
    files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect()
}

/// Starts a server; without `storage` it is the storage itself. Its threads end with the process.
fn listen(rules: &Arc<Rules>, seen: &Arc<Mutex<Vec<Seen>>>, storage: Option<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (rules, seen) = (Arc::clone(rules), Arc::clone(seen));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (rules, seen, storage) = (Arc::clone(&rules), Arc::clone(&seen), storage.clone());
            std::thread::spawn(move || {
                if let Some(request) = read(&stream, storage.is_none()) {
                    seen.lock().expect("no panic").push(request.clone());
                    let reply = match &storage {
                        Some(storage) => of_hub(&rules, &request, storage),
                        None => of_storage(&rules, &request),
                    };
                    // A client may have gone.
                    let _ = write(&stream, &request, &reply);
                }
            });
        }
    });
    url
}

fn read(stream: &TcpStream, of_storage: bool) -> Option<Seen> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let from = headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    Some(Seen { method, path, from: from.unwrap_or(0), token: headers.get("authorization").cloned(), of_storage })
}

fn write(mut stream: &TcpStream, request: &Seen, reply: &Reply) -> std::io::Result<()> {
    let mut head =
        format!("HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {}\r\n", reply.status, reply.body.len());
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    if request.method != "HEAD" {
        let end = reply.cut_after.unwrap_or(reply.body.len()).min(reply.body.len());
        for piece in reply.body[..end].chunks(reply.drip.map_or(usize::MAX, |_| 1 << 14)) {
            stream.write_all(piece)?;
            reply.drip.into_iter().for_each(std::thread::sleep);
        }
    }
    stream.flush()
}

fn take(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

fn refused((status, code): (u16, &'static str)) -> Reply {
    let reply = Reply::new(status, "{\"error\": \"no\"}");
    if code.is_empty() { reply } else { reply.with("X-Error-Code", code) }
}

fn of_hub(rules: &Rules, request: &Seen, storage: &str) -> Reply {
    if take(&rules.busy) {
        return Reply::new(503, "busy");
    }
    if rules.is_web_page {
        return Reply::new(200, "<!DOCTYPE html><title>Log in</title>").with("Content-Type", "text/html");
    }
    if rules.is_plain {
        return of_mirror(rules, request);
    }
    if request.path == "/api/models/me/model" || request.path == "/api/models/me/model/revision/v1" {
        if let Some(refusal) = rules.api_refusal {
            return refused(refusal);
        }
        let siblings: Vec<_> = rules.files.iter().map(|(name, _)| serde_json::json!({"rfilename": name})).collect();
        let body = serde_json::json!({"id": "me/model", "sha": COMMIT, "siblings": siblings});
        return Reply::new(200, body.to_string()).with("Content-Type", "application/json");
    }
    let file = request.path.strip_prefix(&format!("/me/model/resolve/{COMMIT}/"));
    let Some((name, bytes)) = file.and_then(|file| rules.files.iter().find(|(name, _)| name == file)) else {
        return refused((404, if request.path.starts_with("/api") { "RepoNotFound" } else { "EntryNotFound" }));
    };
    if rules.gone.contains(name) {
        return refused((404, "EntryNotFound"));
    }
    if let Some(refusal) = rules.refusal {
        return refused(refusal);
    }
    let is_lost = rules.is_lost && rules.cuts.load(Ordering::SeqCst) == 0;
    let storage = if is_lost { "http://127.0.0.1:9" } else { storage };
    let etag = if rules.wrong_hash { sha256(b"other") } else { sha256(bytes) };
    Reply::new(302, "")
        .with("Location", format!("{storage}/blob/{name}?signature=x"))
        .with("X-Repo-Commit", COMMIT)
        .with("X-Linked-Etag", format!("\"{etag}\""))
        .with("X-Linked-Size", bytes.len())
}

fn of_mirror(rules: &Rules, request: &Seen) -> Reply {
    let path = match request.path.strip_prefix("/moved") {
        Some(path) => path,
        None if rules.has_moved => {
            return Reply::new(307, "it has moved").with("Location", format!("/moved{}", request.path));
        }
        None => &request.path,
    };
    if request.method == "HEAD" {
        return Reply::new(if rules.head_status == 0 { 405 } else { rules.head_status }, "");
    }
    if path == "/api/models/me/model/tree/main?recursive=true" {
        let files: Vec<_> =
            rules.files.iter().map(|(name, _)| serde_json::json!({"type": "file", "path": name})).collect();
        return Reply::new(200, serde_json::Value::from(files).to_string());
    }
    let Some(name) = path.strip_prefix("/me/model/resolve/main/") else { return Reply::new(404, "") };
    let Some((_, bytes)) = rules.files.iter().find(|(file, _)| file == name) else { return Reply::new(404, "") };
    let blob = Seen { path: format!("/blob/{name}"), ..request.clone() };
    of_storage(rules, &blob).with("ETag", format!("\"{}\"", sha256(bytes))).with("X-Repo-Commit", COMMIT)
}

fn of_storage(rules: &Rules, request: &Seen) -> Reply {
    let name = request.path.trim_start_matches("/blob/").split('?').next().unwrap_or_default();
    let Some((_, bytes)) = rules.files.iter().find(|(file, _)| file == name) else { return Reply::new(404, "") };
    let (from, all) = (request.from as usize, bytes.len());
    let mut reply = match from {
        0 => Reply::new(200, bytes.clone()),
        _ if rules.no_ranges => Reply::new(200, bytes.clone()),
        from if from >= all => Reply::new(416, ""),
        from => Reply::new(206, &bytes[from..]).with("Content-Range", format!("bytes {from}-{}/{all}", all - 1)),
    };
    reply.drip = rules.drip;
    if take(&rules.cuts) {
        reply.cut_after = Some(rules.cut_after);
    }
    reply
}
