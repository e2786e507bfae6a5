//! Duels: ten clicks, and what they leave.

use fantoccini::Locator;
use serde_json::{Value, json};

use super::{click, driver, js, open, screenshot, set, until};
use crate::server::Serve;
use crate::server::stream::runtime;

/// Two answers are there to choose from.
const READY: &str = "duel.shown && !document.getElementById('duel-better-a').disabled";

#[test]
fn ten_clicks_give_weights_that_the_sliders_take_and_pairs_that_training_reads() {
    let Some(driver) = driver() else { return };
    let server = Serve::demo(&["--parallel", "4"]);
    runtime().block_on(async {
        let page = open(&driver, &server, (1280, 900), false).await;
        set(&page, "#seed", "5").await;
        set(&page, "#max", "24").await;
        click(&page, "Duel: learn the weights").await;
        set(&page, "#duel-prompts", "Once upon a time\n\nTom had a red ball.").await;
        click(&page, "Begin").await;
        until(&page, READY).await;
        let mut shown = Vec::new();
        for n in 0..10 {
            let texts = js(&page, "return [document.getElementById('duel-a').innerText, document.getElementById('duel-b').innerText]").await;
            assert_ne!(texts[0], texts[1], "two answers");
            let prompt = js(&page, "return document.getElementById('duel-prompt').textContent").await;
            assert_eq!(prompt, json!(["Once upon a time", "Tom had a red ball."][n % 2]));
            shown.push(texts);
            // As a hand does it, which moves the focus, too.
            let button = ["duel-better-a", "duel-better-b", "duel-alike"][n % 3];
            page.find(Locator::Id(button)).await.expect("a button").click().await.expect("clicked");
            until(&page, &format!("duel.choices.length === {} && {READY}", n + 1)).await;
        }
        screenshot(&page, "page-duel.png").await;
        let focused = js(&page, "return document.activeElement.id").await;
        assert_eq!(focused, "duel-answers", "the button that was pressed was disabled, and the focus stays in the dialog");
        let html = js(&page, "return document.getElementById('duel-answers').innerText").await;
        assert!(html.as_str().is_some_and(|html| !html.contains("cheerful")), "the weights of an answer are not shown: {html}");
        let known = "return [...document.querySelectorAll('#duel-estimate li')].map(li => li.textContent)";
        let estimate = js(&page, known).await;
        assert!(estimate.as_array().is_some_and(|list| list.len() == 3), "{estimate}");
        assert!(estimate[0].as_str().is_some_and(|text| text.starts_with("cheerful ") && text.contains(" ± ")), "{estimate}");

        // What was chosen is what was clicked on.
        let kept = js(&page, "return duel.choices").await;
        for (n, choice) in kept.as_array().expect("choices").iter().enumerate() {
            let text = |key: &str| choice[key][0]["content"].as_str().expect("a text").trim().to_owned();
            let [first, second] = [0, 1].map(|i| shown[n][i].as_str().expect("a text").to_owned());
            let expected = [[&first, &second], [&second, &first], [&first, &first]][n % 3];
            assert_eq!([&text("chosen"), &text("rejected")], expected, "choice {n}");
            assert_eq!(choice["tie"], if n % 3 == 2 { json!(true) } else { Value::Null });
        }

        // Undo asks the last one again, and the same choice gives the same weights.
        page.find(Locator::Id("duel-undo")).await.expect("a button").click().await.expect("clicked");
        until(&page, &format!("duel.choices.length === 9 && {READY}")).await;
        let again = js(&page, "return [document.getElementById('duel-a').innerText, document.getElementById('duel-b').innerText]").await;
        assert_eq!(again, shown[9]);
        page.active_element().await.expect("an element").send_keys("1").await.expect("a key");
        until(&page, &format!("duel.choices.length === 10 && {READY}")).await;
        assert_eq!(js(&page, known).await, estimate);

        // The sliders take the weights, whose sizes add up to what they did before.
        let before = js(&page, "return Object.values(weights()).reduce((sum, w) => sum + Math.abs(w), 0)").await;
        click(&page, "Use these weights").await;
        let used = js(&page, "return [weights(), duel.estimate.weights]").await;
        assert_eq!(used[0], used[1]);
        let after = js(&page, "return Object.values(weights()).reduce((sum, w) => sum + Math.abs(w), 0)").await;
        assert!((after.as_f64().expect("a sum") - before.as_f64().expect("a sum")).abs() < 0.01, "{before} {after}");

        // They outlive the page.
        click(&page, "Close").await;
        page.refresh().await.expect("a reload");
        until(&page, "document.querySelectorAll('.slider input[type=range]').length === 3").await;
        click(&page, "Duel: learn the weights").await;
        until(&page, "document.querySelectorAll('#duel-estimate li').length === 3").await;
        let jsonl = js(&page, "window.saved = null; save = (name, kind, text) => { window.saved = text }; document.getElementById('duel-save').click(); return window.saved").await;
        let jsonl = jsonl.as_str().expect("a file").to_owned();
        assert_eq!(jsonl.lines().count(), 10);
        click(&page, "Forget the choices").await;
        assert_eq!(js(&page, "return [duel.choices.length, document.querySelectorAll('#duel-estimate li').length]").await, json!([0, 0]));
        page.close().await.expect("closed");

        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("choices.jsonl");
        std::fs::write(&file, jsonl).expect("written");
        let base = crate::server::root().join("models/base.gguf").display().to_string();
        let mut train = std::process::Command::new(env!("CARGO_BIN_EXE_genarm"));
        train.args(["train", "--dry-run", "--backbone", &base, "--template", "chatml"]);
        train.arg("--pairs").arg(&file).arg("--out").arg(folder.path().join("arm.gguf"));
        let trained = train.output().expect("it runs");
        assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    });
}
