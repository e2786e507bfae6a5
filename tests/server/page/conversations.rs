//! Conversations are kept, found, changed and repaired.

use serde_json::{Value, json};

use super::{IDLE, click, driver, js, open, screenshot, send, set, until};
use crate::server::stream::runtime;
use crate::server::{PROMPT, Serve};

#[test]
fn conversations_survive_a_reload_and_a_server_that_has_gone() {
    let Some(driver) = driver() else { return };
    let server = Serve::demo(&["--parallel", "2"]);
    runtime().block_on(async {
        let page = open(&driver, &server, (1280, 860), false).await;
        set(&page, "#seed", "5").await;
        set(&page, "#max", "24").await;
        set(&page, "[data-arm=cheerful]", "0.5").await;
        send(&page, PROMPT).await;
        until(&page, IDLE).await;
        let shown = "return document.querySelector('.answer.guided .tokens').textContent.trim()";
        let first = js(&page, shown).await;
        assert_eq!(js(&page, "return document.querySelector('.cut-off') !== null").await, json!(true), "it was cut off");
        assert_eq!(js(&page, "return document.getElementById('context').value > 24").await, json!(true));

        // Another answer to the same message: both are kept.
        set(&page, "#seed", "6").await;
        click(&page, "Answer again").await;
        until(&page, "!state.running && document.querySelector('.version')").await;
        let second = js(&page, shown).await;
        assert_ne!(second, first);
        click(&page, "‹").await;
        assert_eq!(js(&page, shown).await, first);

        // A reload shows the same, with the weights and the colours.
        page.refresh().await.expect("a reload");
        until(&page, "document.querySelector('.answer .token')").await;
        assert_eq!(js(&page, shown).await, first);
        assert_eq!(js(&page, "return state.arms.find(arm => arm.name === 'cheerful').weight").await, json!(0.5));
        assert_eq!(js(&page, "return document.querySelector('.token').token.arms.cheerful < 0").await, json!(true));
        click(&page, "›").await;
        assert_eq!(js(&page, shown).await, second);

        // An edited message begins a conversation of its own; the old one stays in the list.
        js(&page, "document.querySelector('.user .edit').click()").await;
        assert_eq!(js(&page, "return document.getElementById('message').value").await, PROMPT);
        send(&page, " She had a dog.").await;
        until(&page, "!state.running && document.querySelectorAll('#conversations li').length === 2").await;
        let branch = js(&page, "return document.querySelector('.user span').textContent").await;
        assert!(branch.as_str().is_some_and(|text| text.ends_with("She had a dog.")), "{branch}");

        // Rename, search, open, delete.
        js(&page, "document.querySelector('#conversations li:nth-child(2) button:nth-child(2)').click(); const i = document.querySelector('#conversations input'); i.value = 'Lily alone'; i.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter'}))").await;
        set(&page, "#search", "alone").await;
        until(&page, "document.querySelectorAll('#conversations li').length === 1").await;
        click(&page, "Lily alone").await;
        assert_eq!(js(&page, shown).await, second);
        screenshot(&page, "page-conversations.png").await;

        // Out and in again, as JSON; and as Markdown.
        let exported = js(&page, "const kept = storedConversations().find(one => one.name === 'Lily alone'); const back = importedConversation(JSON.stringify(kept)); return [back.turns[1].guided.text.trim(), asMarkdown(back), importedConversation('[1]'), importedConversation(JSON.stringify({messages: [{role: 'user', content: 'a'}, {role: 'assistant', content: 'b'}]})).turns[1].guided.text]").await;
        assert_eq!((&exported[0], &exported[2], &exported[3]), (&second, &Value::Null, &json!("b")));
        assert!(exported[1].as_str().is_some_and(|text| text.starts_with("# Lily alone\n\n**User**")), "{exported}");

        set(&page, "#search", "").await;
        js(&page, "document.querySelector('#conversations li button:nth-child(3)').click()").await;
        assert_eq!(js(&page, "return storedConversations().length").await, json!(1));

        // The server goes: what was said comes back to where it was written, and the rest stays.
        let port = server.address().rsplit(':').next().expect("a port").to_owned();
        drop(server);
        send(&page, "Are you there?").await;
        until(&page, "!state.running && document.getElementById('message').value === 'Are you there?'").await;
        assert_eq!(js(&page, "return document.getElementById('status').textContent !== ''").await, json!(true));
        assert_eq!(js(&page, "return storedConversations().every(one => one.turns.length === 2)").await, json!(true));

        // It comes back, and the conversation goes on where it was.
        let _server = Serve::demo_at(&port, &["--parallel", "2"]);
        js(&page, "document.getElementById('composer').requestSubmit()").await;
        until(&page, "!state.running && state.turns.length === 4 && state.turns[3].guided.text").await;
        page.close().await.expect("closed");
    });
}

#[test]
fn a_browser_without_room_keeps_the_texts_before_the_tokens() {
    let Some(driver) = driver() else { return };
    let server = Serve::demo(&[]);
    runtime().block_on(async {
        let page = open(&driver, &server, (1000, 800), false).await;
        let code = "const token = {token: 'x'.repeat(900), text: 'x', arms: {}, base: 0, guided: 0, kl: 0}; \
            const one = id => ({id, name: id, turns: [{user: 'hello ' + id}, {guided: {...newAnswer('guided', {}), text: 'text of ' + id, tokens: Array(1500).fill(token)}}]}); \
            const kept = storeConversations(['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].map(one)); \
            const list = storedConversations(); \
            return [kept, list.length, list[0].turns[1].guided.tokens.length, list.at(-1).turns[1].guided.tokens.length, list.at(-1).turns[1].guided.text]";
        assert_eq!(js(&page, code).await, json!([true, 8, 1500, 0, "text of h"]));
        page.close().await.expect("closed");
    });
}

#[test]
fn messages_and_answers_are_deleted_brought_back_and_written_anew() {
    let Some(driver) = driver() else { return };
    let server = Serve::demo(&[]);
    runtime().block_on(async {
        let page = open(&driver, &server, (1280, 860), false).await;
        set(&page, "#seed", "5").await;
        set(&page, "#max", "12").await;
        for text in [PROMPT, "Then it rained."] {
            send(&page, text).await;
            until(&page, IDLE).await;
        }
        let said = "return state.turns.map(turn => turn.user ?? turn.guided.text)";
        let all = js(&page, said).await;
        js(&page, "document.querySelector('.user .delete').click()").await;
        assert_eq!(js(&page, said).await, json!([all[2], all[3]]));
        assert_eq!(js(&page, "return storedConversations()[0].turns.length").await, json!(2));
        js(&page, "document.getElementById('undo').click()").await;
        assert_eq!(js(&page, said).await, all);

        // An answer that was written by hand is what the conversation goes on from; the model's stays beside it.
        js(&page, "document.querySelectorAll('.edit-answer')[1].click(); document.querySelector('.answer textarea').value = 'It stopped.'").await;
        click(&page, "Keep").await;
        assert_eq!(js(&page, "return messages(state.turns.length).at(-1).content").await, "It stopped.");
        click(&page, "‹").await;
        assert_eq!(js(&page, said).await, all);

        // A conversation whose last message is deleted is forgotten.
        for _ in 0..2 {
            js(&page, "document.querySelector('.user .delete').click()").await;
        }
        assert_eq!(js(&page, "return [storedConversations().length, storedOpen(), document.querySelectorAll('.answer').length]").await, json!([0, null, 0]));
        js(&page, "document.getElementById('undo').click()").await;
        assert_eq!(js(&page, "return storedConversations().length").await, json!(1));
        page.close().await.expect("closed");
    });
}

#[test]
fn what_others_have_written_into_the_storage_does_not_keep_the_page_from_starting() {
    let Some(driver) = driver() else { return };
    let server = Serve::demo(&[]);
    runtime().block_on(async {
        let page = open(&driver, &server, (1000, 800), false).await;
        let odd = json!([
            {"id": "a", "name": "odd", "turns": [{"user": "x"}, {"guided": {"text": "y", "tokens": [{"text": 5}], "cut": 99, "changes": "no", "weights": null}}]},
            {"id": "b", "name": "none", "turns": [{"guided": null}]}, {"id": 5}, null, "x",
            {"id": "c", "name": "open", "turns": [{"user": "still waiting"}]},
        ]);
        for open in ["a", "c"] {
            js(&page, &format!("localStorage.setItem('genarm-conversations', JSON.stringify({odd})); localStorage.setItem('genarm-open', {open:?})")).await;
            page.refresh().await.expect("a reload");
            until(&page, "document.querySelectorAll('.slider').length === 3 && document.querySelectorAll('#conversations li').length === 2").await;
        }
        assert_eq!(js(&page, "return document.getElementById('message').value").await, "still waiting");
        let files = "return ['', '[]', '{}', '{\"messages\": [{\"role\": \"robot\", \"content\": \"x\"}]}', '{\"turns\": [{}]}'].map(importedConversation)";
        assert_eq!(js(&page, files).await, json!([null, null, null, null, null]));
        let chat = "return importedConversation(JSON.stringify({messages: [{role: 'system', content: 's'}, {role: 'user', content: 'u'}]})).system";
        assert_eq!(js(&page, chat).await, "s");
        page.close().await.expect("closed");
    });
}

#[test]
fn a_conversation_that_no_longer_fits_says_so_and_goes_on_without_its_oldest_turns() {
    let Some(driver) = driver() else { return };
    let server = Serve::demo(&["--n-ctx", "256"]);
    runtime().block_on(async {
        let page = open(&driver, &server, (1000, 800), false).await;
        set(&page, "#max", "8").await;
        let long = "Once there was a dog. ".repeat(18);
        for _ in 0..2 {
            js(&page, &format!("document.getElementById('message').value = {long:?}; document.getElementById('composer').requestSubmit()")).await;
            until(&page, "!state.running").await;
        }
        let status = js(&page, "return document.getElementById('status').textContent").await;
        assert!(status.as_str().is_some_and(|text| text.contains("context size") && text.contains("oldest turns")), "{status}");
        assert_eq!(js(&page, "return [state.turns.length, document.getElementById('message').value.trim()]").await, json!([2, long.trim()]));
        js(&page, "document.getElementById('truncates').click(); document.getElementById('composer').requestSubmit()").await;
        until(&page, "!state.running && state.turns.length === 4").await;
        let told = js(&page, "return document.body.innerText.includes('2 oldest messages were left out')").await;
        assert_eq!(told, json!(true));
        page.close().await.expect("closed");
    });
}

#[test]
fn nothing_that_was_said_is_lost_by_another_step() {
    let Some(driver) = driver() else { return };
    let server = Serve::demo(&["--n-ctx", "256"]);
    runtime().block_on(async {
        let page = open(&driver, &server, (1280, 860), false).await;
        set(&page, "#seed", "5").await;
        set(&page, "#max", "8").await;
        for text in ["One.", "Two."] {
            send(&page, text).await;
            until(&page, IDLE).await;
        }
        let said = "return state.turns.filter(turn => turn.user).map(turn => turn.user)";

        // Undo belongs to the conversation in which something was deleted.
        js(&page, "document.querySelectorAll('.user .delete')[1].click(); document.querySelectorAll('.user .edit')[0].click(); document.getElementById('undo').click()").await;
        assert_eq!(js(&page, "return [state.turns.length, storedConversations()[0].turns.length, document.getElementById('undo').hidden]").await, json!([0, 2, true]));

        // A second tab goes on with the same conversation: the first one branches off.
        js(&page, "document.getElementById('message').value = ''; openConversation(storedConversations()[0])").await;
        js(&page, "const list = storedConversations(); list[0].turns.push({user: 'from the other tab'}); list[0].changed += 1; storeConversations(list)").await;
        send(&page, "From this tab.").await;
        until(&page, IDLE).await;
        let all = "return storedConversations().map(one => one.turns.filter(turn => turn.user).map(turn => turn.user).join(' '))";
        assert_eq!(js(&page, all).await, json!(["One. From this tab.", "One. from the other tab"]));

        // A message that fails comes back before what was written meanwhile.
        let long = "Once there was a dog. ".repeat(60);
        js(&page, &format!("send({long:?}); document.getElementById('message').value = 'a draft'")).await;
        until(&page, "!state.running").await;
        assert_eq!(js(&page, "return document.getElementById('message').value").await, format!("{long}\n\na draft"));
        assert_eq!(js(&page, said).await, json!(["One.", "From this tab."]));

        // What is cut off to go on from a token stays as another version.
        js(&page, "document.getElementById('message').value = ''; const t = [...document.querySelectorAll('.answer')].at(-1).querySelectorAll('.token'); [...t].find(t => t.at === 2).click()").await;
        let before = js(&page, "return state.turns.at(-1).guided.text").await;
        click(&page, "Continue from the marked token").await;
        until(&page, IDLE).await;
        assert_eq!(js(&page, "return state.turns.at(-1).others.map(answer => answer.text)").await, json!([before]));

        // A page that is closed while an answer is written keeps what has come.
        set(&page, "#max", "100").await;
        js(&page, "window.shut = false; new MutationObserver(() => { if (!window.shut && document.querySelectorAll('.streaming .token').length > 3) { window.shut = true; window.kept = state.turns.at(-1).guided.tokens.length; dispatchEvent(new Event('pagehide')); window.stored = storedConversations()[0].turns.at(-1).guided?.tokens.length; } }).observe(document.body, {childList: true, subtree: true})").await;
        send(&page, "Three.").await;
        until(&page, IDLE).await;
        assert_eq!(js(&page, "return window.kept > 3 && window.stored === window.kept").await, json!(true));

        // Pairs have room where conversations fill the storage, and a long link is made or refused.
        let full = "const token = {token: 'x'.repeat(900), text: 'x', arms: {}, base: 0, guided: 0, kl: 0}; \
            storeConversations(['a', 'b', 'c', 'd'].map(id => ({id, name: id, turns: [{user: id}, {guided: {...newAnswer('guided', {}), text: 'y', tokens: Array(1300).fill(token)}}]}))); \
            for (let i = 0, size = 4e6; size > 1000; i++) { try { localStorage.setItem('filler' + i, 'z'.repeat(size)); } catch { size /= 2; } } \
            return [storePair({prompt: 'p'.repeat(50000)}), storedPairs().length, toBase64('é'.repeat(200000)).length > 100000]";
        assert_eq!(js(&page, full).await, json!([true, 1, true]));
        page.close().await.expect("closed");
    });
}
