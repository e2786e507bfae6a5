//! What an answer looks like: Markdown, tokens, rewards.

use serde_json::json;

use super::{answered, driver, js, open, set, until};
use crate::server::Serve;
use crate::server::stream::runtime;

/// Puts an answer of these words into the page, a word a token.
fn shows(text: &str) -> String {
    let text = json!(text);
    format!(
        "const text = {text}; const a = newAnswer('guided', weights()); a.text = text; \
         a.tokens = (text.match(/\\s*\\S+|\\s+$/g) ?? []).map((part, i) => ({{text: part, token: part, arms: {{cheerful: -1 - i % 3}}, base: -1, guided: -1, kl: 0.1, flipped: i % 4 === 1}})); \
         state.turns = [{{user: 'x'}}, {{guided: a}}]; showTalk()"
    )
}

#[test]
fn what_a_model_or_a_user_writes_stays_text() {
    let Some(driver) = driver() else { return };
    let server = Serve::demo(&[]);
    runtime().block_on(async {
        let page = open(&driver, &server, (1000, 800), false).await;
        let attack = "<img src=x onerror='document.title=1'><script>document.title=2</script>";
        js(&page, &format!("const a = newAnswer('guided', {{}}); a.text = {attack:?}; a.tokens.push({{text: {attack:?}, arms: {{}}, base: 0, guided: 0, kl: 0}}); state.turns.push({{user: {attack:?}}}, {{guided: a}}); showTalk()")).await;
        assert_eq!(js(&page, "return document.querySelector('.user span').textContent").await, attack);
        assert_eq!(js(&page, "return document.querySelectorAll('main img, main script').length").await, json!(0));
        assert_eq!(page.title().await.expect("a title"), "genarm");
        page.close().await.expect("closed");
    });
}

#[test]
fn markdown_is_drawn_with_its_tokens_and_nothing_of_it_is_followed() {
    let Some(driver) = driver() else { return };
    let server = Serve::demo(&[]);
    runtime().block_on(async {
        let page = open(&driver, &server, (1000, 900), false).await;
        let text = "# A title\n\nSome **bold** words & `code`, [a link](https://example.org) and [a trap](javascript:alert(1)).\n\n\
                    - first\n- second <b onclick=alert(1)>tag</b>\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```js\nlet x = 1 < 2;\n```\n\n\
                    ![a picture](https://example.org/x.png)";
        js(&page, &shows(text)).await;
        let drawn = "const box = document.querySelector('.tokens'); const has = (s) => box.querySelectorAll(s).length; \
                     return [has('strong'), has('li'), has('td'), has('.code pre'), has('h1'), has('b'), has('img'), has('.heading'), has('a[href]'), box.querySelector('a').target, box.querySelector('pre').textContent]";
        assert_eq!(
            js(&page, drawn).await,
            json!([1, 2, 2, 1, 0, 0, 0, 1, 1, "_blank", "let x = 1 < 2;\n"])
        );
        let shown = js(&page, "return document.querySelector('.tokens').textContent").await;
        assert!(shown.as_str().is_some_and(|text| text.contains("<b onclick=alert(1)>tag</b>")), "{shown}");

        // Every word that is seen is its token's, and coloured like it.
        let words = "const spans = [...document.querySelectorAll('.token')].filter(t => t.textContent.trim()); \
                     return [spans.every(t => t.token.text.includes(t.textContent.trim()) || t.textContent.trim().length < 2), spans.every(t => t.style.backgroundColor), \
                     spans.find(t => t.textContent.includes('bold')).at, spans.find(t => t.textContent.includes('let')).token.text.trim()]";
        assert_eq!(js(&page, words).await, json!([true, true, 4, "let"]));
        set(&page, "#colour", "").await;
        assert_eq!(js(&page, "return [...document.querySelectorAll('.token')].some(t => t.style.backgroundColor)").await, json!(false));

        // As it was written.
        js(&page, "document.getElementById('markdown').click()").await;
        assert_eq!(js(&page, "return document.querySelector('.tokens').textContent").await, text);

        // Code can be copied: the button is there, and the rest of the page notices.
        js(&page, "document.getElementById('markdown').click(); window.copied = []; navigator.clipboard.writeText = async (text) => { window.copied.push(text); }; document.querySelector('.code .copy').click(); document.querySelector('.copy-answer').click()").await;
        until(&page, "window.copied.length === 2").await;
        assert_eq!(js(&page, "return window.copied").await, json!(["let x = 1 < 2;\n", text]));
        page.close().await.expect("closed");
    });
}

#[test]
fn rewards_are_shown_by_sentence_and_by_token_with_the_keyboard_alone() {
    let Some(driver) = driver() else { return };
    let server = Serve::demo(&[]);
    runtime().block_on(async {
        let page = open(&driver, &server, (1280, 900), false).await;
        answered(&page, 11, 60).await;
        js(&page, "document.querySelector('.rewards summary').click()").await;
        until(&page, "document.querySelectorAll('.rewards tbody tr').length > 2").await;
        let head = js(&page, "return [...document.querySelectorAll('.rewards thead th')].map(th => th.textContent)").await;
        assert_eq!(head, json!(["", "cheerful", "talkative", "plain", "KL", "changed"]));
        // The row of the whole answer is the mean over its tokens.
        let mean = "const t = state.turns.at(-1).guided.tokens; const mean = t.reduce((sum, x) => sum + x.arms.cheerful - x.base, 0) / t.length; \
                    const cell = document.querySelector('.rewards tbody td').textContent.replace('−', '-'); return Math.abs(mean - Number(cell)) < 0.006";
        assert_eq!(js(&page, mean).await, json!(true));
        let counted = "const s = sentences(state.turns.at(-1).guided); return s.flatMap(x => x.tokens).length === state.turns.at(-1).guided.tokens.length";
        assert_eq!(js(&page, counted).await, json!(true), "every token is in a sentence");
        super::screenshot(&page, "page-rewards.png").await;

        // Where an ARM disagrees most: a button leads there, and the arrow keys go on.
        js(&page, "document.querySelector('.rewards p button').click()").await;
        let said = js(&page, "return document.getElementById('token-said').textContent").await;
        assert!(said.as_str().is_some_and(|said| said.contains("cheerful") && said.contains("base")), "{said}");
        let key = |key: &str| format!("document.querySelector('.tokens').dispatchEvent(new KeyboardEvent('keydown', {{key: {key:?}, bubbles: true}})); return document.getElementById('token-said').textContent");
        let next = js(&page, &key("ArrowRight")).await;
        assert_ne!(next, said);
        assert_eq!(js(&page, &key("ArrowLeft")).await, said);
        assert_eq!(js(&page, "document.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape'})); return document.getElementById('tip').hidden").await, json!(true));
        page.close().await.expect("closed");
    });
}

#[test]
fn tokens_stay_with_their_words_in_nested_lists_and_what_cannot_be_read_is_shown_as_written() {
    let Some(driver) = driver() else { return };
    let server = Serve::demo(&[]);
    runtime().block_on(async {
        let page = open(&driver, &server, (1000, 800), false).await;
        let texts = [
            "1. **Setup**\n   - Install Rust\n   - Clone the repository\n\n2. **Build**\n   - Run make\n   - Wait for it\n\nThen open the page.",
            "- one\n\n- two\n\n  with a paragraph\n\n- three\n  - four\n    - five\n\nsix",
            "- run\n\n      make all\n      make test\n\nThen again:\n\n      make all\n      make test\n\nDone.",
            "A & B are A & B, and 1 < 2.",
        ];
        for text in texts {
            js(&page, &shows(text)).await;
            let wrong = "return [...document.querySelectorAll('.token')].filter(t => t.textContent.trim().length > 1 && !t.token.text.includes(t.textContent.trim())).map(t => [t.textContent, t.token.text])";
            assert_eq!(js(&page, wrong).await, json!([]), "{text}");
        }
        js(&page, &shows("1. a\n\n```\nx\n```\n\n2. b")).await;
        assert_eq!(js(&page, "return document.querySelectorAll('ol')[1].start").await, json!(2));
        // A text that nests deeper than can be read neither spoils the page nor is lost.
        let deep = "> ".repeat(4000) + "deep";
        js(&page, &shows(&deep)).await;
        assert_eq!(js(&page, "return document.querySelector('.tokens').textContent").await, deep);
        page.close().await.expect("closed");
    });
}
