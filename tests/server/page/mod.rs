//! The page, in a real browser without a screen.

mod access;
mod compared;
mod conversations;
mod duel;
mod objectives;
mod text;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::key::Key;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};

use super::stream::runtime;
use super::{PROMPT, Serve, root};
use crate::support::program;

/// A chromedriver; it ends when it goes out of scope.
struct Driver(Child, String);

impl Driver {
    fn start(path: &Path) -> Self {
        let mut child = Command::new(path).arg("--port=0").stdout(Stdio::piped()).spawn().expect("chromedriver runs");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let port = loop {
            let line = lines.next().expect("chromedriver says its port").expect("a line");
            if let Some((_, port)) = line.split_once("successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self(child, format!("http://127.0.0.1:{port}"))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A browser window.
async fn browser(driver: &Driver, width: u32, height: u32, dark: bool) -> Client {
    let scheme = if dark { "--force-dark-mode" } else { "--disable-dark-mode" };
    let size = format!("--window-size={width},{height}");
    let args = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        &size,
        scheme,
    ];
    let wanted = json!({"goog:chromeOptions": {"args": args}, "goog:loggingPrefs": {"browser": "ALL"}});
    let Value::Object(wanted) = wanted else { unreachable!("an object") };
    let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
    builder.capabilities(wanted).connect(&driver.1).await.expect("a browser")
}

async fn js(browser: &Client, code: &str) -> Value {
    browser.execute(code, Vec::new()).await.unwrap_or_else(|e| panic!("{code}: {e}"))
}

/// The page of a server with the demo models, its sliders drawn.
async fn open(driver: &Driver, server: &Serve, (width, height): (u32, u32), dark: bool) -> Client {
    let page = browser(driver, width, height, dark).await;
    page.goto(&server.url("/")).await.expect("the page");
    until(&page, "document.querySelectorAll('.slider input[type=range]').length === 3").await;
    page
}

/// Waits until an expression is true.
async fn until(browser: &Client, condition: &str) {
    for _ in 0..1200 {
        if js(browser, &format!("return Boolean({condition})")).await == json!(true) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let status = js(browser, "return document.body.innerText").await;
    panic!("{condition} does not become true: {status}");
}

async fn send(browser: &Client, text: &str) {
    browser.find(Locator::Id("message")).await.expect("a field").send_keys(text).await.expect("typed");
    browser
        .find(Locator::Id("message"))
        .await
        .expect("a field")
        .send_keys(&Key::Enter.to_string())
        .await
        .expect("sent");
}

/// Sends the prompt under a seed, and waits for an answer of so many tokens at most.
async fn answered(browser: &Client, seed: u32, max: u32) {
    set(browser, "#seed", &seed.to_string()).await;
    set(browser, "#max", &max.to_string()).await;
    send(browser, PROMPT).await;
    until(browser, IDLE).await;
}

async fn set(browser: &Client, selector: &str, value: &str) {
    let code = format!(
        "const e = document.querySelector({selector:?}); e.value = {value:?}; e.dispatchEvent(new Event('input', {{bubbles: true}})); \
         e.dispatchEvent(new Event('change', {{bubbles: true}}))"
    );
    js(browser, &code).await;
}

async fn screenshot(browser: &Client, name: &str) {
    let folder = std::env::var_os("GENARM_SCREENSHOTS").map(std::path::PathBuf::from);
    let folder = folder.unwrap_or_else(|| root().join("target/screenshots"));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join(name), browser.screenshot().await.expect("an image")).expect("written");
}

/// chromedriver, where it is installed.
fn driver() -> Option<Driver> {
    program(&["chromedriver"], &[], "chromium").map(|path| Driver::start(&path))
}

const IDLE: &str = "!document.querySelector('.streaming') && document.querySelector('.answer')";

#[test]
fn one_visit_moves_a_slider_sends_stops_and_compares_with_the_base() {
    let Some(driver) = driver() else { return };
    let server = Serve::demo(&["--parallel", "2"]);
    runtime().block_on(async {
        let page = open(&driver, &server, (1280, 860), false).await;

        // A slider moves by the keyboard alone, and the request carries what it shows.
        js(&page, "document.querySelector('[data-arm=cheerful]').focus()").await;
        let slider = page.find(Locator::Css("[data-arm=cheerful]")).await.expect("a slider");
        let before = js(&page, "return document.querySelector('[data-arm=cheerful]').valueAsNumber").await;
        slider.send_keys(&Key::Left.to_string().repeat(4)).await.expect("moved");
        let after = js(&page, "return document.querySelector('[data-arm=cheerful]').valueAsNumber").await;
        assert!(after.as_f64() < before.as_f64(), "{before} {after}");
        set(&page, "#seed", "11").await;
        set(&page, "#max", "90").await;
        // An observer sees the tokens stream even where the text is over before this test looks again.
        let observe = "window.streamed = 0; new MutationObserver(() => { window.streamed ||= document.querySelectorAll('.streaming .token').length; }).observe(document.body, {childList: true, subtree: true})";
        js(&page, observe).await;
        send(&page, PROMPT).await;
        until(&page, "window.streamed > 0").await;
        let early = js(&page, "return window.streamed").await;
        until(&page, IDLE).await;
        let all = js(&page, "return document.querySelectorAll('.token').length").await;
        assert!(early.as_u64() < all.as_u64(), "tokens come one after the other: {early} {all}");
        let shown = js(&page, "return document.querySelector('.answer h3').innerText").await;
        let weight = format!("cheerful {}", after.as_f64().expect("a number"));
        assert!(shown.as_str().is_some_and(|s| s.contains(&weight)), "{shown} {weight}");

        // Colours, numbers on hover, underlines where guidance changed the choice.
        let coloured = "return [...document.querySelectorAll('.token')].filter(t => t.style.backgroundColor).length";
        assert_eq!(js(&page, coloured).await, all);
        assert!(js(&page, "return document.querySelectorAll('.token.flipped').length").await.as_u64() > Some(0));
        js(&page, "document.querySelector('.token').dispatchEvent(new MouseEvent('mouseover', {bubbles: true}))").await;
        let tip = js(&page, "return document.getElementById('tip').innerText").await;
        for word in ["guided", "base", "cheerful", "talkative", "plain"] {
            assert!(tip.as_str().is_some_and(|tip| tip.contains(word)), "{tip}");
        }
        set(&page, "#colour", "").await;
        assert_eq!(js(&page, coloured).await, json!(0));
        set(&page, "#colour", "plain").await;

        // Continue from a marked token under another profile.
        js(&page, "document.querySelector('[data-profile=chatty]').click(); [...document.querySelectorAll('.token')].find(t => t.at === 20).click()").await;
        let kept = js(&page, "return [...document.querySelectorAll('.token')].filter(t => t.at <= 20).map(t => t.textContent).join('')").await;
        js(&page, "document.querySelector('.continue').click()").await;
        until(&page, IDLE).await;
        let text = js(&page, "return document.querySelector('.tokens').textContent").await;
        assert!(text.as_str().expect("a text").starts_with(kept.as_str().expect("a text").trim_end()), "{text} {kept}");

        // Stop.
        set(&page, "#max", "480").await;
        send(&page, "Tom had a red ball.").await;
        until(&page, "document.querySelectorAll('.streaming .token').length > 3").await;
        js(&page, "document.getElementById('stop').click()").await;
        until(&page, IDLE).await;
        assert_eq!(js(&page, "return document.getElementById('status').textContent").await, "stopped");
        server.settle();

        // The base beside the guided text, for the same seed.
        js(&page, "document.getElementById('clear').click(); document.querySelector('[data-profile=happy]').click()").await;
        set(&page, "#compare", "base").await;
        set(&page, "#colour", "cheerful").await;
        set(&page, "#max", "70").await;
        send(&page, PROMPT).await;
        until(&page, IDLE).await;
        let base = js(&page, "return state.turns.at(-1).base.text").await;
        let tokens = json!({"messages": [{"role": "user", "content": PROMPT}], "seed": 11, "max_tokens": 70, "profile": "neutral"});
        let expected = server.ok("/v1/chat/completions", &tokens);
        assert_eq!(base, expected["choices"][0]["message"]["content"]);
        assert_ne!(base, js(&page, "return state.turns.at(-1).guided.text").await);
        let shown = js(&page, "return document.querySelector('.answer.base .tokens').textContent").await;
        let words = |text: &Value| text.as_str().expect("a text").split_whitespace().map(String::from).collect::<Vec<_>>();
        assert_eq!(words(&shown), words(&base));
        js(&page, "const t = document.querySelectorAll('.answer.guided .token')[8]; t.dispatchEvent(new MouseEvent('mouseover', {bubbles: true}))").await;
        screenshot(&page, "page.png").await;
        let conversation = js(&page, "return conversation()").await;
        let saved: Value = serde_json::from_str(conversation.as_str().expect("a text")).expect("JSON");
        assert_eq!((&saved["weights"]["cheerful"], &saved["messages"][0]["content"]), (&json!(1.5), &json!(PROMPT)));
        assert!(js(&page, "return profile()").await.as_str().is_some_and(|yaml| yaml.contains("\"cheerful\": 1.5")));

        // A calibrated range ends on a step, so that 0 can be reached.
        let narrow = "state.arms[0].range = [-0.73, 0.71]; state.arms[0].weight = 0.5; showSliders(); \
             const e = document.querySelector('.slider input[type=range]'); e.value = 0; return [e.min, e.max, e.value]";
        assert_eq!(js(&page, narrow).await, json!(["-0.75", "0.75", "0"]));
        page.close().await.expect("closed");
    });
}

#[test]
fn a_slider_that_moves_during_an_answer_marks_the_token_from_which_its_weight_holds() {
    let Some(driver) = driver() else { return };
    let server = Serve::demo(&["--parallel", "2"]);
    runtime().block_on(async {
        let page = open(&driver, &server, (1280, 860), false).await;
        set(&page, "#seed", "11").await;
        set(&page, "#max", "470").await;
        // The page itself moves the slider, at the first token: a fast machine would be through before this test is.
        let observe = "window.moved = false; new MutationObserver(() => { \
             if (window.moved || !document.querySelector('.streaming .token')) return; \
             window.moved = true; const e = document.querySelector('[data-arm=talkative]'); e.value = 1.5; \
             e.dispatchEvent(new Event('input', {bubbles: true})); \
             }).observe(document.body, {childList: true, subtree: true})";
        js(&page, observe).await;
        for _ in 0..20 {
            send(&page, PROMPT).await;
            until(&page, "window.moved").await;
            until(&page, IDLE).await;
            if js(&page, "return state.turns.at(-1).guided.changes.length").await == json!(1) {
                break;
            }
            // The text was over before the change came.
            js(&page, "document.getElementById('clear').click(); window.moved = false; state.arms.find(arm => arm.name === 'talkative').weight = 0; showSliders()").await;
        }
        assert_eq!(js(&page, "return document.querySelectorAll('.token.changed').length").await, json!(1));
        let at = js(&page, "return state.turns.at(-1).guided.changes[0].at").await;
        let log = js(&page, "return state.turns.at(-1).guided.meta.weights_log").await;
        assert_eq!((log.as_array().map(Vec::len), &log[1]["token"]), (Some(2), &at), "{log}");
        assert_eq!((&log[0]["weights"]["talkative"], &log[1]["weights"]["talkative"]), (&json!(0), &json!(1.5)));
        let tip = "document.querySelector('.token.changed').dispatchEvent(new MouseEvent('mouseover', {bubbles: true})); return document.getElementById('tip').innerText";
        assert!(js(&page, tip).await.as_str().is_some_and(|tip| tip.contains("talkative 1.5")));
        let shown = js(&page, "return document.querySelector('.answer h3').innerText").await;
        assert!(shown.as_str().is_some_and(|shown| shown.contains("talkative 1.5")), "{shown}");
        screenshot(&page, "page-changed.png").await;
        page.close().await.expect("closed");
    });
}

#[test]
fn the_page_fits_a_phone_in_the_dark() {
    let Some(driver) = driver() else { return };
    let server = Serve::demo(&["--parallel", "2"]);
    runtime().block_on(async {
        let page = open(&driver, &server, (500, 860), true).await;
        answered(&page, 5, 60).await;
        assert_eq!(
            js(&page, "return document.documentElement.scrollWidth <= innerWidth").await,
            json!(true),
            "nothing sticks out"
        );
        js(&page, "document.getElementById('toggle').click()").await;
        assert_eq!(js(&page, "return document.getElementById('panel').checkVisibility()").await, json!(true));
        screenshot(&page, "page-phone.png").await;
        page.close().await.expect("closed");
    });
}

/// Clicks on a button of the page by its text.
async fn click(browser: &Client, text: &str) {
    let code = format!(
        "[...document.querySelectorAll('button')].find(b => b.textContent === {text:?} && b.checkVisibility({{opacityProperty: false}})).click()"
    );
    js(browser, &code).await;
}
