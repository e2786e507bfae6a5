//! Everything that has ARMs has translated ones.

use serde_json::{Value, json};

use super::{PROMPT, base, kind};
use crate::server::Serve;
use crate::server::doors::{Door, TEXT};
use crate::support::binary::{fed, genarm, json, model, stdout};

const RESPONSE: &str = " She was very happy and they played together";

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn the_rewards_of_a_text_add_up_to_what_the_arm_gives_it_itself() {
    let (base, given, own) = (base(), kind("1"), crate::support::models().arms[0].display().to_string());
    let score = |base: &str, more: &[&str]| {
        json(
            &[&["score", "--base", base, "--arm", &given], more, &["--json", "-t", "1", "--", PROMPT, RESPONSE]]
                .concat(),
        )
    };
    let translated = score(&base, &["--translate", "kind"]);
    let itself = score(&own, &[]);
    let total = |out: &Value| number(&out["responses"][0]["totals"]["arms"][0]);
    let n = |out: &Value| out["responses"][0]["tokens"].as_array().expect("tokens").len();
    assert_ne!(n(&translated), n(&itself), "they have other tokens");
    assert!((total(&translated) - total(&itself)).abs() < 0.05, "{} {}", total(&translated), total(&itself));
}

#[test]
fn a_chat_takes_back_and_tries_again_as_if_it_had_not_been_there() {
    let (base, given) = (base(), kind("1"));
    let args = ["chat", "--base", &base, "--arm", &given, "--translate", "kind", "--chat-template", "raw"];
    let args = [&args[..], &["--temp", "0", "-n", "12", "--ignore-eos", "-t", "1"]].concat();
    let talk = |input: &str| {
        let output = fed(&mut genarm(&args), input);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let (first, second) = ("Tom had a ball.\n", "Lily saw a dog.\n");
    let fresh = talk(&[first, second].concat());
    let undone = talk(&[first, "They ran home.\n/undo\n", second].concat());
    let answer = |text: &str| text.lines().last().map(str::to_owned).expect("an answer");
    assert_eq!(answer(&undone), answer(&fresh));
    let again = talk(&[first, second, "/retry\n"].concat());
    assert!(again.trim_end().ends_with(&answer(&fresh)), "{again}");
}

#[test]
fn a_saved_chat_goes_on_as_if_it_had_not_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("talk.json").display().to_string();
    let (base, given) = (base(), kind("1"));
    let args = ["chat", "--base", &base, "--arm", &given, "--translate", "kind", "--chat-template", "raw"];
    let args = [&args[..], &["--temp", "0", "-n", "12", "--ignore-eos", "-t", "1"]].concat();
    let talk = |more: &[&str], input: &str| {
        let output = fed(&mut genarm(&[&args[..], more].concat()), input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("warning"), "{said}");
        (String::from_utf8(output.stdout).expect("UTF-8"), said)
    };
    let messages = ["Tom had a ball.\n", "Lily saw a dog.\n"];
    let (expected, _) = talk(&[], &messages.concat());
    let (first, _) = talk(&["--session", &file], messages[0]);
    let (second, said) = talk(&["--session", &file], messages[1]);
    assert_eq!(first + &second, expected);
    assert!(said.contains("tokens in memory"), "{said}");
}

#[test]
fn texts_beside_each_other_in_a_server_are_those_of_one_alone() {
    let (base, given) = (base(), kind("1"));
    let start = |parallel: &str| {
        Serve::start(&["--base", &base, "--arm", &given, "--translate", "kind", "--parallel", parallel, "-t", "1"])
    };
    let ask = |server: &Serve, prompt: &str| {
        let body = json!({"prompt": prompt, "max_tokens": 16, "temperature": 0});
        Door { path: TEXT, stream: false }.ask(server, &body).text
    };
    let prompts = [PROMPT, "Tom had a ball.", "One day, a girl named Sue went to the"];
    let alone = start("1");
    let expected: Vec<_> = prompts.iter().map(|prompt| ask(&alone, prompt)).collect();
    let server = start("3");
    let found: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = prompts.iter().map(|prompt| scope.spawn(|| ask(&server, prompt))).collect();
        asked.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    assert_eq!(found, expected);
    let body = json!({"prompt": PROMPT, "max_tokens": 4, "temperature": 0, "return_rewards": true});
    for reward in (Door { path: TEXT, stream: false }).ask(&server, &body).rewards {
        assert!(number(&reward["arms"]["kind"]) < 0.0, "{reward}");
    }
}

#[test]
fn a_sweep_and_a_comparison_have_translated_arms() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("sweep.jsonl").display().to_string();
    let (base, given, prompts) = (base(), kind("1"), model("prompts.jsonl"));
    let of = |command: &'static str| {
        let args = [command, "--base", &base, "--arm", &given, "--translate", "kind", "--prompts", &prompts];
        args.map(str::to_owned).to_vec()
    };
    let more = ["--n-prompts", "4", "-n", "16", "--temp", "1", "-t", "1", "--scorer", "cheerful", "--json"];
    let run = |mut args: Vec<String>, own: &[&str]| {
        args.extend(more.iter().chain(own).map(ToString::to_string));
        json(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let swept = run(of("sweep"), &["--grid", "kind=0,1", "--out", &out]);
    let kl: Vec<_> = swept["points"].as_array().expect("points").iter().map(|p| number(&p["kl"]["mean"])).collect();
    assert!(kl[0] == 0.0 && kl[1] > 0.1, "{kl:?}");
}

#[test]
fn a_draft_changes_no_greedy_text_and_the_arm_itself_does_not_draft() {
    let (base, given) = (base(), kind("1"));
    let prompt = "Tom had a red ball. Tom had a red";
    let text = |drafter: &str| {
        let args = ["generate", "--base", &base, "--arm", &given, "--translate", "kind", "--speculate", drafter];
        stdout(&[&args[..], &["--temp", "0", "-n", "40", "-t", "1", prompt]].concat())
    };
    let plain = text("off");
    for drafter in ["lookup", "base", &format!("draft:{}", model("small.gguf"))] {
        assert_eq!(text(drafter), plain, "{drafter}");
    }
    let args = ["generate", "--base", &base, "--arm", &given, "--translate", "kind", "--speculate", "arm"];
    let output =
        genarm(&[&args[..], &["--temp", "0", "-n", "40", "-t", "1", prompt]].concat()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("ARM \"kind\" has another vocabulary than the base, so it cannot draft"), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), plain);
}

#[test]
fn pairs_are_ranked_by_the_arms_own_reading_of_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let pairs = folder.path().join("pairs.jsonl");
    let line = json!({"prompt": PROMPT, "chosen": " She was happy.", "rejected": " She was sad and cried."});
    std::fs::write(&pairs, format!("{line}\n")).expect("written");
    let pairs = pairs.display().to_string();
    let (own, given) = (crate::support::models().arms[0].display().to_string(), kind("1"));
    let log_probs = |base: &str, more: &[&str]| {
        let out = folder.path().join("out.jsonl").display().to_string();
        let args = ["accuracy", "--base", base, "--arm", &given, "--pairs", &pairs, "--out", &out, "-t", "1"];
        stdout(&[&args[..], more].concat());
        let text = std::fs::read_to_string(&out).expect("results");
        let last: Value = serde_json::from_str(text.lines().last().expect("the ARM's")).expect("JSON");
        assert_eq!(last["model"], "kind");
        [&last["score"]["chosen"], &last["score"]["rejected"]].map(number)
    };
    let (translated, itself) = (log_probs(&base(), &["--translate", "kind"]), log_probs(&own, &[]));
    for (translated, itself) in translated.iter().zip(itself) {
        assert!((translated - itself).abs() < 1e-3, "{translated} {itself}");
    }
}

#[test]
fn a_benchmark_times_a_translated_arm() {
    let (base, given) = (base(), kind("1"));
    let args = ["bench", "--base", &base, "--arm", &given, "--translate", "kind", "--n-gen", "8", "--n-prompt", "8"];
    let out = json(&[&args[..], &["--repeats", "1", "-t", "1", "-c", "256", "--json"]].concat());
    assert!(number(&out["seconds_per_token"]["guided"]) > 0.0, "{out}");
}
