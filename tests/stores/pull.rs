//! Downloads from a hub on loopback.

use std::process::Stdio;
use std::sync::atomic::AtomicUsize;

use super::hub::{COMMIT, Hub, Rules, owned, sha256};
use super::{Home, arm, bad, good, model, text, write};
use crate::server::{Serve, answer, client};
use crate::support::binary::fed;

/// The home's program, with this hub.
fn genarm(home: &Home, hub: &Hub, args: &[&str]) -> std::process::Command {
    let mut command = home.genarm(args);
    command.env("HF_ENDPOINT", &hub.url);
    command
}

/// Bytes without a meaning.
fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[test]
fn from_an_empty_cache_chat_downloads_and_answers() {
    let (home, hub) = (Home::new(), Hub::with(&[("stories-Q4_K_M.gguf", &model()), ("README.md", b"# x")]));
    let talk = |args: &[&str]| {
        let output = fed(&mut genarm(&home, &hub, args), "Once upon a time\n");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let flags = ["--chat-template", "raw", "-n", "8", "--temp", "0"];
    let first = talk(&[&["chat", "-hf", "me/model:q4_k_m"], &flags[..]].concat());
    assert!(!first.trim().is_empty());
    assert_eq!(hub.downloads().len(), 1);
    // The second time nothing is asked.
    let asked = hub.seen().len();
    assert_eq!(talk(&[&["chat", "--base", "hf:me/model"], &flags[..]].concat()), first);
    assert_eq!(talk(&[&["chat", "-hfr", "me/model", "-hff", "stories-Q4_K_M.gguf"], &flags[..]].concat()), first);
    assert_eq!(hub.seen().len(), asked);
}

#[test]
fn a_server_that_downloaded_its_model_lets_texts_end_after_a_term_signal() {
    let (home, hub) = (Home::new(), Hub::with(&[("stories-Q4_K_M.gguf", &model())]));
    let args = ["serve", "--port", "0", "-hf", "me/model", "--chat-template", "raw", "--n-ctx", "16384"];
    let mut server = Serve::of(&mut genarm(&home, &hub, &args));
    assert_eq!(hub.downloads().len(), 1);
    let url = server.url("/v1/completions");
    let body = serde_json::json!({"prompt": "Tom", "max_tokens": 1500, "ignore_eos": true, "temperature": 0});
    let text = std::thread::spawn(move || answer(client().post(url).json(&body)));
    while server.get("/health").1["running"] != 1 {
        assert!(!text.is_finished(), "the text ended too early");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    server.signal("TERM");
    let (status, body) = text.join().expect("an answer");
    assert_eq!((status, &body["usage"]["completion_tokens"]), (200, &1500.into()), "{body}");
    let status = server.wait(std::time::Duration::from_secs(20)).expect("the process ends");
    assert!(status.success(), "{status}");
}

#[test]
fn what_a_server_may_not_do_is_refused_before_a_download() {
    let (home, hub) = (Home::new(), Hub::with(&[("stories-Q4_K_M.gguf", &model())]));
    for (flags, words) in [
        (&["--host", "0.0.0.0"][..], &["--host 0.0.0.0", "--api-key-file"][..]),
        (&["--api-key", "short"], &["--api-key", "8"]),
        (&["--slot-save-path", "missing"], &["--slot-save-path", "missing"]),
    ] {
        let (line, code) = bad(genarm(&home, &hub, &[&["serve", "-hf", "me/model"], flags].concat()));
        assert!(words.iter().all(|word| line.contains(word)) && code == Some(2), "{code:?} {line}");
    }
    assert!(hub.seen().is_empty());
}

#[test]
fn llama_cpps_names_for_a_model_on_the_hub_count_wherever_models_are_named() {
    let (home, hub) = (Home::new(), Hub::with(&[("stories-Q4_K_M.gguf", &model())]));
    good(genarm(&home, &hub, &["pull", "-hf", "me/model"]));
    good(genarm(&home, &hub, &["inspect", "-hf", "me/model", "-hff", "stories-Q4_K_M.gguf"]));
    good(genarm(&home, &hub, &["inspect", "--plan", "-hf", "me/model"]));
    let mut generate = genarm(&home, &hub, &["generate", "-n", "1", "Tom"]);
    generate.env("LLAMA_ARG_HF_REPO", "me/model").env("LLAMA_ARG_HF_FILE", "stories-Q4_K_M.gguf");
    good(generate);
}

#[test]
fn the_cache_is_laid_out_as_hugging_faces_tools_lay_it_out() {
    let contents = bytes(1000);
    let (home, hub) = (Home::new(), Hub::with(&[("deep/x-Q8_0.gguf", &contents)]));
    let output = good(genarm(&home, &hub, &["pull", "me/model", "--json"]));
    let pulled: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let (hash, repo) = (sha256(&contents), "models--me--model");
    let named = format!("{repo}/snapshots/{COMMIT}/deep/x-Q8_0.gguf");
    let expected = [
        format!(".locks/{repo}/{hash}.lock"),
        format!("{repo}/blobs/{hash}"),
        format!("{repo}/refs/main"),
        named.clone(),
    ];
    assert_eq!(Home::tree(&home.cache()), expected);
    assert_eq!(std::fs::read_to_string(home.cache().join(repo).join("refs/main")).unwrap(), COMMIT);
    assert_eq!(std::fs::read(home.cache().join(&named)).unwrap(), contents);
    #[cfg(unix)]
    assert_eq!(
        std::fs::read_link(home.cache().join(&named)).unwrap(),
        std::path::PathBuf::from(format!("../../../blobs/{hash}"))
    );
    let file = &pulled[0]["files"][0];
    assert_eq!((file["sha256"].as_str(), file["downloaded"].as_u64()), (Some(&*hash), Some(1000)));
    assert_eq!(pulled[0]["commit"], COMMIT);
    assert_eq!(std::path::Path::new(pulled[0]["path"].as_str().unwrap()), home.cache().join(named));
    // Again: nothing comes over the network but the questions.
    let output = good(genarm(&home, &hub, &["pull", "hf:me/model:Q8_0"]));
    assert!(text(&output.stdout).contains("was on this machine"), "{}", text(&output.stdout));
    assert_eq!(hub.downloads().len(), 1);
}

#[test]
fn a_connection_that_is_cut_goes_on_at_the_byte_where_it_ended() {
    let contents = bytes(300_000);
    let rules = Rules {
        files: owned(&[("x.gguf", &contents)]),
        cuts: AtomicUsize::new(2),
        cut_after: 100_000,
        ..Rules::default()
    };
    let (home, hub) = (Home::new(), Hub::start(rules));
    let output = good(genarm(&home, &hub, &["pull", "hf:me/model"]));
    assert!(text(&output.stderr).contains("the connection broke"), "{}", text(&output.stderr));
    assert_eq!(hub.downloads(), [0, 100_000, 200_000]);
    assert!(Home::tree(&home.cache()).contains(&format!("models--me--model/blobs/{}", sha256(&contents))));
}

#[test]
fn a_download_that_ended_goes_on_in_the_next_process() {
    let contents = bytes(300_000);
    let file = [("x.gguf", &contents[..])];
    let rules = Rules { files: owned(&file), cuts: AtomicUsize::new(99), cut_after: 0, ..Rules::default() };
    let (home, broken) = (Home::new(), Hub::start(rules));
    let partial = home.cache().join(format!("models--me--model/blobs/{}.incomplete", sha256(&contents)));
    // What an interrupted process left.
    write(&partial, &contents[..123_456]);
    let (line, code) = bad(genarm(&home, &broken, &["pull", "hf:me/model"]));
    assert!(
        line.contains("x.gguf: the connection breaks again and again") && line.contains("goes on at byte 123456"),
        "{line}"
    );
    assert_eq!(code, Some(1));
    assert!(!home.cache().join("models--me--model/snapshots").exists());
    let hub = Hub::with(&file);
    let output = good(genarm(&home, &hub, &["pull", "hf:me/model"]));
    assert!(text(&output.stderr).contains("going on at"), "{}", text(&output.stderr));
    assert_eq!(hub.downloads(), [123_456]);
    assert!(!partial.exists());
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_download_and_the_next_one_goes_on() {
    let contents = bytes(4_000_000);
    let file = [("x.gguf", &contents[..])];
    let drip = Some(std::time::Duration::from_millis(50));
    let (home, slow) = (Home::new(), Hub::start(Rules { files: owned(&file), drip, ..Rules::default() }));
    let mut command = genarm(&home, &slow, &["generate", "-hf", "me/model", "Hi"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let partial = home.cache().join(format!("models--me--model/blobs/{}.incomplete", sha256(&contents)));
    let length = || std::fs::metadata(&partial).map_or(0, |file| file.len());
    while length() == 0 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill runs").success());
    let output = child.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(130));
    assert!(text(&output.stderr).contains("the same command goes on from there"), "{}", text(&output.stderr));
    let kept = length();
    assert!(kept > 0 && kept < contents.len() as u64, "{kept}");
    let hub = Hub::with(&file);
    good(genarm(&home, &hub, &["pull", "hf:me/model"]));
    assert_eq!(hub.downloads(), [kept]);
}

#[test]
fn a_part_of_other_contents_and_a_storage_without_ranges_begin_again() {
    let contents = bytes(10_000);
    for no_ranges in [false, true] {
        let home = Home::new();
        let hub = Hub::start(Rules { files: owned(&[("x.gguf", &contents)]), no_ranges, ..Rules::default() });
        let folder = home.cache().join("models--me--model/blobs");
        write(&folder.join(format!("{}.incomplete", sha256(&contents))), vec![1; 5000]);
        good(genarm(&home, &hub, &["pull", "hf:me/model"]));
        assert_eq!(std::fs::read(folder.join(sha256(&contents))).unwrap(), contents);
        assert_eq!(hub.downloads(), if no_ranges { vec![5000] } else { vec![5000, 0] });
    }
}

#[test]
fn a_wrong_hash_is_refused_and_the_file_removed() {
    let rules = Rules { files: owned(&[("x.gguf", &bytes(1000))]), wrong_hash: true, ..Rules::default() };
    let (home, hub) = (Home::new(), Hub::start(rules));
    let (line, code) = bad(genarm(&home, &hub, &["generate", "-hf", "me/model", "-n", "1", "Hi"]));
    assert!(line.contains("x.gguf was damaged on its way: its SHA-256 is") && line.contains("it is removed"), "{line}");
    assert_eq!(code, Some(1));
    let left = Home::tree(&home.cache());
    assert!(left.iter().all(|path| path.starts_with(".locks/")), "{left:?}");
}

#[test]
fn refusals_say_what_to_do() {
    let file = [("x-Q8_0.gguf", &b"x"[..]), ("x-Q2_K.gguf", b"y"), ("mmproj-x.gguf", b"z")];
    let rules = || Rules { files: owned(&file), ..Rules::default() };
    let home = Home::new();
    let line = |rules: Rules, args: &[&str]| {
        let (line, code) = bad(genarm(&home, &Hub::start(rules), args));
        assert_eq!(code, Some(1), "{line}");
        line
    };
    let pull = ["pull", "hf:me/model"];
    for refusal in [(401, "GatedRepo"), (403, "GatedRepo"), (401, ""), (403, "")] {
        let line = line(Rules { refusal: Some(refusal), ..rules() }, &pull);
        assert!(
            line.contains("me/model is gated: accept the terms at http://127.0.0.1:") && line.contains("HF_TOKEN"),
            "{line}"
        );
    }
    let private = line(Rules { api_refusal: Some((401, "RepoNotFound")), ..rules() }, &pull);
    assert!(private.contains("no such repository, or it is private"), "{private}");
    let token = line(Rules { api_refusal: Some((401, "")), ..rules() }, &["pull", "hf:me/model", "--hf-token", "hf_x"]);
    assert!(token.contains("the token is wrong"), "{token}");
    let no_repo = line(rules(), &["pull", "hf:me/modell"]);
    assert!(no_repo.contains("hf:me/modell is not on http://127.0.0.1:"), "{no_repo}");
    let no_revision = line(
        Rules { api_refusal: Some((404, "RevisionNotFound")), ..rules() },
        &["pull", "me/model", "--revision", "v1"],
    );
    assert!(no_revision.contains("revision v1 of me/model is not on"), "{no_revision}");
    let no_quant = line(rules(), &["pull", "hf:me/model:Q4_K_M"]);
    assert!(no_quant.ends_with("; it has Q2_K, Q8_0"), "{no_quant}");
    let no_file = line(rules(), &["pull", "hf:me/model/x-Q8-0.gguf"]);
    assert!(no_file.ends_with("did you mean hf:me/model/x-Q8_0.gguf?"), "{no_file}");
    let no_gguf = line(Rules { files: owned(&[("model.safetensors", b"")]), ..rules() }, &pull);
    assert!(no_gguf.contains("it holds safetensors"), "{no_gguf}");
    let page = line(Rules { is_web_page: true, ..rules() }, &pull);
    assert!(page.contains("answers as no hub does (a web page)") && page.contains("HF_ENDPOINT"), "{page}");
    let mut no_address = home.genarm(&pull);
    no_address.env("HF_ENDPOINT", "localhost:1234");
    let (no_address, _) = bad(no_address);
    assert!(no_address.contains("HF_ENDPOINT is \"localhost:1234\"; write the whole address"), "{no_address}");
    let (nothing, _) = bad(home.genarm(&pull));
    assert!(nothing.contains("cannot reach http://127.0.0.1:9"), "{nothing}");
    assert!(Home::tree(&home.cache()).is_empty());
}

#[test]
fn a_busy_hub_is_asked_again() {
    let rules = Rules { files: owned(&[("x.gguf", b"x")]), busy: AtomicUsize::new(2), ..Rules::default() };
    let (home, hub) = (Home::new(), Hub::start(rules));
    good(genarm(&home, &hub, &["pull", "hf:me/model"]));
    let rules = Rules { busy: AtomicUsize::new(99), ..Rules::default() };
    let (line, _) = bad(genarm(&home, &Hub::start(rules), &["pull", "hf:me/model"]));
    assert!(line.contains("is busy: it answers 503 (busy)"), "{line}");
}

#[test]
fn a_plain_mirror_is_enough() {
    let contents = bytes(50_000);
    for (head_status, has_moved) in [(405, false), (501, false), (405, true)] {
        let rules = Rules {
            files: owned(&[("x.gguf", &contents)]),
            is_plain: true,
            head_status,
            has_moved,
            cuts: AtomicUsize::new(1),
            cut_after: 20_000,
            ..Rules::default()
        };
        let (home, hub) = (Home::new(), Hub::start(rules));
        let output = good(genarm(&home, &hub, &["pull", "hf:me/model"]));
        assert!(!text(&output.stderr).contains("busy"), "{}", text(&output.stderr));
        let named = home.cache().join(format!("models--me--model/snapshots/{COMMIT}/x.gguf"));
        assert_eq!(std::fs::read(named).unwrap(), contents);
    }
}

#[test]
fn a_network_that_goes_away_leaves_a_part_to_go_on_from() {
    let contents = bytes(300_000);
    let file = [("x.gguf", &contents[..])];
    let rules = || Rules { files: owned(&file), cuts: AtomicUsize::new(1), cut_after: 100_000, ..Rules::default() };
    let (home, lost) = (Home::new(), Hub::start(Rules { is_lost: true, ..rules() }));
    let (line, code) = bad(genarm(&home, &lost, &["pull", "hf:me/model"]));
    assert!(
        line.contains("x.gguf: the connection breaks again and again") && line.contains("goes on at byte 100000"),
        "{line}"
    );
    assert_eq!((code, lost.downloads()), (Some(1), vec![0]));
    let hub = Hub::with(&file);
    good(genarm(&home, &hub, &["pull", "hf:me/model"]));
    assert_eq!(hub.downloads(), [100_000]);
}

#[test]
fn the_token_goes_to_the_hub_and_to_no_other_host() {
    let (home, hub) = (Home::new(), Hub::with(&[("x.gguf", b"x")]));
    let mut command = genarm(&home, &hub, &["pull", "hf:me/model"]);
    command.env("HF_TOKEN", "hf_secret");
    good(command);
    let (of_storage, of_hub): (Vec<_>, Vec<_>) = hub.seen().into_iter().partition(|seen| seen.of_storage);
    assert!(
        of_hub.len() >= 3 && of_hub.iter().all(|seen| seen.token.as_deref() == Some("Bearer hf_secret")),
        "{of_hub:?}"
    );
    assert!(of_storage.len() == 1 && of_storage[0].token.is_none(), "{of_storage:?}");
    // The file that `hf auth login` writes counts too.
    let (home, hub) = (Home::new(), Hub::with(&[("x.gguf", b"x")]));
    write(&home.path().join("hf/token"), "hf_kept\n");
    good(genarm(&home, &hub, &["pull", "hf:me/model"]));
    assert!(hub.seen().iter().any(|seen| seen.token.as_deref() == Some("Bearer hf_kept")));
}

#[test]
fn a_split_model_is_there_as_a_whole_or_not_at_all() {
    let files = [("x-Q4_K_M-00001-of-00002.gguf", &b"first"[..]), ("x-Q4_K_M-00002-of-00002.gguf", b"second")];
    let home = Home::new();
    let rules = Rules { files: owned(&files), gone: vec![files[1].0.to_owned()], ..Rules::default() };
    let (line, _) = bad(genarm(&home, &Hub::start(rules), &["pull", "hf:me/model"]));
    assert!(line.contains("x-Q4_K_M-00002-of-00002.gguf is not on"), "{line}");
    assert!(!home.cache().join("models--me--model/snapshots").exists());
    let output = good(genarm(&home, &Hub::with(&files), &["pull", "hf:me/model"]));
    assert!(text(&output.stdout).contains("in 2 files"), "{}", text(&output.stdout));
    let snapshot = home.cache().join("models--me--model/snapshots").join(COMMIT);
    for (name, bytes) in files {
        assert_eq!(std::fs::read(snapshot.join(name)).unwrap(), bytes);
    }
}

#[test]
fn two_pulls_at_once_download_each_file_once() {
    let contents = bytes(2_000_000);
    let (home, hub) = (Home::new(), Hub::with(&[("x.gguf", &contents)]));
    let start = || genarm(&home, &hub, &["pull", "hf:me/model"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let children: Vec<_> = (0..3).map(|_| start().expect("the binary runs")).collect();
    for child in children {
        let output = child.wait_with_output().expect("an end");
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    assert_eq!(hub.downloads(), [0]);
    assert_eq!(
        std::fs::read(home.cache().join(format!("models--me--model/blobs/{}", sha256(&contents)))).unwrap(),
        contents
    );
}

#[test]
fn offline_nothing_is_asked_and_the_pull_that_helps_is_named() {
    let (home, hub) = (Home::new(), Hub::with(&[("x.gguf", &model())]));
    let offline = |args: &[&str], variable: Option<&str>| {
        let mut command = genarm(&home, &hub, args);
        if let Some(name) = variable {
            command.env(name, "1");
        }
        command
    };
    let generate = ["generate", "--base", "hf:me/model", "-n", "2", "Hi"];
    for command in [
        offline(&[&generate[..], &["--offline"]].concat(), None),
        offline(&generate, Some("HF_HUB_OFFLINE")),
        offline(&["pull", "hf:me/model", "--offline"], None),
        offline(&["inspect", "hf:me/model"], None),
    ] {
        let (line, code) = bad(command);
        assert!(
            line.contains("hf:me/model is not on this machine") && line.contains("run genarm pull hf:me/model"),
            "{line}"
        );
        assert_eq!(code, Some(1), "{line}");
    }
    assert!(hub.seen().is_empty());
    good(genarm(&home, &hub, &["pull", "hf:me/model"]));
    good(offline(&[&generate[..], &["--offline"]].concat(), None));
    good(offline(&["pull", "hf:me/model"], Some("HF_HUB_OFFLINE")));
}

#[test]
fn a_file_names_models_on_the_hub_and_they_are_downloaded_once_each() {
    let (home, hub) = (Home::new(), Hub::with(&[("base.gguf", &model()), ("arm.gguf", &arm())]));
    let config = home.path().join("prefs.yaml");
    write(
        &config,
        "base: hf:me/model/base.gguf\narms:\n  a: hf:me/model/arm.gguf\n  b: {model: hf:me/model/arm.gguf, weight: 0}\n",
    );
    let config = config.display().to_string();
    let generate = ["generate", "-f", &config, "--seed", "1", "-n", "4", "Once"];
    let output = good(genarm(&home, &hub, &generate));
    assert_eq!(hub.downloads().len(), 2);
    let local =
        ["base", "arm"].map(|name| home.cache().join(format!("models--me--model/snapshots/{COMMIT}/{name}.gguf")));
    let [base, arm] = local.map(|path| path.display().to_string());
    let by_path = ["generate", "--base", &base, "--arm", &format!("a={arm}"), "--seed", "1", "-n", "4", "Once"];
    assert_eq!(text(&good(home.genarm(&by_path)).stdout), text(&output.stdout));
    let by_flag = [
        "generate",
        "--base",
        "hf:me/model/base.gguf",
        "--arm",
        "a=hf:me/model/arm.gguf:1",
        "--seed",
        "1",
        "-n",
        "4",
        "Once",
    ];
    assert_eq!(text(&good(home.genarm(&by_flag)).stdout), text(&output.stdout));
}

#[test]
fn a_branch_is_pulled_by_its_name() {
    let (home, hub) = (Home::new(), Hub::with(&[("x.gguf", b"x")]));
    let pull = ["pull", "hf:me/model", "--revision", "v1"];
    let shown = text(&good(genarm(&home, &hub, &pull)).stdout);
    assert!(shown.starts_with("hf:me/model at v1, which goes by its path: "), "{shown}");
    assert_eq!(std::fs::read_to_string(home.cache().join("models--me--model/refs/v1")).unwrap(), COMMIT);
    // What is to be typed for it is not the name of main's file.
    let output = good(genarm(&home, &hub, &[&pull[..], &["--json"]].concat()));
    let pulled: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(pulled[0]["name"] == pulled[0]["path"] && pulled[0]["commit"] == COMMIT, "{pulled}");
    let (line, code) = bad(genarm(&home, &hub, &["pull", "hf:me/model", "--revision", "../x"]));
    assert!(line.contains("expected a branch, a tag or a commit"), "{line}");
    assert_eq!(code, Some(2));
}
