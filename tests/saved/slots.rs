//! `/slots/{id}?action=save|restore|erase`: what a slot holds goes into a file, and into another server.

use std::time::Duration;

use serde_json::{Value, json};

use super::names;
use crate::server::{PROMPT, Serve};

/// A server that saves slots in this folder.
fn server(folder: &std::path::Path, args: &[&str]) -> Serve {
    Serve::demo(&[&["--slot-save-path", &folder.display().to_string(), "--threads", "1"], args].concat())
}

/// The answer of `/completion` at temperature 0 in a slot.
fn completion(server: &Serve, prompt: &str, slot: usize) -> Value {
    let body = json!({"prompt": prompt, "n_predict": 8, "temperature": 0, "id_slot": slot, "cache_prompt": true,
        "ignore_eos": true, "preferences": {"cheerful": 1, "talkative": 0.5, "plain": 0.5}});
    let answer = server.ok("/completion", &body);
    assert_eq!(answer["id_slot"], slot);
    answer
}

fn act(server: &Serve, slot: usize, action: &str, file: &str) -> (u16, Value) {
    server.post(&format!("/slots/{slot}?action={action}"), &json!({"filename": file}))
}

fn read(answer: &Value) -> u64 {
    answer["timings"]["prompt_n"].as_u64().unwrap_or_else(|| panic!("{answer}"))
}

#[test]
fn a_saved_slot_goes_on_in_another_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = server(folder.path(), &["--parallel", "3"]);
    let answer = completion(&first, PROMPT, 1);
    let n_prompt = read(&answer);
    let (status, saved) = act(&first, 1, "save", "lily.bin");
    assert_eq!(status, 200, "{saved}");
    // The last token drawn was not read.
    assert_eq!(
        (&saved["id_slot"], &saved["filename"], &saved["n_saved"]),
        (&json!(1), &json!("lily.bin"), &json!(n_prompt + 7))
    );
    let written = std::fs::metadata(folder.path().join("lily.bin")).expect("a file").len();
    assert_eq!(saved["n_written"], written);
    assert!(saved["timings"]["save_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{saved}");
    let text = answer["content"].as_str().expect("a text");
    let next = format!("{PROMPT}{text} Then she");
    let expected = completion(&first, &next, 1);
    let n_new = read(&expected);
    assert!(n_new < 10, "{expected}");

    // Both servers have the folder.
    let second = server(folder.path(), &["--parallel", "2"]);
    let (status, restored) = act(&second, 0, "restore", "lily.bin");
    assert_eq!(status, 200, "{restored}");
    assert_eq!((&restored["n_restored"], &restored["n_read"]), (&saved["n_saved"], &saved["n_written"]));
    let found = completion(&second, &next, 0);
    assert_eq!((read(&found), &found["content"]), (n_new, &expected["content"]), "only what is new is read");
    // A request that names no slot finds it too.
    act(&second, 1, "restore", "lily.bin");
    let body = json!({"prompt": format!("{PROMPT}{text} And"), "n_predict": 1, "cache_prompt": true});
    let found = second.ok("/completion", &body);
    assert!(found["timings"]["cache_n"].as_u64().is_some_and(|n| n >= n_prompt), "{found}");
    // And the other one takes back what this one has written over.
    let (_, saved) = act(&second, 0, "save", "lily.bin");
    assert!(saved["n_saved"].as_u64().is_some_and(|n| n > n_prompt + 7), "{saved}");
    assert_eq!(act(&first, 2, "restore", "lily.bin").1["n_restored"], saved["n_saved"]);
}

#[test]
fn an_erased_slot_reads_all_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(folder.path(), &["--parallel", "2"]);
    let n_prompt = read(&completion(&server, PROMPT, 1));
    assert_eq!(read(&completion(&server, PROMPT, 1)), 1);
    // As llama.cpp's clients do: without a body.
    let (status, erased) = crate::server::answer(crate::server::client().post(server.url("/slots/1?action=erase")));
    assert_eq!((status, &erased["id_slot"]), (200, &json!(1)));
    assert!(erased["n_erased"].as_u64().is_some_and(|n| n >= n_prompt), "{erased}");
    assert_eq!(read(&completion(&server, PROMPT, 1)), n_prompt);
    // A page from elsewhere can send that too, but not JSON.
    let from_page =
        crate::server::client().post(server.url("/slots/1?action=erase")).header("Origin", "http://evil.example");
    assert_eq!(crate::server::answer(from_page).0, 415);
}

#[test]
fn slots_are_saved_and_restored_while_others_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(folder.path(), &["--parallel", "3", "--n-ctx", "512"]);
    completion(&server, PROMPT, 0);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let body =
                json!({"prompt": "The dog", "n_predict": 300, "temperature": 0, "id_slot": 2, "ignore_eos": true});
            server.ok("/completion", &body)
        });
        for _ in 0..5 {
            assert_eq!(act(&server, 0, "save", "lily.bin").0, 200);
            assert_eq!(act(&server, 1, "restore", "lily.bin").0, 200);
            assert_eq!(read(&completion(&server, PROMPT, 1)), 1);
        }
        let undisturbed = server.ok(
            "/completion",
            &json!({"prompt": "The dog", "n_predict": 300, "temperature": 0, "id_slot": 0, "ignore_eos": true}),
        );
        assert_eq!(writing.join().expect("no panic")["content"], undisturbed["content"]);
    });
    server.settle();
}

#[test]
fn a_task_waits_for_the_text_in_its_slot_and_a_job_for_its_slot() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(folder.path(), &["--parallel", "2", "--n-ctx", "512"]);
    let body = json!({"prompt": PROMPT, "n_predict": 100, "temperature": 0, "id_slot": 1, "ignore_eos": true});
    std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..3).map(|_| scope.spawn(|| server.ok("/completion", &body))).collect();
        let saved = scope.spawn(|| act(&server, 1, "save", "any.bin"));
        let slots: Vec<_> = jobs.into_iter().map(|job| job.join().expect("no panic")["id_slot"].clone()).collect();
        assert_eq!(slots, [1, 1, 1]);
        assert_eq!(saved.join().expect("no panic").0, 200);
    });
    let (status, error) = server.post("/completion", &json!({"prompt": PROMPT, "id_slot": 2}));
    assert_eq!((status, &error["error"]["param"]), (400, &json!("id_slot")), "{error}");
}

#[test]
fn a_save_of_a_slot_that_works_keeps_no_other_slot_waiting() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(folder.path(), &["--parallel", "2", "--n-ctx", "4096"]);
    completion(&server, PROMPT, 0);
    let body = json!({"prompt": PROMPT, "n_predict": 4000, "id_slot": 1, "ignore_eos": true, "stream": true});
    let mut writing =
        crate::server::client().post(server.url("/completion")).json(&body).send().expect("an answer begins");
    std::io::Read::read_exact(&mut writing, &mut [0]).expect("a token");
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| act(&server, 1, "save", "works.bin"));
        let restores = scope.spawn(|| act(&server, 1, "restore", "works.bin"));
        // Several times: the two above may come after the first of these.
        for _ in 0..5 {
            let (status, saved) = act(&server, 0, "save", "free.bin");
            assert_eq!(status, 200, "{saved}");
            assert_eq!(act(&server, 0, "restore", "free.bin").0, 200);
            // A job for the other slot finds it, too.
            completion(&server, PROMPT, 0);
        }
        assert_eq!(
            server.get("/slots").1[1]["is_processing"],
            true,
            "the text pauses, because the client reads nothing"
        );
        drop(writing);
        assert_eq!(waits.join().expect("no panic").0, 200);
        // Before the other or after it.
        assert!(matches!(restores.join().expect("no panic").0, 200 | 400));
    });
    server.settle();
}

#[test]
fn without_the_flag_and_outside_of_the_folder_nothing_happens() {
    let message = "This server does not support slots action. Start it with `--slot-save-path`";
    let closed = Serve::demo(&[]);
    for action in ["save", "restore", "erase"] {
        let (status, error) = act(&closed, 0, action, "x.bin");
        assert_eq!((status, &error["error"]["message"]), (501, &json!(message)));
    }
    drop(closed);
    let outside = tempfile::tempdir().expect("a folder");
    let folder = outside.path().join("slots");
    std::fs::create_dir(&folder).expect("a folder");
    let server = server(&folder, &["--parallel", "2"]);
    completion(&server, PROMPT, 0);
    assert_eq!(act(&server, 0, "save", "good.bin").0, 200);
    std::fs::copy(folder.join("good.bin"), outside.path().join("good.bin")).expect("a copy");
    for name in ["../good.bin", "/tmp/x", "a/b", "a\\b", "..", ".", "", "x\n", "x\0", &"x".repeat(256)] {
        for action in ["save", "restore"] {
            let (status, error) = act(&server, 0, action, name);
            let message = error["error"]["message"].as_str().expect("a message");
            assert!(status == 400 && message.contains("Invalid filename"), "{name:?}: {status} {error}");
        }
    }
    // Other files of the folder are neither read nor written over, nor are links followed.
    std::fs::write(folder.join("other.txt"), "Tom").expect("written");
    assert_eq!(act(&server, 0, "save", "other.txt").0, 400);
    assert_eq!(act(&server, 0, "restore", "other.txt").0, 400);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(outside.path().join("good.bin"), folder.join("link.bin")).expect("a link");
        assert_eq!(act(&server, 0, "restore", "link.bin").0, 400);
        assert_eq!(act(&server, 0, "save", "link.bin").0, 400);
    }
    assert_eq!(std::fs::read_to_string(folder.join("other.txt")).expect("a file"), "Tom");
    for path in
        ["/slots/2?action=save", "/slots/-1?action=save", "/slots/x?action=save", "/slots/0?action=drop", "/slots/0"]
    {
        let (status, error) = server.post(path, &json!({"filename": "x.bin"}));
        assert_eq!(status, 400, "{path}: {error}");
    }
    assert_eq!(names(outside.path()), ["good.bin", "slots"]);
}

#[test]
fn a_file_of_other_models_or_a_damaged_one_leaves_the_slot_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = server(folder.path(), &["--parallel", "2"]);
    completion(&first, PROMPT, 0);
    assert_eq!(act(&first, 0, "save", "good.bin").0, 200);
    let good = std::fs::read(folder.path().join("good.bin")).expect("a file");
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    std::fs::write(folder.path().join("flipped.bin"), flipped).expect("written");
    std::fs::write(folder.path().join("short.bin"), &good[..good.len() / 3]).expect("written");
    for file in ["flipped.bin", "short.bin", "missing.bin"] {
        let (status, error) = act(&first, 0, "restore", file);
        let message = error["error"]["message"].as_str().expect("a message");
        assert!(status == 400 && message.starts_with("Unable to restore slot"), "{file}: {status} {error}");
        assert_eq!(read(&completion(&first, PROMPT, 0)), 1, "the slot has its text");
    }
    drop(first);
    let other = server(folder.path(), &["--parallel", "2", "--cache-type-k", "f32"]);
    completion(&other, PROMPT, 0);
    let (status, error) = act(&other, 0, "restore", "good.bin");
    assert_eq!(status, 400);
    assert!(error["error"]["message"].as_str().is_some_and(|m| m.contains("the base") && m.contains("f16")), "{error}");
    assert_eq!(read(&completion(&other, PROMPT, 0)), 1);
    // That is known before the rest is read, and so before its checksum.
    let (status, error) = act(&other, 0, "restore", "flipped.bin");
    assert!(status == 400 && error.to_string().contains("f16"), "{error}");
}

#[test]
fn a_server_that_ends_answers_those_who_wait_for_a_slot() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = server(folder.path(), &["--parallel", "1", "--n-ctx", "4096", "--shutdown-timeout", "0"]);
    let (url, body) =
        (server.url("/completion"), json!({"prompt": PROMPT, "n_predict": 4000, "ignore_eos": true, "stream": true}));
    let mut writing = crate::server::client().post(url).json(&body).send().expect("an answer begins");
    std::io::Read::read_exact(&mut writing, &mut [0]).expect("a token");
    let ended = std::thread::scope(|scope| {
        let url = server.url("/slots/0?action=save");
        let asked = scope.spawn(move || {
            crate::server::client()
                .post(url)
                .json(&json!({"filename": "x.bin"}))
                .send()
                .map(|answer| answer.status().as_u16())
        });
        server.signal("TERM");
        let ended = server.wait(Duration::from_secs(60));
        // It came in time, or too late.
        assert!(matches!(asked.join().expect("no panic"), Ok(503) | Err(_)));
        ended
    });
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    assert!(names(folder.path()).is_empty());
}
