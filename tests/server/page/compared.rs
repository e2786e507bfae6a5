//! Personas, two sets of weights, pairs of answers, and links.

use serde_json::{Value, json};

use super::{IDLE, answered, click, driver, js, open, screenshot, set, until};
use crate::server::stream::runtime;
use crate::server::{PROMPT, Serve};

#[test]
fn a_persona_is_typed_in_and_steers_like_an_arm() {
    let Some(driver) = driver() else { return };
    let server = Serve::demo(&[]);
    runtime().block_on(async {
        let page = open(&driver, &server, (1280, 860), false).await;
        js(&page, "document.querySelector('#persona-details summary').click()").await;
        set(&page, "#persona-name", "pirate").await;
        set(&page, "#persona-system", "You are a \"pirate\".").await;
        click(&page, "Add").await;
        until(&page, "document.querySelector('[data-arm=pirate]')").await;
        set(&page, "[data-arm=pirate]", "0.5").await;
        answered(&page, 5, 12).await;
        let answer = js(&page, "const a = state.turns.at(-1).guided; return [a.meta.weights.pirate, Object.keys(a.tokens[0].arms).length, a.error]").await;
        assert_eq!(answer, json!([0.5, 4, null]));
        let yaml = js(&page, "return profile()").await;
        let yaml = yaml.as_str().expect("a text");
        assert!(yaml.starts_with("arms:\n  \"pirate\": {system: \"You are a \\\"pirate\\\".\", weight: 0}\nprofiles:\n"), "{yaml}");

        // It comes back with the conversation, and goes when it is removed.
        page.refresh().await.expect("a reload");
        until(&page, "document.querySelector('[data-arm=pirate]')").await;
        assert_eq!(js(&page, "return weights().pirate").await, json!(0.5));
        click(&page, "Remove").await;
        assert_eq!(js(&page, "return 'pirate' in weights()").await, json!(false));
        page.close().await.expect("closed");
    });
}

#[test]
fn two_sets_of_weights_answer_side_by_side_and_the_better_answer_is_kept_as_a_pair() {
    let Some(driver) = driver() else { return };
    let server = Serve::demo(&["--parallel", "2"]);
    runtime().block_on(async {
        let page = open(&driver, &server, (1280, 860), false).await;
        set(&page, "#compare", "second").await;
        set(&page, "[data-arm=cheerful]", "1.5").await;
        js(&page, "document.getElementById('set-b').click()").await;
        set(&page, "[data-arm=cheerful]", "-0.75").await;
        answered(&page, 7, 30).await;
        let used = js(&page, "const t = state.turns.at(-1); return [t.guided.meta.weights.cheerful, t.base.meta.weights.cheerful, t.guided.meta.seed === t.base.meta.seed]").await;
        assert_eq!(used, json!([1.5, -0.75, true]));
        let titles = js(&page, "return [...document.querySelectorAll('.answer h3 b')].map(b => b.textContent)").await;
        assert_eq!(titles, json!(["A", "B"]));
        screenshot(&page, "page-two-sets.png").await;

        // The better one stays, the other is kept beside it, and both are a pair that `genarm train` reads.
        let texts = js(&page, "const t = state.turns.at(-1); return [t.guided.text, t.base.text]").await;
        js(&page, "document.querySelector('.answer.second .prefer').click()").await;
        let pair: Value = {
            let text = js(&page, "return pairsText()").await;
            serde_json::from_str(text.as_str().expect("a text").trim()).expect("a line of JSON")
        };
        assert_eq!((&pair["chosen"][0]["content"], &pair["rejected"][0]["content"]), (&texts[1], &texts[0]));
        assert_eq!((&pair["prompt"][0]["content"], &pair["chosen_weights"]["cheerful"]), (&json!(PROMPT), &json!(-0.75)));
        assert_eq!(js(&page, "const t = state.turns.at(-1); return [t.guided.text, t.base === undefined, t.others.length]").await, json!([texts[1], true, 1]));
        assert_eq!(js(&page, "return document.getElementById('export-pairs').textContent").await, "1 preference pair (JSONL)");
        page.close().await.expect("closed");

        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pairs.jsonl");
        std::fs::write(&file, pair.to_string() + "\n").expect("written");
        let base = crate::server::root().join("models/base.gguf").display().to_string();
        let mut train = std::process::Command::new(env!("CARGO_BIN_EXE_genarm"));
        train.args(["train", "--dry-run", "--backbone", &base, "--template", "chatml"]);
        train.arg("--pairs").arg(&file).arg("--out").arg(folder.path().join("arm.gguf"));
        let trained = train.output().expect("it runs");
        assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    });
}

#[test]
fn a_link_writes_the_same_text_again_changes_of_its_weights_included() {
    let Some(driver) = driver() else { return };
    let server = Serve::demo(&["--parallel", "2"]);
    runtime().block_on(async {
        let page = open(&driver, &server, (1280, 860), false).await;
        set(&page, "#system", "Be kind.").await;
        set(&page, "[data-arm=cheerful]", "0.5").await;
        answered(&page, 21, 60).await;
        // As if a slider had been moved at the twentieth token: the server's own log says it.
        let log = json!([{"token": 0, "weights": {"cheerful": 0.5}}, {"token": 20, "weights": {"cheerful": -1.0}}]);
        js(&page, &format!("const m = state.turns[0].user; state.turns = []; state.replay = {{log: {log}, message: m, weights: JSON.stringify(weights())}}; send(m)")).await;
        until(&page, IDLE).await;
        let text = js(&page, "return state.turns.at(-1).guided.text").await;
        let changed = js(&page, "return state.turns.at(-1).guided.changes.map(c => c.at)").await;
        assert_eq!(changed, json!([20]));
        let link = js(&page, "return linkOf(state.turns.at(-1).guided, 1)").await;
        let link = link.as_str().expect("a link").to_owned();
        page.close().await.expect("closed");

        // In another browser that knows nothing of it.
        let page = super::browser(&driver, 1000, 800, false).await;
        page.goto(&link).await.expect("the page");
        until(&page, "document.getElementById('message').value && document.querySelectorAll('.slider').length === 3").await;
        let there = js(&page, "return [document.getElementById('system').value, document.getElementById('seed').value, location.hash, weights().cheerful, state.turns.length]").await;
        assert_eq!(there, json!(["Be kind.", "21", "", 0.5, 0]));
        js(&page, "document.getElementById('composer').requestSubmit()").await;
        until(&page, IDLE).await;
        assert_eq!(js(&page, "return state.turns.at(-1).guided.text").await, text);
        let links = "return ['#', '#x', '#' + toBase64('{}'), '#' + toBase64('[1]'), '#' + toBase64(JSON.stringify({v: 1, turns: []}))].map(linked)";
        assert_eq!(js(&page, links).await, json!([null, null, null, null, null]));
        page.close().await.expect("closed");
    });
}
