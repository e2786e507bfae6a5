//! One file: under a lock, on from where an earlier try ended, and checked before it has its name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::client::{Client, Method, TRIES, reason};
use super::error::HubError;
use super::listing::FileFacts;
use super::space::check_space;
use crate::files::appended;

/// The unit of the pauses between broken connections.
const PAUSE: Duration = Duration::from_millis(100);

/// What happens during a download.
pub enum Event<'a> {
    /// A file begins.
    Begin {
        /// Its path in the repository.
        file: &'a str,
        /// Its size in bytes, where the hub says it.
        size: Option<u64>,
        /// How many of them are there from an earlier try.
        done: u64,
    },
    /// So many bytes are there.
    Done(u64),
    /// Another process downloads the file.
    Waiting,
    /// The connection broke, and is made again.
    Again(&'a str),
    /// The contents are compared with their hash.
    Checking,
    /// The file is complete.
    End,
}

/// Takes what happens, and returns whether to go on.
pub type Watch<'a> = dyn FnMut(Event<'_>) -> bool + 'a;

/// A file to download.
pub struct Wanted<'a> {
    /// `USER/REPO`.
    pub repo: &'a str,
    /// The commit, branch or tag.
    pub revision: &'a str,
    /// Its path in the repository.
    pub file: &'a str,
    /// What the hub says about it.
    pub facts: &'a FileFacts,
    /// Where its contents belong.
    pub blob: &'a Path,
    /// The file that is locked meanwhile.
    pub lock: &'a Path,
}

impl Client {
    /// Downloads a file unless it is there. Returns the number of bytes that came over the network.
    ///
    /// # Errors
    ///
    /// [`HubError`]. What was read stays in `BLOB.incomplete`, but for damaged contents.
    pub fn download(&self, wanted: &Wanted<'_>, watch: &mut Watch<'_>) -> Result<u64, HubError> {
        if is_whole(wanted) {
            return Ok(0);
        }
        for path in [wanted.blob, wanted.lock] {
            let folder = path.parent().unwrap_or(path);
            fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        }
        let _lock = lock(wanted.lock, watch)?;
        // Another process may have downloaded it meanwhile.
        if is_whole(wanted) {
            return Ok(0);
        }
        let partial = appended(wanted.blob, ".incomplete");
        let mut fetched = self.fetch(wanted, &partial, watch)?;
        watch(Event::Checking);
        if let Err(error) = check_contents(wanted, &partial) {
            fs::remove_file(&partial).map_err(HubError::io(&partial))?;
            // What an earlier try left may be of other contents: that alone is worth a second download.
            if !fetched.went_on {
                return Err(error);
            }
            fetched = self.fetch(wanted, &partial, watch)?;
            check_contents(wanted, &partial).inspect_err(|_| drop(fs::remove_file(&partial)))?;
        }
        fs::rename(&partial, wanted.blob).map_err(HubError::io(wanted.blob))?;
        watch(Event::End);
        Ok(fetched.bytes)
    }

    /// Reads until the file is as long as it should be.
    fn fetch(&self, wanted: &Wanted<'_>, partial: &Path, watch: &mut Watch<'_>) -> Result<Fetched, HubError> {
        let mut out = OpenOptions::new().append(true).create(true).open(partial).map_err(HubError::io(partial))?;
        let mut done = out.metadata().map_err(HubError::io(partial))?.len();
        let size = wanted.facts.size;
        if size.is_some_and(|size| done > size) {
            done = restart(&out, partial)?;
        }
        let mut fetched = Fetched { bytes: 0, went_on: done > 0 };
        go_on(watch(Event::Begin { file: wanted.file, size, done }))?;
        if let Some(size) = size {
            check_space(partial, wanted.file, size - done)?;
        }
        let mut tries = 0;
        while size != Some(done) {
            let before = done;
            let end = self.read_on(wanted, &mut out, partial, &mut done, watch);
            fetched.bytes += done.saturating_sub(before);
            let why = match end? {
                End::Whole if size.is_none_or(|size| done >= size) => break,
                End::Whole => "it ended early".to_owned(),
                End::Cut(why) => why,
            };
            // A connection that breaks after some progress may break as often as it likes.
            tries = if done > before { 1 } else { tries + 1 };
            if tries >= TRIES {
                return Err(HubError::Cut { file: wanted.file.to_owned(), reason: why, done });
            }
            go_on(watch(Event::Again(&why)))?;
            std::thread::sleep(PAUSE * (1 << tries));
        }
        out.sync_all().map_err(HubError::io(partial))?;
        Ok(fetched)
    }

    /// One request, from byte `done` on.
    fn read_on(
        &self,
        wanted: &Wanted<'_>,
        out: &mut File,
        partial: &Path,
        done: &mut u64,
        watch: &mut Watch<'_>,
    ) -> Result<End, HubError> {
        let url = self.url(wanted.repo, wanted.revision, wanted.file);
        let mut answer = match self.ask(Method::Get, &url, *done) {
            // A network that went away during a download may come back.
            Err(HubError::Unreachable { reason, .. }) if *done > 0 => return Ok(End::Cut(reason)),
            answer => answer?,
        };
        match answer.status() {
            // The rest begins elsewhere, or is not given: all of it then.
            206 if starts_at(answer.header("content-range")) != Some(*done) => {
                *done = restart(out, partial)?;
                return Ok(End::Cut("it goes on at another byte".to_owned()));
            }
            206 => {}
            416 => {
                *done = restart(out, partial)?;
                return Ok(End::Cut("it has no such byte".to_owned()));
            }
            200 if *done > 0 => *done = restart(out, partial)?,
            _ => {
                self.check(&mut answer, wanted.repo, &format!("hf:{}/{}", wanted.repo, wanted.file), wanted.revision)?
            }
        }
        let mut body = answer.response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 18];
        loop {
            let n = match body.read(&mut buffer) {
                Ok(0) => return Ok(End::Whole),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(End::Cut(reason(&error))),
            };
            out.write_all(&buffer[..n]).map_err(|error| match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    let needed = wanted.facts.size.map_or(0, |size| size.saturating_sub(*done));
                    super::space::full(partial, wanted.file, needed)
                }
                _ => HubError::io(partial)(error),
            })?;
            *done += n as u64;
            go_on(watch(Event::Done(*done)))?;
            // More than there should be is not written without end.
            if wanted.facts.size.is_some_and(|size| *done > size) {
                return Ok(End::Whole);
            }
        }
    }
}

fn go_on(is_wanted: bool) -> Result<(), HubError> {
    if is_wanted { Ok(()) } else { Err(HubError::Interrupted) }
}

/// How reading a body ended.
enum End {
    Whole,
    Cut(String),
}

struct Fetched {
    /// Over the network.
    bytes: u64,
    /// Whether an earlier try had left a part.
    went_on: bool,
}

/// Whether the contents are there.
fn is_whole(wanted: &Wanted<'_>) -> bool {
    let there = fs::metadata(wanted.blob).ok().filter(fs::Metadata::is_file).map(|file| file.len());
    there.is_some_and(|there| wanted.facts.size.is_none_or(|size| size == there))
}

/// Forgets what is there.
fn restart(out: &File, partial: &Path) -> Result<u64, HubError> {
    out.set_len(0).map_err(HubError::io(partial))?;
    Ok(0)
}

/// The first byte of `bytes 5-9/10`.
fn starts_at(range: Option<&str>) -> Option<u64> {
    range?.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

fn check_contents(wanted: &Wanted<'_>, partial: &Path) -> Result<(), HubError> {
    let damaged = |what, found: String, expected: String| HubError::Damaged {
        file: wanted.file.to_owned(),
        what,
        found,
        expected,
    };
    let length = fs::metadata(partial).map_err(HubError::io(partial))?.len();
    if let Some(size) = wanted.facts.size.filter(|size| *size != length) {
        return Err(damaged("size", format!("{length} bytes"), format!("{size} bytes")));
    }
    let Some(expected) = wanted.facts.sha256() else { return Ok(()) };
    let mut hash = Sha256::new();
    io::copy(&mut File::open(partial).map_err(HubError::io(partial))?, &mut hash).map_err(HubError::io(partial))?;
    let found = format!("{:x}", hash.finalize());
    match found.eq_ignore_ascii_case(expected) {
        true => Ok(()),
        false => Err(damaged("SHA-256", found, expected.to_owned())),
    }
}

/// Waits for the lock of a file. huggingface_hub locks the same file in the same way.
fn lock(path: &Path, watch: &mut Watch<'_>) -> Result<File, HubError> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(HubError::io(path))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                go_on(watch(Event::Waiting))?;
                std::thread::sleep(Duration::from_millis(100));
            }
            // A file system without locks: what is written is checked by its hash.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(HubError::io(path)(error)),
        }
    }
}

/// Where the lock of contents with this ETag is.
pub fn lock_path(root: &Path, repo_folder: &str, etag: &str) -> PathBuf {
    root.join(".locks").join(repo_folder).join(format!("{etag}.lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_begins_where_it_says() {
        assert_eq!(starts_at(Some("bytes 5-9/10")), Some(5));
        assert_eq!(starts_at(Some("bytes 5-9/*")), Some(5));
        assert_eq!([starts_at(Some("bytes */10")), starts_at(Some("5-9")), starts_at(None)], [None; 3]);
    }
}
