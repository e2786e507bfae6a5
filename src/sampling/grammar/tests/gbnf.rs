//! Which grammars are read, and what they take.

use super::*;

fn grammar(text: &str) -> Arc<Compiled> {
    compile_gbnf(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

#[test]
fn every_construct_takes_what_it_says() {
    for (text, right, wrong) in [
        ("root ::= \"yes\" | \"no\"", &["yes", "no"][..], &["", "y", "yesno"][..]),
        ("root ::= [a-c]+", &["a", "abcabc"], &["", "d", "abd"]),
        ("root ::= [^a-c\\n]*", &["", "xyz é 日本"], &["a", "x\n"]),
        ("root ::= .", &["a", "é", "日", "\n"], &["", "ab"]),
        ("root ::= \"a\"? \"b\"{2} \"c\"{1,} \"d\"{0,2}", &["bbc", "abbccdd"], &["abc", "bb", "bbcddd"]),
        ("root ::= (\"a\" | \"b\" [0-9])* \"!\"", &["!", "ab1a!"], &["ab!", "a"]),
        ("root ::= \"\\x41\\u00e9\\U0001F600\\t\\\"\\\\\"", &["Aé😀\t\"\\"], &["A"]),
        ("root ::= [\\]\\-x-z]", &["]", "-", "y"], &["\\", "w"]),
        ("root ::= [a-]", &["a", "-"], &["b"]),
        ("root ::=", &[""], &["a"]),
        ("root ::= \"\" | \"a\"", &["", "a"], &["aa"]),
        ("root ::= (\"a\"*)*", &["", "aaa"], &["b"]),
        ("root ::= (\"a\"?)+ \"b\"", &["b", "aab"], &["", "a"]),
        ("root ::= x{0,3}\nx ::= \"a\" | \"\"", &["", "a", "aaa"], &["aaaa"]),
        ("root ::= [é-ü]+", &["éü", "ö"], &["e", "ý"]),
    ] {
        assert_takes(&grammar(text), right, wrong);
    }
}

#[test]
fn lines_comments_and_line_ends_are_read_as_llama_cpp_reads_them() {
    let text = "# first\r\nroot ::= (\r\n  \"a\" # in parentheses\n  x\n) |\n  \"c\"\n\n\nx ::= # what follows\n \"b\"";
    assert_takes(&grammar(text), &["ab", "c"], &["a"]);
    // The last definition of a name counts.
    assert_takes(&grammar("root ::= \"a\"\nroot ::= \"b\"\n"), &["b"], &["a"]);
    // As in llama.cpp, a bound above 2000 is none.
    assert_takes(&grammar("root ::= \"a\"{0,2001}"), &["", "aa"], &[]);
}

#[test]
fn recursion_goes_as_deep_as_the_text() {
    let nested = grammar("root ::= value\nvalue ::= \"[\" (value (\",\" value)*)? \"]\"");
    let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
    assert_takes(&nested, &["[]", "[[],[[]]]", &deep], &["[", "[,]", &deep[1..]]);
    let right = grammar("root ::= \"a\" root | \"b\"");
    assert!(takes(&right, &format!("{}b", "a".repeat(9000))));
}

#[test]
fn a_grammar_of_json_takes_json_and_nothing_else() {
    let json = grammar(
        r#"
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"#,
    );
    let right = [r#"{}"#, r#"{"a": [1, 2.5e-3, "é\n", {"b": null}], "c": true}"#];
    assert_takes(&json, &right, &["[]", r#"{"a" 1}"#, r#"{"a": "\x"}"#, "{\"a\": \"\n\"}"]);
}

#[test]
fn a_grammar_of_arithmetic_takes_expressions() {
    let text = r#"
root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
"#;
    assert_takes(&grammar(text), &["1+2=3\n", "(a *(b1 -2)) = c \nx=y\n"], &["1+=3\n", "1=2"]);
}

#[test]
fn tokens_are_matched_whole() {
    let compiled = grammar("root ::= <think> (!<[271]>)* <[271]> \"a\"");
    let mut grammar = Grammar::new(compiled);
    assert_eq!(masked(&mut grammar), [270]);
    grammar.accept(270).expect("within the bounds");
    assert_eq!(grammar.allows(271), Ok(true));
    assert_eq!(grammar.allows(269), Ok(true), "any other token, one without a text too");
    grammar.accept(98).expect("within the bounds");
    grammar.accept(271).expect("within the bounds");
    assert_eq!(masked(&mut grammar), [97, 299]);
}

#[test]
fn characters_may_be_split_between_tokens() {
    let compiled = grammar("root ::= [é日]+");
    let mut grammar = Grammar::new(compiled);
    for byte in "é日".bytes() {
        assert_eq!(grammar.allows(byte.into()), Ok(true), "{byte:x}");
        grammar.accept(byte.into()).expect("within the bounds");
    }
    assert_eq!(grammar.allows(0xA9), Ok(false), "no character begins with a continuation");
    assert_eq!(grammar.allows(261), Ok(true), "é as one token");
}

#[test]
fn a_fault_is_told_with_its_place_and_without_the_grammar() {
    for (text, words) in [
        ("", "no rule \"root\""),
        ("root :=", "line 1, column 6: expected \"::=\""),
        ("start ::= \"a\"", "no rule \"root\""),
        ("root ::= (", "line 1, column 11: expected \")\""),
        ("root ::= \"a", "closing quote"),
        ("root ::= other", "names a rule \"other\" that it does not define"),
        ("root ::= *", "something to repeat"),
        ("root ::= \"a\"{3,2}", "not below the least"),
        ("root ::= \"a\"{2001}", "at most 2000"),
        ("root ::= \"a\"{99999999999999999999999}", "at most 2000"),
        ("root ::= \"\\q\"", "escapes"),
        ("root ::= \"\\xg1\"", "2 hexadecimal digits"),
        ("root ::= \"\\x\u{e9}\"", "2 hexadecimal digits"),
        ("root ::= <unknown>", "one token"),
        ("root ::= \"a\" )", "end of the line"),
        (
            "root ::= \n2026-01-01T00:00:00Z ERROR genarm: forged \u{1b}[31mline\n (",
            "line 2, column 14: expected the end of the line",
        ),
    ] {
        let error = compile_gbnf(text).err().unwrap_or_else(|| panic!("{text}")).to_string();
        assert!(error.starts_with("grammar: ") && error.contains(words), "{text:?}: {error}");
        assert!(error.len() < 200 && !error.contains(['\n', '\u{1b}']), "{error:?}");
        assert!(!error.contains("forged"), "{error}");
    }
}

#[test]
fn left_recursion_is_found_through_whatever_can_be_empty() {
    for text in [
        "root ::= root \"a\" | \"b\"",
        "root ::= x\nx ::= e x \"a\" | \"b\"\ne ::= f\nf ::= \"\" | \"c\"\n",
        "root ::= a\na ::= b* c\nb ::= \"x\"\nc ::= a \"y\" | \"z\"",
        "root ::= (\"\" | \"a\"){0,3} root",
        "root ::= \"a\"{0} root",
        "root ::= \"\" root",
        "root ::= \"a\"\nx ::= y\ny ::= x",
    ] {
        let error = compile_gbnf(text).err().unwrap_or_else(|| panic!("{text}")).to_string();
        assert!(error.contains("left recursion: the rule"), "{text}: {error}");
    }
    // What takes something first is no left recursion.
    grammar("root ::= e \"a\" root | \"b\"\ne ::= \"\" | \"c\"");
}
