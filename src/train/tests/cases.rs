//! The columns and words that people's data has, and what is made of each row.

use super::data::{load, load_within, text};
use super::*;
use crate::train::TrainError;
use crate::train::pairs::LINE_MAX;
use crate::train::settings::ObjectiveName;
use std::io::Write;

/// Prompt, chosen and rejected of every row.
fn rows(name: &str, bytes: &[u8], wire: Wire) -> Vec<[String; 3]> {
    let (examples, _) = load_within(400, name, bytes, wire).unwrap();
    examples.iter().map(|e| [text(&e.prompt), text(&e.chosen), text(&e.rejected)]).collect()
}

fn case(name: &str) -> Vec<[String; 3]> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/train/cases").join(name);
    rows(name, &std::fs::read(path).unwrap(), Wire::default())
}

fn row(prompt: &str, chosen: &str, rejected: &str) -> [String; 3] {
    [prompt, chosen, rejected].map(String::from)
}

#[test]
fn the_columns_of_well_known_sets_are_read() {
    let uf = case("uf.jsonl");
    assert_eq!(uf[3], row("\n\nHuman: q3\n\nAssistant:", " good 3", " bad 3"));
    let orca = case("orca.jsonl");
    assert_eq!((orca.len(), &orca[7]), (8, &row("s\n\nHuman: q7\n\nAssistant:", " a", " b")));
    let pirate = "You are a pirate.\n\nHuman: Tom went to the garden.\n\nAssistant:";
    assert_eq!(case("sysfield.jsonl")[1], row(pirate, "  Tom was happy and smiled.", "  Tom was sad and cried."));
    assert_eq!(case("hhmsg.jsonl"), case("hhtext.jsonl"), "a conversation and its transcript");
    assert_eq!(case("bom.jsonl")[..3], case("three.jsonl")[..], "a byte-order mark");
}

#[test]
fn what_was_asked_stands_in_any_of_the_usual_columns() {
    let user = "\n\nHuman: Hi\n\nAssistant:";
    let pirate = "Pirate.\n\nHuman: Hi\n\nAssistant:";
    let cases = [
        // Texts without any markup stand for themselves.
        (r#"{"prompt":"Hi","chosen":"y","rejected":"n"}"#, "Hi", "y"),
        (r#"{"prompt":"Hi","system":"Pirate.","chosen":"y","rejected":"n"}"#, pirate, " y"),
        (r#"{"prompt":"Hi","system_prompt":"Pirate.","chosen":"y","rejected":"n"}"#, pirate, " y"),
        // A column for it makes the row a conversation, like its neighbours that fill the column.
        (r#"{"prompt":"Hi","system":"","chosen":"y","rejected":"n"}"#, user, " y"),
        (r#"{"prompt":"Hi","system":null,"chosen":"y","rejected":"n"}"#, user, " y"),
        (r#"{"question":"Hi","chosen":"y","rejected":"n"}"#, user, " y"),
        (r#"{"system":"Pirate.","input":"Hi","chosen":"y","rejected":"n"}"#, pirate, " y"),
        (r#"{"instruction":"Hi","input":"","chosen":"y","rejected":"n"}"#, user, " y"),
        (
            r#"{"instruction":"Add.","input":"1 1","chosen":"y","rejected":"n"}"#,
            "\n\nHuman: Add.\n1 1\n\nAssistant:",
            " y",
        ),
        (
            r#"{"instruction":"Hi","history":[["A","B"]],"chosen":"y","rejected":"n"}"#,
            "\n\nHuman: A\n\nAssistant: B\n\nHuman: Hi\n\nAssistant:",
            " y",
        ),
        (
            r#"{"conversations":[{"from":"human","value":"Hi"}],"system":"Pirate.","chosen":{"from":"gpt","value":"y"},"rejected":{"from":"gpt","value":"n"}}"#,
            pirate,
            " y",
        ),
        (
            r#"{"conversations":[{"from":"system","value":"Pirate."},{"from":"human","value":"Hi"}],"system":"Pirate.","chosen":"y","rejected":"n"}"#,
            pirate,
            " y",
        ),
        (r#"{"prompt":[{"role":"user","content":"Hi"}],"chosen":"y","rejected":"n"}"#, user, " y"),
        (
            r#"{"prompt":"Hi","chosen":{"role":"assistant","content":"y"},"rejected":{"role":"assistant","content":"n"}}"#,
            user,
            " y",
        ),
        (
            r#"{"prompt":"Hi","chosen":[{"role":"assistant","content":"y"}],"rejected":[{"role":"assistant","content":"n"}]}"#,
            user,
            " y",
        ),
        (
            r#"{"prompt":"Hi","chosen":[{"role":"system","content":"Pirate."},{"role":"assistant","content":"y"}],"rejected":[{"role":"system","content":"Pirate."},{"role":"assistant","content":"n"}]}"#,
            pirate,
            " y",
        ),
        // The prompt repeated within the conversations.
        (
            r#"{"prompt":[{"role":"user","content":"Hi"}],"chosen":[{"role":"user","content":"Hi"},{"role":"assistant","content":"y"}],"rejected":[{"role":"user","content":"Hi"},{"role":"assistant","content":"n"}]}"#,
            user,
            " y",
        ),
        (
            r#"{"prompt":"Hi","system":"Pirate.","chosen":[{"role":"user","content":"Hi"},{"role":"assistant","content":"y"}],"rejected":[{"role":"user","content":"Hi"},{"role":"assistant","content":"n"}]}"#,
            pirate,
            " y",
        ),
        (
            r#"{"prompt":"Hi","chosen":[{"role":"user","content":[{"type":"text","text":"Hi"}]},{"role":"assistant","content":"y"}],"rejected":[{"role":"user","content":"Hi"},{"role":"assistant","content":"n"}]}"#,
            user,
            " y",
        ),
        (
            r#"{"system":"Pirate.","chosen":"\n\nHuman: Hi\n\nAssistant:y","rejected":"\n\nHuman: Hi\n\nAssistant:n"}"#,
            pirate,
            "y",
        ),
    ];
    for (line, prompt, chosen) in cases {
        let want = row(prompt, chosen, &chosen.replace('y', "n"));
        assert_eq!(rows("p.jsonl", line.as_bytes(), Wire::default()), [want], "{line}");
    }
}

#[test]
fn texts_for_next_token_training_stand_in_any_of_the_usual_columns() {
    let user = "\n\nHuman: Hi\n\nAssistant:";
    let cases = [
        (r#"{"text":"y"}"#, "", "y"),
        (r#"{"prompt":"Hi","completion":"y"}"#, "Hi", "y"),
        (r#"{"instruction":"Hi","input":"","output":"y"}"#, user, " y"),
        (r#"{"question":"Hi","answer":"y"}"#, user, " y"),
        (r#"{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"y"}]}"#, user, " y"),
        (
            r#"{"system":"Pirate.","conversations":[{"from":"human","value":"Hi"},{"from":"gpt","value":"y"}]}"#,
            "Pirate.\n\nHuman: Hi\n\nAssistant:",
            " y",
        ),
        (r#"{"prompt":"Hi","chosen":"y","rejected":"n"}"#, "Hi", "y"),
        (r#"{"question":"Hi","chosen":"y"}"#, user, " y"),
    ];
    for (line, prompt, chosen) in cases {
        let wire = Wire { objective: Some(ObjectiveName::Sft), ..Wire::default() };
        assert_eq!(rows("t.jsonl", line.as_bytes(), wire), [row(prompt, chosen, "")], "{line}");
    }
}

#[test]
fn data_that_is_no_pairs_is_refused_by_what_it_is() {
    let cases = [
        (r#"{"prompt":"Hi","completion":"y","label":true}"#, "KTO"),
        (r#"{"messages":[],"kto_tag":true}"#, "KTO"),
        (r#"{"prompt":"Hi","response_0":"y","response_1":"n","better_response_id":0}"#, "better_response_id"),
        (r#"{"history":"Hi","human_ref_A":"y","human_ref_B":"n","labels":1}"#, "human_ref_A"),
        (r#"{"prompt":"Hi","completions":[{"response":"y"}]}"#, "ranked"),
        (r#"{"text":"Hi"}"#, "--objective sft"),
        (r#"{"prompt":"Hi","chosen":"y"}"#, "`rejected` is missing"),
        (r#"{"prompt":"Hi","chosen":null,"rejected":"n"}"#, "`chosen` is missing"),
        (r#"{"chosen":"y","rejected":"n"}"#, "no `prompt`"),
        (r#"{"prompt":7,"chosen":"y","rejected":"n"}"#, "`prompt` must be"),
        (r#"{"prompt":"Hi","tools":"[{}]","chosen":"y","rejected":"n"}"#, "`tools`"),
        (
            r#"{"prompt":"Hi","chosen":[{"role":"tool","content":"y"}],"rejected":[{"role":"tool","content":"n"}]}"#,
            "must be the assistant's",
        ),
        (
            r#"{"prompt":"Hi","chosen":[{"role":"user","content":"y"}],"rejected":[{"role":"user","content":"n"}]}"#,
            "assistant's",
        ),
        (
            r#"{"chosen":[{"role":"assistant","content":"y"}],"rejected":[{"role":"assistant","content":"n"}]}"#,
            "share no question",
        ),
        (
            r#"{"system":"A","prompt":[{"role":"system","content":"B"},{"role":"user","content":"Hi"}],"chosen":"y","rejected":"n"}"#,
            "two system prompts",
        ),
        ("[1]", "not a JSON object"),
    ];
    for (line, hint) in cases {
        let message = load("p.jsonl", line.as_bytes(), Wire::default()).unwrap_err().to_string();
        assert!(message.contains("p.jsonl:1: ") && message.contains(hint), "{line}: {message}");
    }
}

#[test]
fn pairs_without_a_difference_are_counted_in_every_form() {
    let alike = [
        r#"{"prompt":"Hi","chosen":"y","rejected":"y"}"#,
        r#"{"chosen":[{"role":"user","content":"Hi"},{"role":"assistant","content":"y"}],"rejected":[{"role":"user","content":"Hi"},{"role":"assistant","content":"y"}]}"#,
        r#"{"prompt":[{"role":"user","content":"Ho"}],"chosen":[{"role":"assistant","content":"y"}],"rejected":[{"role":"assistant","content":"y"}]}"#,
        r#"{"chosen":"\n\nHuman: Hi\n\nAssistant: y","rejected":"\n\nHuman: Hi\n\nAssistant: y"}"#,
        r#"{"conversations":[{"from":"human","value":"Hi"}],"chosen":{"from":"gpt","value":"y"},"rejected":{"from":"gpt","value":"y"}}"#,
    ];
    let one = r#"{"prompt":"Hi","chosen":"y","rejected":"n"}"#;
    let (examples, counts) =
        load("p.jsonl", [&alike[..], &[one]].concat().join("\n").as_bytes(), Wire::default()).unwrap();
    assert_eq!((examples.len(), counts.identical, counts.used), (1, alike.len(), 1), "{counts}");
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn byte_order_marks_and_windows_line_ends_change_nothing() {
    let lines = "{\"prompt\":\"Hi\",\"chosen\":\"y\",\"rejected\":\"n\"}\n\n{\"prompt\":\"Ho\",\"chosen\":\"y\",\"rejected\":\"n\"}\n";
    let array = format!("\n [{}]", lines.trim().replace("\n\n", ",\n"));
    let want = rows("p.jsonl", lines.as_bytes(), Wire::default());
    for text in [lines, &array] {
        for text in [text.to_owned(), text.replace('\n', "\r\n"), format!("\u{feff}{}", text.replace('\n', "\r\n"))] {
            assert_eq!(rows("p.jsonl", text.as_bytes(), Wire::default()), want, "{text:?}");
            assert_eq!(rows("p.jsonl.gz", &gzip(text.as_bytes()), Wire::default()), want, "{text:?}");
        }
    }
    let sft = || Wire { objective: Some(ObjectiveName::Sft), ..Wire::default() };
    // A text may begin like JSON.
    let plain = "[1] one\ntwo\n\n\nthree\n";
    let want = [row("", "[1] one\ntwo", ""), row("", "three", "")];
    for text in [plain.to_owned(), format!("\u{feff}{}", plain.replace('\n', "\r\n"))] {
        assert_eq!(rows("t.txt", text.as_bytes(), sft()), want);
        assert_eq!(rows("t.TXT.gz", &gzip(text.as_bytes()), sft()), want);
    }
}

#[test]
fn a_line_without_an_end_is_an_error_with_its_bound() {
    let good = "{\"prompt\":\"Hi\",\"chosen\":\"y\",\"rejected\":\"n\"}";
    let long = format!("{{\"prompt\":\"{}\"}}", "x".repeat(LINE_MAX as usize));
    let lines = format!("{long}\n{good}\n");
    let message = load("p.jsonl", lines.as_bytes(), Wire::default()).unwrap_err().to_string();
    assert!(message.contains("p.jsonl:1: longer than 16 MiB"), "{message}");
    // What comes after it is read.
    let (examples, counts) = load("p.jsonl", lines.as_bytes(), Wire { skip_bad: true, ..Wire::default() }).unwrap();
    assert_eq!((examples.len(), counts.bad), (1, 1));
    let array = format!("[{good},{long}]");
    let message = load("p.json", array.as_bytes(), Wire::default()).unwrap_err().to_string();
    assert!(message.contains("element 2: longer than 16 MiB"), "{message}");
}

#[test]
fn a_file_that_inflates_without_measure_is_an_error() {
    // A hundred megabytes of blank lines in a hundred kilobytes; longer ones behave alike.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let blank = vec![b'\n'; 1 << 20];
    for _ in 0..100 {
        encoder.write_all(&blank).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    let message = load("p.jsonl.gz", &bomb, Wire::default()).unwrap_err().to_string();
    assert!(message.contains("inflates to more than 200 times"), "{message}");
    let cut = &gzip(b"{\"prompt\":\"Hi\",\"chosen\":\"y\",\"rejected\":\"n\"}\n")[..20];
    assert!(matches!(load("p.jsonl.gz", cut, Wire::default()), Err(TrainError::Io { .. } | TrainError::Data { .. })));
}

#[test]
fn a_file_that_is_no_utf_8_text_is_refused_by_what_it_is() {
    let sft = || Wire { objective: Some(ObjectiveName::Sft), ..Wire::default() };
    let cases: [(&[u8], &str); 4] = [
        (b"PAR1....", "Parquet"),
        (b"PK\x03\x04..", "zip"),
        (&[0xff, 0xfe, b'{', 0], "UTF-16"),
        (&[0xfe, 0xff, 0, b'{'], "UTF-16"),
    ];
    for (bytes, what) in cases {
        let message = load("p.jsonl", bytes, Wire::default()).unwrap_err().to_string();
        assert!(message.contains(what), "{message}");
    }
    let message = load("t.txt", b"good\n\n\xff\xfebad\n", sft()).unwrap_err().to_string();
    assert!(message.contains("t.txt:3: not UTF-8"), "{message}");
}

#[test]
fn a_prompt_is_cut_to_its_end_behind_its_first_token() {
    let long = format!("{{\"prompt\":\"{}\",\"chosen\":\"y\",\"rejected\":\"n\"}}", "abc".repeat(30));
    for max_prompt in [1, 2, 10] {
        let wire = Wire {
            overlong: Some(crate::train::settings::Overlong::Truncate),
            max_prompt: Some(max_prompt),
            ..Wire::default()
        };
        let (examples, _) = load("p.jsonl", long.as_bytes(), wire).unwrap();
        let end = &"abc".repeat(30)[91 - max_prompt..];
        assert_eq!((examples[0].prompt[0], text(&examples[0].prompt)), (1, end.to_owned()));
    }
}
