//! Conversations in files: `--session`, `--load`, /save and /load. The text is JSON; what the models hold of it lies
//! beside it, so that it need not be read again.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Map, json};

use super::Chat;
use super::seeds::Seeds;
use crate::chat::Conversation;
use crate::cli::one_line;
use crate::files;
use crate::session::{Caches, CachesError};

/// The file that a chat is kept in.
pub struct Kept {
    file: PathBuf,
    /// The conversation that is in it.
    written: Option<Conversation>,
    /// Whether the conversation of now could not be written to it: then its caches are not those of the file.
    is_behind: bool,
    /// Tokens that the base had decoded when the caches were last written or read.
    n_decoded: Option<u64>,
}

/// Where the caches of a conversation lie.
fn beside(file: &Path) -> PathBuf {
    files::appended(file, ".cache")
}

/// Whether there is nothing in a file yet.
fn is_new(file: &Path) -> bool {
    std::fs::metadata(file).map_or_else(|e| e.kind() == std::io::ErrorKind::NotFound, |found| found.len() == 0)
}

/// Refuses to write over anything but a conversation and its caches.
fn check_free(file: &Path) -> anyhow::Result<()> {
    let name = file.display();
    match std::fs::metadata(file) {
        Ok(found) if !found.is_file() => bail!("{name} is no regular file; choose another name"),
        Ok(found) if found.len() > 0 && Conversation::load(file).is_err() => {
            bail!("{name} is there and is not a saved conversation; choose another name")
        }
        _ => {}
    }
    let caches = beside(file);
    if caches.exists() && !matches!(Caches::is_at(&caches), Ok(true)) {
        bail!("{} is there and does not hold saved caches; choose another name", caches.display());
    }
    Ok(())
}

/// Refuses a file in which a conversation cannot be kept: before the models are loaded for it.
pub fn check_kept(file: &Path) -> anyhow::Result<()> {
    if !is_new(file) {
        // Its own words are better than that the name is taken.
        Conversation::load(file)?;
    }
    check_free(file)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        bail!("cannot keep the conversation in {}: there is no folder {}", file.display(), folder.display());
    }
    files::temporary(file).with_context(|| format!("cannot keep the conversation in {}", file.display()))?;
    Ok(())
}

impl Chat {
    /// Goes on with the conversation of a file, if it is there, and keeps this one in it from now on. `seed` is the one
    /// that the user asks for.
    pub(super) fn keep_in(&mut self, file: &Path, seed: Option<u32>) -> anyhow::Result<()> {
        let is_new = is_new(file);
        let caches = if is_new { None } else { self.load(file)? };
        let n_answers = self.conversation.turns().iter().filter(|turn| turn.role == "assistant").count();
        self.seeds = seeds(caches.as_ref(), seed, self.seeds, u32::try_from(n_answers).unwrap_or(0));
        let n_decoded = caches.and(self.session.as_ref().map(crate::session::Session::n_decoded));
        let written = (!is_new).then(|| self.conversation.clone());
        self.kept = Some(Kept { file: file.to_owned(), written, is_behind: false, n_decoded });
        Ok(())
    }

    /// Writes the conversation to the file that it is kept in, where it has changed.
    pub(super) fn keep_text(&mut self) -> anyhow::Result<()> {
        let kept = self.write_kept();
        if let Some(file) = &mut self.kept {
            file.is_behind = kept.is_err();
        }
        kept
    }

    fn write_kept(&mut self) -> anyhow::Result<()> {
        let Some(kept) = &self.kept else { return Ok(()) };
        let (file, written) = (kept.file.clone(), kept.written.clone());
        let now = self.with_weights()?;
        if written.as_ref().map_or(now.turns().is_empty(), |written| *written == now) {
            return Ok(());
        }
        // Two chats in one file would each lose what the other said.
        if !is_new(&file) && Conversation::load(&file).ok() != written {
            let name = file.display();
            bail!("{name} was changed by another program, so it is left as it is; /save FILE keeps this conversation");
        }
        now.save(&file)?;
        if let Some(kept) = &mut self.kept {
            kept.written = Some(now);
        }
        Ok(())
    }

    /// Writes the caches beside the file that the conversation is kept in.
    pub(super) fn keep_caches(&mut self) {
        let (Some(kept), Some(session)) = (&mut self.kept, &mut self.session) else { return };
        let n_decoded = Some(session.n_decoded());
        if kept.written.is_none() || kept.is_behind || kept.n_decoded == n_decoded {
            return;
        }
        kept.n_decoded = n_decoded;
        let file = kept.file.clone();
        let caches = self.save_caches(&file);
        eprintln!("kept in {}{caches}", file.display());
    }

    /// Writes the conversation and the caches to a file.
    pub(super) fn save(&mut self, file: &Path) -> anyhow::Result<()> {
        check_free(file)?;
        let conversation = self.with_weights()?;
        conversation.save(file)?;
        if let Some(kept) = self.kept.as_mut().filter(|kept| files::same(&kept.file, file)) {
            (kept.written, kept.is_behind) = (Some(conversation.clone()), false);
        }
        let caches = self.save_caches(file);
        eprintln!("saved {} messages to {}{caches}", conversation.turns().len(), file.display());
        Ok(())
    }

    /// Takes over the conversation of a file, and the caches beside it. Returns these, whether they could be used or
    /// not.
    pub(super) fn load(&mut self, path: &Path) -> anyhow::Result<Option<Caches>> {
        let loaded = Conversation::load(path)?;
        for (name, weight) in loaded.weights.iter().flatten() {
            // A conversation may come from another set of ARMs.
            if let Err(error) = self.session()?.weights().set(name, *weight) {
                eprintln!("warning: {error}");
            }
        }
        let (caches, in_memory) = self.load_caches(path)?;
        eprintln!("loaded {} messages{in_memory}; weights: {}", loaded.turns().len(), self.weights()?);
        if loaded.turns().last().is_some_and(|turn| turn.role == "user") {
            eprintln!("the last message has no answer yet; /retry answers it");
        }
        self.conversation = loaded;
        Ok(caches)
    }

    /// The caches beside a conversation, and what to say of them. Those that do not fit are only a loss of time.
    fn load_caches(&mut self, conversation: &Path) -> anyhow::Result<(Option<Caches>, String)> {
        let path = beside(conversation);
        if !path.exists() {
            return Ok((None, String::new()));
        }
        let not_used = |error: &CachesError| {
            let error = one_line(&anyhow::anyhow!("{error}"));
            eprintln!("warning: {} is not used: {error}; the text is read again", path.display());
        };
        let caches = match Caches::read(&path) {
            Ok(caches) => caches,
            Err(error) => {
                not_used(&error);
                return Ok((None, String::new()));
            }
        };
        let in_memory = match self.session()?.restore_caches(&caches) {
            Ok(()) => format!(", {} tokens in memory", caches.n_tokens()),
            Err(error) => {
                not_used(&error);
                String::new()
            }
        };
        Ok((Some(caches), in_memory))
    }

    /// Writes the caches beside a conversation. Returns what to say of them: without caches nothing is lost but time.
    fn save_caches(&mut self, conversation: &Path) -> String {
        let path = beside(conversation);
        let note = self.seeds.note();
        let write = || -> anyhow::Result<Option<(usize, u64)>> {
            let mut caches = self.session()?.save_caches()?;
            caches.note = note;
            if caches.n_tokens() == 0 {
                return Ok(None);
            }
            Ok(Some((caches.n_models(), caches.write(&path)?)))
        };
        match write() {
            Ok(None) => String::new(),
            Ok(Some((1, n_bytes))) => format!(", with the cache of the base ({})", indicatif::HumanBytes(n_bytes)),
            Ok(Some((n, n_bytes))) => format!(", with the caches of {n} models ({})", indicatif::HumanBytes(n_bytes)),
            Err(error) => format!("; without caches: {}", one_line(&error)),
        }
    }

    /// The conversation with the weights as they are now.
    fn with_weights(&mut self) -> anyhow::Result<Conversation> {
        let weights = match &self.session {
            Some(session) => {
                let weights = session.weights();
                weights.names().iter().cloned().zip(weights.get()).collect()
            }
            // A lost server took the models along; their weights are in the configuration.
            None => self.config.weight_names().into_iter().zip(self.config.weights()).collect(),
        };
        let mut conversation = self.conversation.clone();
        conversation.weights = Some(weights);
        Ok(conversation)
    }
}

impl Seeds {
    /// What is kept of them beside a conversation.
    fn note(self) -> Map<String, serde_json::Value> {
        let (first, n) = self.place();
        Map::from_iter([("seed".to_owned(), json!(first)), ("answers".to_owned(), json!(n))])
    }
}

/// The seeds of the answers to come: those of a chat that was never interrupted, unless the user asks for another seed.
fn seeds(caches: Option<&Caches>, asked: Option<u32>, new: Seeds, n_answers: u32) -> Seeds {
    let number = |name| u32::try_from(caches?.note.get(name)?.as_u64()?).ok();
    match (number("seed"), number("answers"), asked) {
        (Some(first), Some(n), None) => Seeds::at(first, n),
        (Some(first), Some(n), Some(asked)) if first == asked => Seeds::at(first, n),
        (None, _, Some(asked)) => Seeds::at(asked, n_answers),
        _ => new,
    }
}
