//! `/slots`: which slots work, and saving, restoring and erasing what they hold, as llama.cpp's server does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{FromRequest, Path as InPath, Request, State};
use axum::http::header;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::body::Body;
use crate::brief::Short;
use crate::server::engine::{Refused, SlotAction, SlotAnswer, SlotTask};
use crate::server::error::ApiError;
use crate::server::fields::{Fields, FromFields};
use crate::server::state::Server;
use crate::session::{Caches, CachesError};

/// Which slots work.
pub async fn list(State(server): State<Arc<Server>>) -> Result<Json<Value>, ApiError> {
    if !server.shows_slots {
        return Err(ApiError::not_supported("this server does not show its slots: it was started with --no-slots"));
    }
    let busy = server.queue.busy();
    let slot = |id: usize| json!({ "id": id, "n_ctx": server.n_ctx, "is_processing": busy.contains(&id) });
    Ok(Json((0..server.queue.n_slots()).map(slot).collect()))
}

/// The file of a request.
pub struct FileRequest {
    filename: String,
}

impl FromFields for FileRequest {
    fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        Ok(Self { filename: fields.need_last("filename")? })
    }
}

/// A request without fields.
struct Nothing;

impl FromFields for Nothing {
    const LENIENT: bool = true;

    fn read(_: &mut Fields) -> Result<Self, ApiError> {
        Ok(Self)
    }
}

/// Saves, restores or erases what a slot holds. Waits until no text runs in it.
pub async fn act(
    State(server): State<Arc<Server>>,
    InPath(id): InPath<String>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let Some(folder) = server.slot_save_path.clone() else {
        let message = "This server does not support slots action. Start it with `--slot-save-path`";
        return Err(ApiError::not_supported(message));
    };
    let n_slots = server.queue.n_slots();
    let Some(slot) = id.parse().ok().filter(|slot| *slot < n_slots) else {
        let message = format!("Invalid slot ID: {} is none of the slots 0 to {}", Short(&id), n_slots - 1);
        return Err(ApiError::bad_request(message));
    };
    let query = request.uri().query().unwrap_or_default();
    let action = query.split('&').find_map(|pair| pair.strip_prefix("action=")).unwrap_or_default().to_owned();
    match action.as_str() {
        "save" => save(&server, slot, &file(&server, &folder, request).await?).await,
        "restore" => restore(&server, slot, &file(&server, &folder, request).await?).await,
        "erase" => {
            // A page from elsewhere may send a request without a body unasked; it cannot send JSON.
            if request.headers().contains_key(header::ORIGIN) {
                Body::<Nothing>::from_request(request, &server).await?;
            }
            erase(&server, slot).await
        }
        _ => Err(ApiError::bad_request("Invalid action: it must be save, restore or erase")),
    }
}

/// A file in the folder of saved slots.
struct SlotFile {
    name: String,
    path: PathBuf,
}

async fn file(server: &Arc<Server>, folder: &Path, request: Request) -> Result<SlotFile, ApiError> {
    let name = Body::<FileRequest>::from_request(request, server).await?.0.filename;
    if let Some(fault) = fault(&name) {
        return Err(ApiError::invalid("filename", format!("Invalid filename: {fault}")));
    }
    Ok(SlotFile { path: folder.join(&name), name })
}

/// What is wrong with the name of a file: as llama.cpp, on every system what any of them would take for more than a
/// name.
fn fault(name: &str) -> Option<&'static str> {
    let forbidden = |c: char| c.is_control() || "/\\:*?\"<>|\u{fffd}".contains(c);
    match name {
        "" => Some("it is empty"),
        _ if name.len() > 255 => Some("it has more than 255 bytes"),
        _ if name.contains("..") || name == "." => Some("it must not contain \"..\""),
        _ if name.contains(forbidden) => {
            Some("it must be a name without separators, control characters and : * ? \" < > |")
        }
        _ if name.starts_with(' ') || name.ends_with([' ', '.']) => {
            Some("it must not begin with a space, nor end with a space or a point")
        }
        _ if is_device(name) => Some("Windows has a device of that name"),
        _ => None,
    }
}

/// Whether Windows takes a name for a device, with any extension.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let is_port = |prefix| {
        let number = stem.strip_prefix(prefix).unwrap_or_default();
        number.chars().count() == 1 && number.contains(|c: char| "123456789¹²³".contains(c))
    };
    ["CON", "PRN", "AUX", "NUL"].contains(&&*stem) || is_port("COM") || is_port("LPT")
}

async fn save(server: &Arc<Server>, slot: usize, file: &SlotFile) -> Result<Json<Value>, ApiError> {
    let start = Instant::now();
    let place = server.slot_place(slot).await?;
    let SlotAnswer::Saved(caches, place) = ask(server, slot, SlotAction::Save(place)).await? else {
        return Err(mixed_up());
    };
    let n_saved = caches.n_tokens();
    let path = file.path.clone();
    let written = tokio::task::spawn_blocking(move || {
        // A client that goes away does not end this. The caches are dropped before the place that they take.
        let _place = place;
        let caches = caches;
        check_replaced(&path)?;
        caches.write(&path).map_err(ApiError::internal)
    });
    let n_written = written.await.map_err(ApiError::internal)??;
    Ok(Json(json!({
        "id_slot": slot,
        "filename": file.name,
        "n_saved": n_saved,
        "n_written": n_written,
        "timings": { "save_ms": milliseconds(start) },
    })))
}

/// Refuses to write over anything but saved caches: the folder may hold other files.
fn check_replaced(path: &Path) -> Result<(), ApiError> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() || !matches!(Caches::is_at(path), Ok(true)) => {
            Err(ApiError::invalid("filename", "Invalid filename: it is there, and does not hold a saved slot"))
        }
        _ => Ok(()),
    }
}

async fn restore(server: &Arc<Server>, slot: usize, file: &SlotFile) -> Result<Json<Value>, ApiError> {
    let start = Instant::now();
    let place = server.slot_place(slot).await?;
    let (path, shared) = (file.path.clone(), Arc::clone(server));
    let read = tokio::task::spawn_blocking(move || {
        // A client that goes away does not end this: the place is held until it ends.
        let place = place;
        let not_there = || ApiError::bad_request("Unable to restore slot: there is no such file");
        // A link could lead out of the folder.
        let found = std::fs::symlink_metadata(&path).ok().filter(std::fs::Metadata::is_file).ok_or_else(not_there)?;
        let read = match &shared.empty_caches {
            Some(here) => Caches::read_for(&path, here, shared.n_ctx),
            None => Caches::read(&path),
        };
        let caches = read.map_err(|error| match error {
            CachesError::Io(error) => ApiError::internal(error),
            error => ApiError::bad_request(format!("Unable to restore slot: {error}")),
        })?;
        Ok::<_, ApiError>((found.len(), caches, place))
    });
    let (n_read, caches, place) = read.await.map_err(ApiError::internal)??;
    let SlotAnswer::Restored(n) = ask(server, slot, SlotAction::Restore(Box::new(caches), place)).await? else {
        return Err(mixed_up());
    };
    Ok(Json(json!({
        "id_slot": slot,
        "filename": file.name,
        "n_restored": n,
        "n_read": n_read,
        "timings": { "restore_ms": milliseconds(start) },
    })))
}

async fn erase(server: &Arc<Server>, slot: usize) -> Result<Json<Value>, ApiError> {
    match ask(server, slot, SlotAction::Erase).await? {
        SlotAnswer::Erased(n) => Ok(Json(json!({ "id_slot": slot, "n_erased": n }))),
        _ => Err(mixed_up()),
    }
}

/// Hands a task to the engine, and waits for its answer.
async fn ask(server: &Server, slot: usize, action: SlotAction) -> Result<SlotAnswer, ApiError> {
    let (answer, answered) = oneshot::channel();
    server.queue.submit_slot(SlotTask { slot, action, answer }).map_err(Refused::error)?;
    let answered = tokio::time::timeout(server.limits.queue_timeout, answered).await;
    answered.map_err(|_| ApiError::queued_too_long())?.unwrap_or_else(|_| Err(ApiError::shutting_down()))
}

fn mixed_up() -> ApiError {
    ApiError::internal("the engine answered another task")
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_leads_nowhere_else() {
        for good in [
            "nul1",
            "com.bin",
            "com10",
            "console.bin",
            "slot1.bin",
            "a b",
            "Grüße.bin",
            ".hidden",
            "-",
            "x=y&z",
            &"x".repeat(255),
        ] {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/../b",
            "/etc/passwd",
            "a/b",
            "a\\b",
            "C:x",
            "x\0",
            "x\ny",
            "x\u{7f}",
            "x.",
            "x ",
            " x",
            "a..b",
            "x?",
            "x*",
            "nul|",
            "NUL",
            "nul.bin",
            "con .tar.gz",
            "Com1.bin",
            "lpt³",
            &"x".repeat(256),
            &"ä".repeat(128),
        ] {
            assert!(fault(bad).is_some(), "{bad:?}");
        }
    }
}
