//! Who gets in, and what a browser is told.

use std::process::Command;

use serde_json::json;

use super::{PROMPT, Serve, answer, client};

fn key_file(keys: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), keys).expect("written");
    file
}

/// The one line of a server that does not start.
fn refusal(args: &[&str]) -> String {
    let config = super::root().join("models/demo.yaml").display().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_genarm"))
        .args([&["serve", "--port", "0", "--config", &config], args].concat())
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(talk.lines().count(), 1, "{talk}");
    talk
}

#[test]
fn only_this_machine_is_served_without_a_key() {
    assert!(refusal(&["--host", "0.0.0.0"]).contains("add --api-key-file FILE, or --no-api-key"));
    assert!(refusal(&["--api-key-file", "/nowhere/keys"]).contains("/nowhere/keys"));
    let short = key_file("short\n");
    assert!(refusal(&["--api-key-file", short.path().to_str().expect("a path")]).contains("at least 8"));
    let empty = key_file("# nothing\n\n");
    assert!(refusal(&["--api-key-file", empty.path().to_str().expect("a path")]).contains("one per line"));
    let open = Serve::demo(&["--host", "0.0.0.0", "--no-api-key"]);
    let port = open.url.rsplit(':').next().expect("a port");
    assert_eq!(answer(client().get(format!("http://127.0.0.1:{port}/health"))).0, 200);
}

/// As bash's `--api-key-file <(pass show key)`: a pipe gives its text once.
#[test]
#[cfg(unix)]
fn a_key_may_come_through_a_pipe() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("keys");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let written = pipe.clone();
    let writer = std::thread::spawn(move || std::fs::write(written, "first-key-12345\n").expect("written"));
    let server = Serve::demo(&["--api-key-file", pipe.to_str().expect("a path")]);
    writer.join().expect("the key was read");
    assert_eq!(answer(client().get(server.url("/v1/models"))).0, 401);
    assert_eq!(answer(client().get(server.url("/v1/models")).bearer_auth("first-key-12345")).0, 200);
}

#[test]
fn a_key_is_asked_for_and_nothing_else_will_do() {
    let keys = key_file("# ours\nfirst-key-12345\nsecond-key-6789\n");
    let server = Serve::demo(&["--metrics", "--api-key-file", keys.path().to_str().expect("a path")]);
    let ask = |key: Option<&str>| {
        let request = client().get(server.url("/v1/models"));
        let request =
            key.map(|key| request.try_clone().expect("a request").header("authorization", key)).unwrap_or(request);
        answer(request)
    };
    for wrong in [
        None,
        Some("Bearer "),
        Some("Bearer first-key-1234"),
        Some("Bearer first-key-123456"),
        Some("first-key-12345"),
        Some("Basic first-key-12345"),
    ] {
        let (status, body) = ask(wrong);
        assert_eq!((status, &body["error"]["code"]), (401, &json!("invalid_api_key")), "{wrong:?}");
    }
    for right in ["Bearer first-key-12345", "bearer second-key-6789"] {
        assert_eq!(ask(Some(right)).0, 200);
    }
    for path in ["/metrics", "/props", "/v1/preferences"] {
        assert_eq!(server.get(path).0, 401, "{path}");
    }
    let url = server.url("/v1/generations/cmpl-00000000000000000000000000000000");
    let change = json!({"preferences": {"cheerful": 1}});
    let patch = || client().patch(&url).json(&change);
    assert_eq!(answer(patch()).0, 401, "a running text is changed with a key only");
    assert_eq!(answer(patch().bearer_auth("wrong-key")).0, 401);
    assert_eq!(answer(patch().bearer_auth("first-key-12345")).0, 404, "there is no such text");
    for path in ["/", "/health", "/v1/health", "/page.js"] {
        assert_eq!(server.get(path).0, 200, "{path}");
    }
    let put = |body| answer(client().put(server.url("/v1/preferences")).bearer_auth("first-key-12345").json(&body));
    assert_eq!(put(json!({"profile": "happy", "preferences": {"plain": 0.25}})).1["arms"][2]["weight"], 0.25);
    let body = json!({"prompt": PROMPT, "max_tokens": 1});
    let used = answer(client().post(server.url("/v1/completions")).bearer_auth("second-key-6789").json(&body)).1;
    assert_eq!(used["genarm"]["weights"], json!({"cheerful": 1.5, "talkative": 0.0, "plain": 0.25}));
    assert_eq!(put(json!({"preferences": {"nobody": 1}})).0, 400);
}

#[test]
fn the_defaults_cannot_be_changed_without_a_key() {
    let server = Serve::demo(&[]);
    let put = answer(client().put(server.url("/v1/preferences")).json(&json!({"preferences": {"cheerful": 0}})));
    assert_eq!((put.0, &put.1["error"]["type"]), (403, &json!("permission_error")));
    assert_eq!(server.get("/metrics").0, 501, "metrics are shown on demand only");
}

#[test]
fn pages_from_elsewhere_get_nothing() {
    let server = Serve::demo(&[]);
    let from = |name: &'static str, value: &'static str| client().get(server.url("/v1/models")).header(name, value);
    assert_eq!(answer(from("host", "evil.example")).0, 403, "a name that was pointed here");
    assert_eq!(answer(from("host", "localhost:1")).0, 200);
    let response = from("origin", "http://evil.example").send().expect("an answer");
    assert!(response.headers().get("access-control-allow-origin").is_none());
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    let friend = Serve::demo(&["--cors-origin", "http://friend.example"]);
    let ask = |origin| client().get(friend.url("/v1/models")).header("origin", origin).send().expect("an answer");
    assert_eq!(ask("http://friend.example").headers()["access-control-allow-origin"], "http://friend.example");
    assert!(ask("http://evil.example").headers().get("access-control-allow-origin").is_none());
    let page = client().get(server.url("/")).send().expect("an answer");
    let policy = page.headers()["content-security-policy"].to_str().expect("a policy").to_owned();
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe") && !policy.contains("http"),
        "{policy}"
    );
    let html = page.text().expect("a page");
    assert!(
        !html.contains("://") && !html.contains(" style=") && !html.contains("onclick"),
        "nothing from outside, nothing inline"
    );
}

#[test]
fn too_many_requests_of_one_client_are_told_to_wait() {
    let server = Serve::demo(&["--rate-limit", "2"]);
    let statuses: Vec<_> = (0..12).map(|_| client().get(server.url("/v1/models")).send().expect("an answer")).collect();
    let limited: Vec<_> = statuses.iter().filter(|r| r.status() == 429).collect();
    assert!(limited.len() >= 4, "{}", limited.len());
    assert!(limited[0].headers().contains_key("retry-after"));
    assert!(statuses[..4].iter().all(|r| r.status() == 200));
}
