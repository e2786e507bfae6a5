//! The page for everyone: axe-core, fingers, screen readers.

use serde_json::{Value, json};

use super::{answered, driver, js, open, set, until};
use crate::server::stream::runtime;
use crate::server::{Serve, root};
use crate::support::tool;

/// What axe-core finds serious or critical.
async fn faults(page: &fantoccini::Client, axe: &str) -> Vec<String> {
    js(page, axe).await;
    let run = "const done = arguments[arguments.length - 1]; axe.run(document, {resultTypes: ['violations']}).then(found => done(found.violations), error => done(String(error)))";
    let found = page.execute_async(run, Vec::new()).await.expect("axe runs");
    let one = |fault: &Value| format!("{} ({}): {}", fault["id"], fault["impact"], fault["nodes"][0]["failureSummary"]);
    let list = found.as_array().unwrap_or_else(|| panic!("{found}"));
    list.iter()
        .filter(|fault| ["serious", "critical"].contains(&fault["impact"].as_str().unwrap_or_default()))
        .map(one)
        .collect()
}

/// Opens a duel and asks for two answers.
const DUEL: &str = "document.getElementById('duel-open').click(); document.getElementById('duel-next').click()";

#[test]
fn axe_finds_nothing_serious_in_either_theme_and_on_a_phone() {
    let Some(driver) = driver() else { return };
    let Some(axe) = tool(&root().join("target/test-tools/node_modules/axe-core/axe.min.js"), "node") else { return };
    let axe = std::fs::read_to_string(axe).expect("axe");
    let server = Serve::demo(&["--parallel", "2"]);
    runtime().block_on(async {
        for (size, dark) in [((1280, 900), false), ((1280, 900), true), ((500, 860), false), ((500, 860), true)] {
            let page = open(&driver, &server, size, dark).await;
            assert_eq!(faults(&page, &axe).await, Vec::<String>::new(), "{size:?} dark {dark}, empty");
            set(&page, "#compare", "second").await;
            answered(&page, 11, 40).await;
            let markdown = "const a = state.turns.at(-1).guided; const more = '\\n\\n## T\\n\\n`x` [a](https://example.org)\\n\\n> q\\n\\n```\\ny\\n```\\n\\n|a|\\n|-|\\n|b|'; \
                a.text += more; a.tokens.push({...a.tokens[0], text: more}); showTalk(); document.querySelectorAll('.rewards summary').forEach(s => s.click()); \
                document.getElementById('panel').classList.add('open'); document.getElementById('persona-details').open = true";
            js(&page, markdown).await;
            until(&page, "document.querySelector('.rewards tbody')").await;
            assert_eq!(faults(&page, &axe).await, Vec::<String>::new(), "{size:?} dark {dark}, with answers");
            js(&page, DUEL).await;
            until(&page, "duel.shown").await;
            assert_eq!(faults(&page, &axe).await, Vec::<String>::new(), "{size:?} dark {dark}, in a duel");
            page.close().await.expect("closed");
        }
    });
}

#[test]
fn fingers_find_targets_of_44_pixels_on_a_phone() {
    let Some(driver) = driver() else { return };
    let server = Serve::demo(&["--parallel", "2"]);
    runtime().block_on(async {
        let page = open(&driver, &server, (500, 860), false).await;
        answered(&page, 11, 30).await;
        let small = "document.getElementById('panel').classList.add('open'); document.getElementById('persona-details').open = true; \
            document.querySelectorAll('.rewards summary').forEach(s => s.click()); \
            const targets = [...document.querySelectorAll('button, select, summary, label.button, label.check, input:not([type=checkbox], [type=radio], .sr), textarea')].filter(e => e.checkVisibility()); \
            return targets.map(e => [e.id || e.className || e.textContent, e.getBoundingClientRect()]).filter(([, b]) => b.width < 43.5 || b.height < 43.5).map(([name, b]) => `${name}: ${b.width} × ${b.height}`)";
        assert_eq!(js(&page, small).await, json!([]));
        assert_eq!(js(&page, "return document.documentElement.scrollWidth <= innerWidth").await, json!(true), "nothing sticks out");
        js(&page, DUEL).await;
        until(&page, "duel.shown").await;
        assert_eq!(js(&page, small).await, json!([]), "in a duel");
        let wide = "const e = document.getElementById('duel'); return e.scrollWidth <= e.clientWidth";
        assert_eq!(js(&page, wide).await, json!(true), "nothing sticks out");
        page.close().await.expect("closed");
    });
}

#[test]
fn an_answer_is_announced_sentence_by_sentence() {
    let Some(driver) = driver() else { return };
    let server = Serve::demo(&[]);
    runtime().block_on(async {
        let page = open(&driver, &server, (1000, 800), false).await;
        js(&page, "window.announced = []; new MutationObserver(() => window.announced.push(document.getElementById('announce').textContent)).observe(document.getElementById('announce'), {childList: true})").await;
        answered(&page, 11, 60).await;
        until(&page, "window.announced.join('') === state.turns.at(-1).guided.text").await;
        let said = js(&page, "return [window.announced.length, window.announced.join('') === state.turns.at(-1).guided.text]").await;
        assert!(said[0].as_u64() > Some(2) && said[1] == json!(true), "{said}");
        // Sentences that come in one piece are all announced, one after the other.
        let at_once = "window.announced = []; announce({text: 'One. '}, false); announce({text: 'Two. '}, false);";
        js(&page, at_once).await;
        until(&page, "window.announced.length === 2 && window.announced.join('') === 'One.Two.'").await;
        page.close().await.expect("closed");
    });
}
