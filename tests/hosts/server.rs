//! llama-server.

use std::fs::File;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{base, bin, demo, difference, expected, guided, output};

/// A llama-server on the loopback that ends with the test.
pub(super) struct Server {
    process: Child,
    port: u16,
    log: PathBuf,
    _folder: TempDir,
}

impl Server {
    /// The demo's base, guided.
    fn start(config: &Path, options: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = guided(config, options);
        command
            .arg(bin("llama-server"))
            .arg("-m")
            .arg(base())
            .args(["-np", "4", "-c", "2048"])
            .envs(environment.iter().copied());
        Self::spawn(command)
    }

    /// A server by its command line, without the address.
    pub(super) fn spawn(mut command: Command) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--no-warmup", "--no-webui", "-lv", "4"]);
        let mut server = Self::start_with_log(command);
        server.wait_for(port);
        server
    }

    /// A process whose server has an address that is not known yet.
    pub(super) fn start_with_log(mut command: Command) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let (out, err) = (File::create(&log).expect("a log"), File::options().append(true).open(&log).expect("a log"));
        let process = command.stdout(out).stderr(err).spawn().expect("the server starts");
        Self { process, port: 0, log, _folder: folder }
    }

    /// Waits until it answers on this port.
    pub(super) fn wait_for(&mut self, port: u16) {
        self.port = port;
        self.wait_until(|| ureq::get(format!("http://127.0.0.1:{port}/health")).call().ok());
    }

    /// Waits for what `found` returns, while the process runs.
    pub(super) fn wait_until<T>(&mut self, found: impl Fn() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = found() {
                return found;
            }
            let ended = self.process.try_wait().expect("a process");
            assert!(ended.is_none() && start.elapsed() < Duration::from_secs(60), "no server: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The process that was started.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(super) fn log(&self) -> String {
        let mut text = String::new();
        let _ = File::open(&self.log).and_then(|mut file| file.read_to_string(&mut text));
        text
    }

    pub(super) fn complete(&self, request: &Value) -> Value {
        let url = format!("http://127.0.0.1:{}/completion", self.port);
        let mut response = ureq::post(url).send_json(request).unwrap_or_else(|e| panic!("{e}: {}", self.log()));
        response.body_mut().read_json().expect("JSON")
    }

    /// The distribution after some tokens, as the server's whole chain leaves it at temperature 1.
    pub(super) fn distribution(&self, tokens: &[i64], slot: i64) -> Vec<(i64, f64)> {
        let answer = self.complete(&open_request(tokens, 1, slot));
        last_distribution(&answer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Nothing is truncated, penalised or cut.
fn open_request(tokens: &[i64], n_predict: usize, slot: i64) -> Value {
    json!({
        "prompt": tokens, "n_predict": n_predict, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0,
        "repeat_penalty": 1.0, "seed": 5, "n_probs": 20, "post_sampling_probs": true, "return_tokens": true, "ignore_eos": false,
        "cache_prompt": true, "id_slot": slot, "samplers": ["temperature"],
    })
}

fn last_distribution(answer: &Value) -> Vec<(i64, f64)> {
    let step = answer["completion_probabilities"].as_array().and_then(|steps| steps.last()).expect("probabilities");
    let top = step["top_probs"].as_array().unwrap_or_else(|| panic!("{step}"));
    top.iter().map(|t| (t["id"].as_i64().expect("an id"), t["prob"].as_f64().expect("a number"))).collect()
}

fn tokens_of(answer: &Value) -> Vec<i64> {
    answer["tokens"].as_array().expect("tokens").iter().map(|t| t.as_i64().expect("a token")).collect()
}

/// The demo's configuration, with its models by absolute paths, in a folder of its own.
fn copy_of_the_demo() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let models = base().parent().expect("a folder").display().to_string();
    let text = std::fs::read_to_string(demo()).expect("the demo");
    let text = text.replace("model: ", &format!("model: {models}/")).replace("path: ", &format!("path: {models}/"));
    let file = folder.path().join("prefs.yaml");
    std::fs::write(&file, text).expect("a copy");
    (folder, file)
}

pub(super) const PROMPTS: [&[i64]; 4] =
    [&[1, 300, 310, 320], &[1, 400, 401], &[1, 350, 360, 370, 380, 390], &[1, 500, 510, 333]];

#[test]
#[ignore = "make test-hosts builds the tools"]
fn the_distributions_are_those_of_genarm_generate() {
    for weights in [["cheerful=1", "talkative=0", "plain=0"], ["cheerful=1", "talkative=0.5", "plain=-0.5"]] {
        let options: Vec<_> = weights.iter().flat_map(|weight| ["--weight", weight]).collect();
        let server = Server::start(&demo(), &options, &[]);
        for tokens in PROMPTS {
            let (ours, theirs) = (expected(&demo(), &weights, tokens, 20), server.distribution(tokens, -1));
            let off = difference(&ours, &theirs);
            assert!(theirs.len() == 20 && off < 1e-3, "{weights:?} {tokens:?}: {off}\n{ours:?}\n{theirs:?}");
            let base = expected(&demo(), &["cheerful=0", "talkative=0", "plain=0"], tokens, 20);
            assert!(difference(&base, &theirs) > 1e-2, "the base alone is far off");
        }
    }
}

#[test]
#[ignore = "make test-hosts builds the tools"]
fn four_slots_with_different_prompts_do_not_mix() {
    let server = Server::start(&demo(), &[], &[]);
    let server = &server;
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = |i: usize| scope.spawn(move || server.complete(&open_request(PROMPTS[i], 24, i as i64)));
        let asked: Vec<_> = (0..4).map(ask).collect();
        asked.into_iter().map(|answer| answer.join().expect("an answer")).collect()
    });
    for (prompt, answer) in PROMPTS.iter().zip(&answers) {
        // The last step saw the prompt and all that was drawn before it.
        let mut history = [prompt, &tokens_of(answer)[..]].concat();
        history.pop();
        let (ours, theirs) = (expected(&demo(), &[], &history, 20), last_distribution(answer));
        let off = difference(&ours, &theirs);
        assert!(off < 1e-3, "{prompt:?}: {off}\n{ours:?}\n{theirs:?}");
    }
}

#[test]
#[ignore = "make test-hosts builds the tools"]
fn a_saved_change_of_the_yaml_changes_the_running_server() {
    let (_folder, config) = copy_of_the_demo();
    let server = Server::start(&config, &[], &[("GENARM_LOG", "genarm=info")]);
    let tokens = PROMPTS[0];
    let near =
        |weight: &str| difference(&expected(&config, &[weight], tokens, 20), &server.distribution(tokens, -1)) < 1e-3;
    let until = |weight: &str| {
        let patience = Instant::now();
        while !near(weight) {
            assert!(patience.elapsed() < Duration::from_secs(20), "{weight} was not taken up: {}", server.log());
        }
    };
    until("cheerful=1");
    let mut weights = Command::new(env!("CARGO_BIN_EXE_genarm"));
    output(weights.arg("weights").arg("--config").arg(&config).args(["set", "cheerful=-0.5"]));
    until("cheerful=-0.5");
    let before = std::fs::read_to_string(&config).expect("the configuration");
    std::fs::write(&config, before.replace("weight:", "wieght:")).expect("a wrong one");
    let patience = Instant::now();
    while !server.log().contains("the changed configuration has a mistake and is not used") {
        assert!(patience.elapsed() < Duration::from_secs(20), "no word of the wrong file: {}", server.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(server.log().contains("did you mean \"weight\""), "{}", server.log());
    std::fs::write(&config, before.replace("-0.5", "0.25")).expect("a right one");
    until("cheerful=0.25");
}

#[test]
#[ignore = "make test-hosts builds the tools"]
fn a_second_turn_reads_only_its_new_tokens_in_the_arm() {
    let server = Server::start(&demo(), &[], &[("GENARM_LOG", "genarm=debug")]);
    let history: Vec<i64> = (0..100).map(|i| 300 + i * 7 % 200).collect();
    let read = |turn: usize| {
        let log = server.log();
        let counts = log.lines().filter_map(|line| line.split("n_decoded=").nth(1)?.trim().parse::<u64>().ok());
        counts.collect::<Vec<_>>().get(turn).copied()
    };
    // A chain is freed when its slot gets the next: then it says what the ARMs have read so far.
    let first = server.complete(&open_request(&history, 8, 0));
    let second: Vec<i64> = [&history[..], &tokens_of(&first), &[300, 310, 320]].concat();
    let answer = server.complete(&open_request(&second, 8, 0));
    server.complete(&open_request(&[300], 1, 0));
    let (after_first, after_second) = (read(0).expect("a count"), read(1).expect("a count"));
    // The first of n tokens is drawn after the prompt, and the last is never read.
    assert_eq!(after_first, 100 + tokens_of(&first).len() as u64 - 1);
    assert_eq!(after_second - after_first, 1 + 3 + tokens_of(&answer).len() as u64 - 1);
}
