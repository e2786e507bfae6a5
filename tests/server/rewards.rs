//! `return_rewards`: what every ARM says about every token, whatever its weight.

use serde_json::{Value, json};

use super::bytes::with;
use super::doors::{CHAT, Door, TEXT};
use super::{PROMPT, Serve};

const ARMS: [&str; 3] = ["cheerful", "talkative", "plain"];

#[test]
fn all_arms_are_reported_also_those_of_weight_0() {
    let server = Serve::demo(&[]);
    for preferences in [
        json!({"cheerful": 0, "talkative": 0, "plain": 0}),
        json!({"cheerful": 0.5, "talkative": 0, "plain": 0}),
        json!({"cheerful": 0, "talkative": -0.5, "plain": 0.25}),
    ] {
        let body = json!({"prompt": PROMPT, "max_tokens": 6, "temperature": 0, "preferences": preferences, "return_rewards": true});
        let expected = {
            let text = Door { path: TEXT, stream: false }.ask(&server, &body).text;
            server.ok("/v1/score", &json!({"prompt": PROMPT, "response": text, "preferences": preferences}))
        };
        for path in [CHAT, TEXT] {
            for stream in [false, true] {
                let rewards = Door { path, stream }.ask(&server, &body).rewards;
                assert_eq!(rewards.len(), 6, "{path} {preferences}");
                for (reward, score) in rewards.iter().zip(expected["tokens"].as_array().expect("tokens")) {
                    let arms = reward["arms"].as_object().expect("an object");
                    assert_eq!(arms.keys().collect::<Vec<_>>(), ARMS, "{path} {preferences}");
                    for arm in ARMS {
                        let [said, scored] = [&arms[arm], &score["arms"][arm]].map(|x| x.as_f64().expect("a number"));
                        assert!((said - scored).abs() < 0.05, "{arm}: {said} {scored}, {path} {preferences}");
                    }
                    assert!(arms["cheerful"] != arms["talkative"], "each speaks for itself");
                }
            }
        }
    }
}

#[test]
fn an_arm_without_weight_changes_no_text_and_one_with_weight_does() {
    let server = Serve::demo(&[]);
    let text = |extra: Value| {
        let body = json!({"prompt": PROMPT, "max_tokens": 24, "temperature": 0, "profile": "neutral"});
        Door { path: TEXT, stream: false }.ask(&server, &with(body, &extra)).text
    };
    let base = text(json!({}));
    assert_eq!(text(json!({"return_rewards": true})), base);
    assert_ne!(text(json!({"preferences": {"talkative": 1.5}, "return_rewards": true})), base);
}
