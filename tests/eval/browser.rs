//! The pages and pictures, in a real browser.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{demo, file, stdout};
use crate::support::program;

/// Chromium: that of `GENARM_CHROMIUM`, or one on the path; `make test` installs it on Debian.
fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os("GENARM_CHROMIUM").map(PathBuf::from);
    named.or_else(|| program(&["chromium", "chromium-browser", "google-chrome"], &[], "chromium"))
}

/// The document after its scripts have run, and what the browser's console said.
fn render(page: &Path) -> Option<(String, String)> {
    let chromium = chromium()?;
    let profile = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(chromium);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]);
    command.args([
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--enable-logging=stderr",
    ]);
    command.arg(format!("--user-data-dir={}", profile.path().display())).arg("--window-size=1000,800");
    command.args(["--virtual-time-budget=2000", "--dump-dom"]).arg(format!("file://{}", page.display()));
    let output = command.output().expect("the browser runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    let console = talk.lines().filter(|line| line.contains("CONSOLE")).collect::<Vec<_>>().join("\n");
    Some((String::from_utf8_lossy(&output.stdout).into_owned(), console))
}

/// What a script in the page found out, as the JSON that it leaves in the title.
fn probe(page: &str, script: &str) -> Option<serde_json::Value> {
    let folder = tempfile::tempdir().expect("a folder");
    let catcher = "<script>window.errors=[];addEventListener('error',e=>errors.push(e.message));</script>";
    let script = format!("<script>document.title='@'+JSON.stringify((()=>{{{script}}})())+'@';</script>");
    // Before everything and after everything.
    let (head, rest) = page.split_once("<head>").unwrap_or(("<html>", page));
    let page = format!("{head}<head>{catcher}{}", rest.replace("</body>", &format!("{script}</body>")));
    let path = folder.path().join("page.html");
    std::fs::write(&path, page).expect("a page");
    let (document, console) = render(&path)?;
    assert_eq!(console, "", "no message in the console");
    let title = document.split('@').nth(1).unwrap_or_else(|| panic!("the script ran: {document}"));
    let title = title.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", "\u{a0}").replace("&amp;", "&");
    Some(serde_json::from_str(&title).expect("JSON"))
}

const HOSTILE: &str =
    " <script>document.title='hacked';alert(1)</script><img src=x onerror=alert(1)> & \"quotes\" 'too' </span></body>";

fn scored(folder: &tempfile::TempDir) -> (String, String) {
    let html = folder.path().join("page.html").display().to_string();
    let svg = folder.path().join("map.svg").display().to_string();
    let config = demo("demo.yaml");
    stdout(&[
        "score",
        "-f",
        &config,
        "--html",
        &html,
        "--svg",
        &svg,
        "Tom <b>had</b> a ball.",
        HOSTILE,
        " He was happy.\nThe end.",
    ]);
    (std::fs::read_to_string(html).expect("a page"), std::fs::read_to_string(svg).expect("a picture"))
}

#[test]
fn the_page_shows_its_text_switches_arms_and_runs_nothing_that_a_token_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let (page, _) = scored(&folder);
    let script = "
        const tokens = [...document.querySelectorAll('.responses .t')];
        const texts = [...document.querySelectorAll('.text')];
        const before = tokens.map(t => t.style.background).join();
        const verdict = document.getElementById('verdict').textContent;
        document.querySelector('input[value=\"1\"]').click();
        const after = tokens.map(t => t.style.background).join();
        tokens[1].dispatchEvent(new Event('mouseenter'));
        const tip = document.getElementById('tip');
        return {
            errors, text: texts.map(t => t.textContent), verdict,
            verdict_after: document.getElementById('verdict').textContent,
            visible: tokens.every(t => t.getBoundingClientRect().height > 5),
            inside: tokens.every(t => t.getBoundingClientRect().right <= innerWidth),
            changed: before !== after, tip: tip.textContent, tip_shown: tip.getBoundingClientRect().width > 50,
            images: document.images.length, scripts: document.scripts.length, prompt: document.querySelector('.prompt').textContent,
        };";
    let Some(found) = probe(&page, script) else { return };
    assert_eq!(found["errors"].as_array().map(Vec::len), Some(0), "{found}");
    assert_eq!(found["text"][0], HOSTILE, "the tokens are text, all of it");
    assert_eq!(found["text"][1], " He was happy.⏎\nThe end.");
    assert_eq!((&found["images"], &found["scripts"]), (&0.into(), &3.into()), "the page's script and the test's two");
    assert_eq!(found["prompt"], "Tom <b>had</b> a ball.");
    for yes in ["visible", "inside", "changed", "tip_shown"] {
        assert_eq!(found[yes], true, "{yes}: {found}");
    }
    let tip = found["tip"].as_str().expect("a tip");
    assert!(
        ["base", "cheerful", "talkative", "plain", "guided", "KL", "likeliest"].iter().all(|n| tip.contains(n)),
        "{tip}"
    );
    assert!(found["verdict"].as_str().expect("a verdict").starts_with("cheerful"));
    assert!(found["verdict_after"].as_str().expect("a verdict").starts_with("talkative"));
}

#[test]
fn the_pictures_show_their_text_within_their_frame() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, map) = scored(&folder);
    let (config, prompts) = (demo("demo.yaml"), demo("prompts.jsonl"));
    let (out, stem) =
        (folder.path().join("s.jsonl").display().to_string(), folder.path().join("s").display().to_string());
    let mut args = vec![
        "sweep",
        "-f",
        &config,
        "--prompts",
        &prompts,
        "--n-prompts",
        "3",
        "-n",
        "8",
        "--out",
        &out,
        "--plot",
        &stem,
    ];
    args.extend([
        "--grid",
        "cheerful=0,1",
        "--grid",
        "talkative=0,1",
        "--scorer",
        "cheerful",
        "--scorer",
        "talkative",
        "--best-of",
        "2",
    ]);
    stdout(&args);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect(name);
    for (name, picture, words) in [
        ("map", map, vec!["<script>", "He", "prefers"]),
        (
            "front",
            read("s-front.svg"),
            vec!["base", "best of 2 by cheerful", "Pareto front", "cheerful alone", "happy"],
        ),
        ("kl", read("s-kl.svg"), vec!["KL to the base, nats", "talkative", "base"]),
    ] {
        // As a file of its own it must be XML.
        let Some((document, console)) = render(Path::new(&file(&folder, "one.svg", &picture))) else { return };
        assert!(!document.contains("parsererror") && console.is_empty(), "{name}: {console}");
        let script = "
            const svg = document.querySelector('svg'), frame = svg.getBoundingClientRect();
            const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent.trim(), t.getBoundingClientRect()]);
            const out = texts.filter(([text, box]) => text && (box.width < 1 || box.left < frame.left - 1 || box.right > frame.right + 1
                || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)).map(([text]) => text);
            return {errors, all: texts.map(t => t[0]).join(' '), out, scripts: svg.querySelectorAll('script').length};";
        let page = format!("<!DOCTYPE html><html><head><meta charset=\"utf-8\"></head><body>{picture}</body></html>");
        let Some(found) = probe(&page, script) else { return };
        assert_eq!((found["errors"].as_array().map(Vec::len), &found["scripts"]), (Some(0), &0.into()), "{name}");
        assert_eq!(found["out"], serde_json::json!([]), "{name}: text outside the frame");
        let all = found["all"].as_str().expect("text");
        // The heat map has a text a token.
        assert!(words.iter().all(|w| all.replace(' ', "").contains(&w.replace(' ', ""))), "{name}: {all}");
    }
}
