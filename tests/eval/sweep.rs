use std::time::{Duration, Instant};

use super::{demo, failure, file, genarm, json, stdout};

fn args<'a>(out: &'a str, config: &'a str, prompts: &'a str) -> Vec<&'a str> {
    let mut args = vec!["sweep", "-f", config, "--prompts", prompts, "--n-prompts", "6", "-n", "16", "--temp", "1"];
    args.extend(["--grid", "cheerful=0:1:0.5", "--grid", "talkative=0,0.5", "--scorer", "cheerful"]);
    args.extend(["--scorer", "talkative", "--best-of", "4", "--parallel", "8", "--out", out]);
    args
}

#[test]
fn a_sweep_that_was_killed_goes_on_and_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (whole, cut, config, prompts) =
        (path("whole.jsonl"), path("cut.jsonl"), demo("demo.yaml"), demo("prompts.jsonl"));
    stdout(&args(&whole, &config, &prompts));
    let mut child = genarm(&args(&cut, &config, &prompts)).spawn().expect("the binary runs");
    let n_lines = || std::fs::read_to_string(&cut).map_or(0, |text| text.lines().count());
    let start = Instant::now();
    // A line of particulars, and at least one unit.
    while n_lines() < 17 {
        assert!(start.elapsed() < Duration::from_secs(120), "no unit after two minutes");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("SIGKILL");
    child.wait().expect("a status");
    let whole_text = std::fs::read_to_string(&whole).expect("results");
    assert!(n_lines() < whole_text.lines().count(), "the sweep must have been killed before its end");
    stdout(&args(&cut, &config, &prompts));
    assert!(whole_text == std::fs::read_to_string(&cut).expect("results"));
    // Other work is not mixed in.
    let (talk, _) = failure(&[&args(&cut, &config, &prompts)[..], &["--seed", "7"]].concat());
    assert!(talk.contains("results of other work"), "{talk}");
}

#[test]
fn a_sweep_knows_its_front_draws_it_and_writes_the_recommended_profile() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (out, stem, prompts) = (path("sweep.jsonl"), path("plot"), demo("prompts.jsonl"));
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let text = std::fs::read_to_string(models.join("demo.yaml")).expect("the demo");
    let absolute = |name: &str| models.join(name).display().to_string();
    let text = ["base.gguf", "small.gguf", "arm-cheerful.gguf", "arm-plain.gguf", "arm-talkative.gguf"]
        .iter()
        .fold(text, |text, name| text.replace(&format!(": {name}"), &format!(": {}", absolute(name))));
    let config = file(&folder, "demo.yaml", &text);
    let more = ["--json", "--plot", &stem, "--write-profile", "balanced"];
    let result = json(&[&args(&out, &config, &prompts)[..], &more].concat());
    let points = result["points"].as_array().expect("points");
    // 3 × 2 of the grid, the profiles, and the best of 4 by each ARM and by both.
    let n_profiles = 6;
    assert_eq!(points.len(), 6 + n_profiles + 3);
    let base = &points[0];
    assert_eq!((base["kl"]["mean"].as_f64(), base["flipped"].as_f64()), (Some(0.0), Some(0.0)));
    let kl = |i: usize| points[i]["kl"]["mean"].as_f64().expect("a number");
    assert!(kl(2) > 1.0 && kl(4) > kl(2), "more weight, more divergence");
    assert!((kl(points.len() - 1) - (4f64.ln() - 0.75)).abs() < 1e-9);
    let best = result["front"]["recommended"].as_u64().expect("a point") as usize;
    assert!(result["front"]["points"].as_array().expect("a front").iter().any(|p| p.as_u64() == Some(best as u64)));
    assert!(result["front"]["hypervolume"].as_f64() > Some(0.0) && result["front"]["mean_inner_product"].is_f64());
    for name in ["plot-front.svg", "plot-front.png", "plot-kl.svg", "plot-kl.png"] {
        assert!(folder.path().join(name).metadata().expect(name).len() > 1000);
    }
    let text = std::fs::read_to_string(&config).expect("the configuration");
    assert!(text.contains("\"balanced\": {\"cheerful\": ") && text.contains("# The demo: a story teller"), "{text}");
    stdout(&["generate", "-f", &config, "--profile", "balanced", "-n", "2", "Tom"]);
    let particulars: serde_json::Value =
        serde_json::from_str(std::fs::read_to_string(&out).expect("results").lines().next().expect("a line"))
            .expect("JSON");
    for key in ["genarm", "config", "models", "seed", "prompts", "points"] {
        assert!(!particulars[key].is_null(), "{key}");
    }
    assert!(
        particulars["models"].as_object().expect("hashes").values().all(|h| h.as_str().is_some_and(|h| h.len() == 64))
    );
}

#[test]
fn external_commands_score_and_their_failures_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("s.jsonl").display().to_string();
    let (config, prompts) = (demo("demo.yaml"), demo("prompts.jsonl"));
    let mut args =
        vec!["sweep", "-f", &config, "--prompts", &prompts, "--n-prompts", "2", "-n", "4", "--grid", "cheerful=0,1"];
    args.extend(["--no-profiles", "--json", "--out", &out]);
    let good = [&args[..], &["--scorer", "size=cmd:while IFS= read -r line; do echo ${#line}; done"]].concat();
    let sizes = json(&good);
    assert!(sizes["points"][0]["rewards"]["size"]["mean"].as_f64() > Some(20.0));
    std::fs::remove_file(&out).expect("the results");
    let (talk, code) = failure(&[&args[..], &["--scorer", "size=cmd:echo 1"]].concat());
    assert!(code == Some(1) && talk.contains("1 lines for 4 texts"), "{talk}");
    for (wrong, part) in [
        (["--grid", "cheerfull=0,1"], "did you mean \"cheerful\""),
        (["--scorer", "chearful"], "did you mean \"cheerful\""),
        (["--objectives", "arm:nice"], "no reward \"arm:nice\""),
    ] {
        let (talk, code) = failure(&[&args[..], &wrong].concat());
        assert!(code == Some(2) && talk.contains(part), "{talk}");
    }
}
