//! What a request says about guidance beside its weights: limits and personas of its own.

use serde_json::{Value, json};

use super::bytes::with;
use super::doors::{CHAT, Door, TEXT};
use super::isolation::same;
use super::{PROMPT, Serve, root, text_of};

const HAPPY: &str = "Everyone is very happy, laughs and smiles.";

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number: {value}"))
}

/// The message of a refusal that names this field.
fn refused(server: &Serve, path: &str, body: &Value, param: &str) -> String {
    let (status, answer) = server.post(path, body);
    assert_eq!((status, &answer["error"]["param"]), (400, &json!(param)), "{body}: {answer}");
    answer["error"]["message"].as_str().expect("a message").to_owned()
}

#[test]
fn limits_of_a_request_hold_for_it_and_for_no_other() {
    let server = Serve::demo(&["--parallel", "1"]);
    let strong = json!({"prompt": PROMPT, "max_tokens": 12, "temperature": 0, "return_rewards": true,
        "preferences": {"cheerful": 6, "plain": -3}});
    let limited = with(strong.clone(), &json!({"guidance": {"max_kl": 0.05}}));
    for path in [CHAT, TEXT] {
        for stream in [false, true] {
            let door = Door { path, stream };
            let rewards = door.ask(&server, &limited).rewards;
            assert_eq!(rewards.len(), 12);
            for reward in &rewards {
                let (kl, lambda) = (number(&reward["kl"]), number(&reward["lambda"]));
                assert!(kl <= 0.0501 && (0.0..=1.0).contains(&lambda), "{reward}");
            }
            assert!(rewards.iter().any(|reward| number(&reward["lambda"]) < 1.0), "the limit acts");
            let free = door.ask(&server, &strong).rewards;
            assert!(free.iter().all(|reward| reward.get("lambda").is_none()), "the next job has no limit");
            assert!(free.iter().any(|reward| number(&reward["kl"]) > 0.05));
        }
    }
    let scored = json!({"prompt": PROMPT, "response": " She ran.", "preferences": {"cheerful": 6}});
    let kl = |body: &Value| number(&server.ok("/v1/score", body)["totals"]["kl"]);
    let free = kl(&scored);
    assert!(kl(&with(scored.clone(), &json!({"guidance": {"max_kl": 0.01}}))) < free);
    assert_eq!(kl(&scored), free);
    // Only the base's likeliest token is plausible.
    let base = server.greedy(PROMPT, 12, &json!({"cheerful": 0}));
    let text = |plausible: f64| {
        let limits = json!({"guidance": {"plausible": plausible}, "preferences": {"cheerful": -8}});
        Door { path: TEXT, stream: false }.ask(&server, &with(strong.clone(), &limits)).text
    };
    assert_eq!(text(1.0), base);
    assert_ne!(text(1e-9), base);
}

#[test]
fn limits_of_the_configuration_stay_where_a_request_gives_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("prefs.yaml");
    let models = root().join("models");
    let yaml = format!(
        "base: {{model: {0}/base.gguf}}\narms: {{cheerful: {{model: {0}/base.gguf, lora: {0}/arm-cheerful.gguf}}}}\nguidance: {{max_kl: 0.05}}\n",
        models.display()
    );
    std::fs::write(&config, yaml).expect("written");
    let server = Serve::start(&["--config", config.to_str().expect("a path"), "--parallel", "1"]);
    let body = json!({"prompt": PROMPT, "max_tokens": 6, "temperature": 0, "return_rewards": true, "preferences": {"cheerful": 6}});
    let most = |extra: &Value| {
        let rewards = Door { path: TEXT, stream: false }.ask(&server, &with(body.clone(), extra)).rewards;
        rewards.iter().map(|reward| number(&reward["kl"])).fold(0.0, f64::max)
    };
    let plausible = with(body.clone(), &json!({"guidance": {"plausible": 0.1}}));
    let rewards = Door { path: TEXT, stream: false }.ask(&server, &plausible).rewards;
    assert!(rewards.iter().all(|reward| reward["lambda"].is_number()), "the other limit stays");
    assert!(most(&json!({"guidance": {"max_kl": 100}})) > 0.06);
    assert!(most(&json!({})) <= 0.0501);
}

#[test]
fn a_wrong_limit_is_named() {
    let server = Serve::demo(&[]);
    for path in ["/v1/completions", "/completion", "/v1/chat/completions", "/v1/score"] {
        let request = json!({"prompt": "x", "response": "y", "messages": [{"role": "user", "content": "x"}]});
        let keep: &[&str] = match path {
            "/v1/score" => &["prompt", "response"],
            "/v1/chat/completions" => &["messages"],
            _ => &["prompt"],
        };
        let mut body = request;
        body.as_object_mut().expect("an object").retain(|name, _| keep.contains(&name.as_str()));
        for (limits, param, words) in [
            (json!({"max_kl": -1}), "guidance.max_kl", "at least 0, got -1"),
            (json!({"max_kl": "x"}), "guidance.max_kl", "a number"),
            (json!({"plausible": 0}), "guidance.plausible", "above 0 and at most 1"),
            (json!({"plausible": 2}), "guidance.plausible", "above 0 and at most 1"),
            (json!({"max_lk": 2}), "guidance.max_lk", "did you mean \"max_kl\"?"),
            (json!(3), "guidance", "an object"),
        ] {
            let body = with(body.clone(), &json!({"guidance": limits}));
            let message = refused(&server, path, &body, param);
            assert!(message.contains(words), "{path} {message}");
        }
    }
}

#[test]
fn a_persona_of_a_request_is_a_persona_of_the_configuration() {
    let (own, configured) = (Serve::demo(&[]), Serve::demo(&["--persona", &format!("merry={HAPPY}")]));
    let plain =
        json!({"prompt": PROMPT, "max_tokens": 16, "temperature": 0, "logprobs": 2, "preferences": {"cheerful": 0}});
    let merry = with(plain.clone(), &json!({"preferences": {"cheerful": 0, "merry": 1.5}, "return_rewards": true}));
    let brought = with(merry.clone(), &json!({"personas": [{"name": "merry", "system": HAPPY}]}));
    let base = own.ok("/v1/completions", &plain);
    let expected = configured.ok("/v1/completions", &merry);
    let found = own.ok("/v1/completions", &brought);
    same(&found, &expected);
    assert_ne!(text_of(&found), text_of(&base), "the persona acts");
    let reward = &found["choices"][0]["rewards"][0];
    let names = |object: &Value| object.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&reward["arms"]), ["cheerful", "talkative", "plain", "merry"]);
    assert_eq!(reward["references"]["merry"], reward["base"], "less the base");
    assert_eq!(found["genarm"]["weights"], json!({"cheerful": 0.0, "talkative": 0.0, "plain": 0.0, "merry": 1.5}));

    // Weights may stand in the persona; several may come; order is that of the request.
    let two = json!({"personas": [{"name": "dull", "system": "Nothing happens.", "weight": 0}, {"name": "merry", "system": HAPPY, "weight": 1.5}]});
    same(&own.ok("/v1/completions", &with(plain.clone(), &two)), &expected);
    // The next request has none.
    same(&own.ok("/v1/completions", &plain), &base);
    let unknown = with(plain.clone(), &json!({"preferences": {"merry": 1}}));
    refused(&own, "/v1/completions", &unknown, "preferences.merry");

    // In a conversation, through the template, and in a score.
    let chat = |server: &Serve, body: &Value| Door { path: CHAT, stream: true }.ask(server, body);
    let whole = |answer: super::doors::Answer| (answer.text, answer.names);
    assert_eq!(whole(chat(&own, &brought)), whole(chat(&configured, &merry)));
    let score = json!({"prompt": PROMPT, "response": " She was happy.", "preferences": {"merry": 2}});
    let expected = configured.ok("/v1/score", &score);
    let found = own.ok("/v1/score", &with(score, &json!({"personas": [{"name": "merry", "system": HAPPY}]})));
    let [a, b] = [&found, &expected].map(|answer| number(&answer["totals"]["arms"]["merry"]));
    assert!((a - b).abs() < 0.1, "{a} {b}");
    assert_eq!(names(&found["totals"]["arms"]), names(&expected["totals"]["arms"]));
}

#[test]
fn places_for_personas_are_no_arms_to_the_outside() {
    let server = Serve::demo(&[]);
    let arms = server.get("/v1/preferences").1["arms"].as_array().map(Vec::len);
    assert_eq!(arms, Some(3));
    assert!(!server.get("/props").1.to_string().contains("persona"));
    let body = json!({"prompt": PROMPT, "max_tokens": 2, "temperature": 0, "return_rewards": true});
    let answer = server.ok("/v1/completions", &body);
    assert!(!answer.to_string().contains("persona"), "{answer}");
    assert!(answer["choices"][0]["rewards"][0].get("references").is_none());
    let named = with(body.clone(), &json!({"preferences": {"persona 1": 1}}));
    let message = refused(&server, TEXT, &named, "preferences.persona 1");
    assert!(message.contains("cheerful, talkative, plain") && !message.contains("persona 2"), "{message}");
    // The file names the same ARMs as before.
    server.signal("HUP");
    for _ in 0..1000 {
        if server.talk.lock().expect("a lock").contains("reloaded weights") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let talk = server.talk.lock().expect("a lock").clone();
    assert!(talk.contains("reloaded weights"), "{talk}");
    let brought = json!({"personas": [{"name": "merry", "system": HAPPY}]});
    assert_eq!(server.post(TEXT, &with(body, &brought)).0, 200);
}

#[test]
fn a_wrong_persona_is_named() {
    let server = Serve::demo(&[]);
    let one = |extra: Value| json!([with(json!({"name": "merry", "system": HAPPY}), &extra)]);
    let merry = || json!({"name": "merry", "system": HAPPY});
    for (personas, param, words) in [
        (json!({}), "personas", "a list of personas"),
        (json!([3]), "personas[0]", "an object"),
        (json!([{"system": HAPPY}]), "personas[0].name", "is missing"),
        (json!([{"name": "merry"}]), "personas[0].system", "is missing"),
        (one(json!({"name": ""})), "personas[0].name", "cannot name an ARM"),
        (one(json!({"name": "a=b"})), "personas[0].name", "cannot name an ARM"),
        (one(json!({"name": "a\nb"})), "personas[0].name", "personas[0].name"),
        (one(json!({"name": "x".repeat(2000)})), "personas[0].name", "too long"),
        (one(json!({"name": "cheerful"})), "personas[0].name", "already"),
        (json!([merry(), merry()]), "personas[1].name", "already"),
        (one(json!({"system": " "})), "personas[0].system", "bytes"),
        (one(json!({"system": "x".repeat(20_000)})), "personas[0].system", "16384 bytes"),
        (one(json!({"weight": 101})), "personas[0].weight", "between -100 and 100"),
        (one(json!({"wieght": 1})), "personas[0].wieght", "did you mean"),
        (json!([merry(), with(merry(), &json!({"name": "b"})), with(merry(), &json!({"name": "c"}))]), "personas", "2"),
    ] {
        let body = json!({"prompt": "x", "max_tokens": 1, "personas": personas});
        let message = refused(&server, TEXT, &body, param);
        assert!(message.contains(words), "{message}");
    }
    let without = Serve::demo(&["--max-personas", "0"]);
    let body = json!({"prompt": "x", "max_tokens": 1, "personas": [merry()]});
    assert!(refused(&without, TEXT, &body, "personas").contains("--max-personas"));
}
