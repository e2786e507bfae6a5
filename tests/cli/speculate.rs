//! Speculation and the gate, through the binary.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{demo, genarm, json, model, stdout};

const PROMPT: &str = "Once upon a time, there was a little girl named Lily.";

#[test]
#[cfg(unix)]
fn ctrl_c_in_the_middle_of_a_draft_leaves_a_beginning_of_the_text() {
    // A drafter that is dearer than the base, and long drafts: nearly all the time goes into drafting.
    let (base, arm) = (model("small.gguf"), format!("talkative={}:0.3", model("arm-talkative.gguf")));
    let speculate = format!("draft:{}", model("base.gguf"));
    let args =
        ["generate", "--base", &base, "--arm", &arm, "--speculate", &speculate, "--draft-max", "15", "--temp", "0"];
    let args = [&args[..], &["--ignore-eos", "-n", "160", PROMPT]].concat();
    let whole = stdout(&args);
    let mut cut = 0;
    for wait in [0, 15, 40, 70, 110, 160] {
        let mut child = genarm(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let mut out = child.stdout.take().expect("a pipe");
        let mut text = vec![0; 8];
        out.read_exact(&mut text).expect("it has begun to write");
        std::thread::sleep(Duration::from_millis(wait));
        let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
        out.read_to_end(&mut text).expect("the rest");
        let output = child.wait_with_output().expect("a status");
        let (text, message) = (String::from_utf8_lossy(&text), String::from_utf8_lossy(&output.stderr).into_owned());
        if output.status.success() || !sent.success() {
            assert_eq!(text, whole, "it had ended by then");
            continue;
        }
        assert_eq!(
            (output.status.code(), message.as_str()),
            (Some(130), ""),
            "the text is the answer, with nothing besides"
        );
        assert!(whole.starts_with(text.trim_end_matches(['\n', '\u{FFFD}'])), "{text:?} of {whole:?}");
        cut += 1;
    }
    assert!(cut > 0, "every run had ended before Ctrl-C came");
}

#[test]
fn bench_says_what_the_gate_costs_beside_its_speed() {
    let folder = tempfile::tempdir().expect("a folder");
    let bench = |gate: &str| {
        let config = folder.path().join("c.yaml");
        let (base, arm) = (model("small.gguf"), model("arm-talkative.gguf"));
        let yaml = format!(
            "base: {{model: {base}}}\narms: {{talkative: {{model: {arm}, weight: 0.7}}}}\nguidance: {{gate: {{{gate}}}}}\n"
        );
        std::fs::write(&config, yaml).expect("written");
        let config = config.display().to_string();
        let out = json(&["bench", "-f", &config, "--n-gen", "40", "--repeats", "1", "-t", "1", "-c", "256", "--json"]);
        let rows = out["rows"].as_array().expect("rows").clone();
        let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect();
        assert_eq!(names, ["base alone", "plain", "gated (approximate)"]);
        assert!(rows[..2].iter().all(|row| row.get("gate").is_none()), "only the gate is approximate");
        let of = |key: &str| rows[2]["gate"][key].as_f64().expect("a number");
        (of("gated"), of("kl"), of("flipped"))
    };
    assert_eq!(bench("entropy: 0.00001"), (0.0, 0.0, 0.0), "nothing is left to the base, so nothing is lost");
    let (gated, kl, _) = bench("top_p: 0.3");
    let (more, worse, _) = bench("top_p: 0.0");
    assert!(0.05 < gated && gated < 0.95 && kl > 0.0, "{gated} {kl}");
    assert_eq!(more, 1.0, "everything is left to the base");
    assert!(worse > kl, "{worse} {kl}");
}

#[test]
fn bench_compares_both_ways_to_batch_and_every_drafter() {
    let config = demo();
    let drafters =
        ["--drafters", "off,lookup,auto", "--n-gen", "16", "--repeats", "1", "-t", "1", "-c", "256", "--json"];
    let out = json(&[&["bench", "-f", &config], &drafters[..]].concat());
    let rows = out["rows"].as_array().expect("rows");
    let mut names: Vec<_> = rows.iter().map(|row| row["name"].as_str().expect("a name")).collect();
    names[1..3].sort_unstable();
    assert_eq!(names, ["base alone", "plain, separate contexts", "plain, shared batch", "lookup", "auto"]);
    assert!(rows.iter().all(|row| row["tokens_per_second"].as_f64() > Some(0.0)));
    assert!(rows[4]["ceiling"].as_f64() >= rows[1]["tokens_per_second"].as_f64());
}
