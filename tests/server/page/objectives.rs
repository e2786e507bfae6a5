//! Sliders for the objectives of an ARM.

use serde_json::json;

use super::{answered, driver, js, open, set};
use crate::parm::Folder;
use crate::server::stream::runtime;

#[test]
fn each_objective_has_a_slider_within_its_range_that_the_next_answer_follows() {
    let Some(driver) = driver() else { return };
    let folder = Folder::new();
    let server = folder.serve(&["--parallel", "1", "--chat-template", "raw"]);
    runtime().block_on(async {
        let page = open(&driver, &server, (1280, 900), false).await;
        let sliders = "return [...document.querySelectorAll('.slider input[type=range]')].map(s => [s.dataset.arm, s.min, s.max, s.value])";
        let expected = json!([
            ["taste", "-3", "3", "2"],
            ["taste.helpful", "0", "1", "1"],
            ["taste.harmless", "0", "1", "0"]
        ]);
        assert_eq!(js(&page, sliders).await, expected);
        let colours = js(&page, "return [...document.querySelectorAll('#colour option')].map(o => o.value)").await;
        assert_eq!(colours, json!(["", "taste"]), "an objective has no rewards of its own");
        set(&page, "[type=range][data-arm='taste.helpful']", "0.25").await;
        set(&page, "[aria-label='taste.harmless, exact weight']", "7").await;
        answered(&page, 11, 12).await;
        let used = js(&page, "return state.turns.at(-1).guided.weights").await;
        assert_eq!(used, json!({"taste": 2, "taste.helpful": 0.25, "taste.harmless": 1}), "kept within the range");
        let error = js(&page, "return state.turns.at(-1).guided.error").await;
        assert_eq!(error, json!(null));
        page.close().await.expect("closed");
    });
}
