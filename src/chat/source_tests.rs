use super::*;

#[test]
fn a_generation_block_becomes_a_scope_that_writes_nothing() {
    assert_eq!(prepare("a{% generation %}b{% endgeneration %}c"), "a{% with %}b{% endwith %}c");
    assert_eq!(prepare("{%- generation -%}\nb\n{%+endgeneration+%}"), "{%- with -%}\nb\n{%+endwith+%}");
    assert_eq!(prepare("{%-\n  generation\n-%}b{%-   endgeneration%}"), "{%-\n  with\n-%}b{%-   endwith%}");
}

#[test]
fn the_word_elsewhere_stays_as_it_is() {
    for source in [
        "{{ '{% generation %}' }}",
        r#"{{ "\"{% generation %}" ~ '\\' }}"#,
        "{# {% generation %} #}{% set generation = 1 %}{{ generation }}",
        "{% raw %}{% generation %}{{ ' }}{% endraw %}",
        "{%- raw -%}{% generation %}{%- endraw -%}{{ x }}",
        "a { b {% if generation %}{% endif %} generation",
        "{{ {'a': {'b': '{% generation %}'}} }}",
        "{% generation",
        "{",
    ] {
        assert_eq!(prepare(source), source);
    }
    let after = "{{ {'a': {'b': 1}}['a'] }}{% raw %}'{% endraw %}{# ' #}{% generation %}";
    assert!(prepare(after).ends_with("{# ' #}{% with %}"), "{}", prepare(after));
}

#[test]
fn a_byte_order_mark_and_carriage_returns_vanish() {
    assert_eq!(prepare("\u{feff}a\r\nb\rc"), "a\nb\nc");
    assert_eq!(plain("\u{feff}a\r\nb\rc\u{feff}"), "a\nb\rc\u{feff}");
    assert!(matches!(plain("a\nb"), Cow::Borrowed("a\nb")));
}
