use super::*;

fn cell(text: &str, base: f32, arm: f32) -> Cell {
    let (base_best, guided_best) = ("sun".to_owned(), "moon".to_owned());
    Cell {
        token: 1,
        text: text.into(),
        base,
        guided: base,
        arms: vec![arm],
        against: vec![base],
        kl: 0.1,
        flipped: arm > -0.5,
        base_best,
        guided_best,
    }
}

fn response(title: &str, tokens: Vec<Cell>) -> Response {
    let sum = |f: &dyn Fn(&Cell) -> f32| tokens.iter().map(|c| f64::from(f(c))).sum::<f64>();
    let totals = Totals {
        n_tokens: tokens.len(),
        base: sum(&|c| c.base),
        guided: sum(&|c| c.guided),
        arms: vec![sum(&|c| c.arms[0])],
        kl: 0.5,
        n_flipped: 1,
    };
    Response { title: title.into(), rewards: vec![0.5 * totals.arms[0]], tokens, totals }
}

fn map() -> Heatmap {
    let arms = vec![ArmHead { name: "nice <b>".into(), weight: 1.0, beta_r: 0.5 }];
    let first = response("A", vec![cell(" happy", -4.0, -0.25), cell("<script>", -1.0, -3.0), cell(".\n", -1.0, -1.0)]);
    let second = response("B", vec![cell(" sad", -2.0, -6.0), cell("&amp;\u{0}", -1.0, -1.2)]);
    Heatmap { prompt: "Tom & \"Lily\"".into(), arms, responses: vec![first, second] }
}

#[test]
fn the_preferred_response_is_the_one_with_the_larger_reward() {
    let map = map();
    // ½ · (−4.25 + 7.2)
    assert!(matches!(map.preferred(0), Some((0, margin)) if (margin - 1.475).abs() < 1e-6));
    assert!(map.verdict(0).unwrap().contains("prefers A by 1.48"), "{:?}", map.verdict(0));
    let one = Heatmap { responses: map.responses[..1].to_vec(), ..map.clone() };
    assert_eq!((one.preferred(0), one.verdict(0)), (None, None));
    assert_eq!(map.extremes(0, 0, 5, false).iter().map(|e| e.0.text.as_str()).collect::<Vec<_>>(), [" happy"]);
    assert_eq!(map.extremes(0, 0, 5, true)[0].1, -2.0);
}

#[test]
fn without_colours_signs_say_the_same() {
    let plain = terminal(&map(), 0, Palette::None);
    assert!(plain.contains(" happy⁺⁺*<script>⁻⁻.⏎\n") && plain.contains(" sad⁻⁻"), "{plain}");
    assert!(!plain.contains('\u{1b}'));
    let coloured = terminal(&map(), 0, Palette::Full);
    assert!(coloured.contains("\u{1b}[") && !coloured.contains('⁺'), "{coloured}");
    assert!(plain.contains("prefers A") && legend(Palette::None).contains('⁺') && legend(Palette::Full).contains("+3"));
}

#[test]
fn hostile_tokens_are_text_in_every_picture() {
    let page = html(&map(), &serde_json::json!({"note": "</pre><script>alert(1)</script>"})).unwrap();
    assert_eq!(page.matches("<script>").count(), 1, "the page's own");
    assert!(page.contains("&lt;script&gt;") && page.contains("nice &lt;b&gt;"));
    let picture = svg(&map(), 0);
    assert!(
        !picture.contains("<script") && picture.contains("&lt;script&gt;") && picture.contains("&amp;amp;\u{FFFD}")
    );
    let controls = |c: char| c.is_control() && c != '\n';
    assert!(!picture.contains(controls), "no character that XML forbids");
}

#[test]
fn colours_run_from_red_over_white_to_blue() {
    assert_eq!(colour(0.0), [255; 3]);
    assert_eq!((colour(9.0), colour(-9.0)), ([67, 147, 195], [239, 120, 90]));
    assert_eq!(colour(f32::NAN), [255; 3]);
}
