//! The program's commands.

use super::Folder;
use crate::support::binary::{failure, json, stdout};

#[test]
fn inspect_shows_objectives_ranks_and_range() {
    let folder = Folder::new();
    let file = folder.path("parm.gguf").display().to_string();
    let text = stdout(&["inspect", &file]);
    for line in [
        "objectives     helpful, harmless",
        "preferences    0 to 1 each",
        "ranks          3 always, 4 for helpful, 4 for harmless",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let parm = &json(&["inspect", "--json", &file])[0]["parm"];
    assert_eq!(
        *parm,
        serde_json::json!({"objectives": ["helpful", "harmless"], "ranks": [3, 4, 4], "range": [0.0, 1.0]})
    );
}

#[test]
fn preferences_are_set_on_the_command_line_and_in_the_file() {
    let folder = Folder::new();
    let config = folder.write("taste: {lora: parm.gguf, weight: 2}", "").display().to_string();
    assert_eq!(stdout(&["weights", &config]), "taste=2\ntaste.helpful=0.5\ntaste.harmless=0.5\n");
    let generate = |more: &[&str]| {
        let args =
            ["generate", "--config", &config, "-p", "Once upon a time", "-n", "20", "--temp", "0", "--seed", "1"];
        stdout(&[&args[..], more].concat())
    };
    let harmless = generate(&["-w", "taste.helpful=0", "-w", "taste.harmless=1"]);
    assert_ne!(harmless, generate(&[]));
    stdout(&["weights", "set", "--config", &config, "taste.helpful=0", "taste.harmless=1"]);
    assert_eq!(generate(&[]), harmless);
    let (error, _) = failure(&["generate", "--config", &config, "-p", "x", "-w", "taste.harmless=2"]);
    assert!(error.contains("--weight taste.harmless: must be between 0 and 1, got 2"), "{error}");
}

#[test]
fn a_sweep_goes_over_preferences_under_the_weight_that_the_arm_has() {
    let folder = Folder::new();
    let config = folder.write("taste: {lora: parm.gguf, weight: 2}", "").display().to_string();
    let prompts = folder.path("prompts.txt");
    std::fs::write(&prompts, "Once upon a time\n").expect("written");
    let (prompts, out) = (prompts.display().to_string(), folder.path("sweep.jsonl").display().to_string());
    let args = ["sweep", "--config", &config, "--prompts", &prompts, "--out", &out, "-n", "8", "--json"];
    let grid = ["--grid", "taste.helpful=0:1:0.5", "--grid", "taste.harmless=1"];
    let swept = json(&[&args[..], &grid].concat());
    let numbers = |point: &serde_json::Value| (point["weights"].clone(), point["preferences"].clone());
    let points: Vec<_> = swept["points"].as_array().expect("points").iter().map(numbers).collect();
    let expected = [([0.0], [0.5, 0.5]), ([2.0], [0.0, 1.0]), ([2.0], [0.5, 1.0]), ([2.0], [1.0, 1.0])];
    let expected: Vec<_> = expected.iter().map(|(w, p)| (serde_json::json!(w), serde_json::json!(p))).collect();
    assert_eq!(points, expected);
    let (error, _) = failure(&[&args[..], &["--grid", "taste.helpful=0:2:1"]].concat());
    assert!(error.contains("taste.helpful must be between 0 and 1, got 2"), "{error}");
}
