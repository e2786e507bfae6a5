use super::*;

fn talk() -> Conversation {
    let mut talk = Conversation::new(Some("Be kind.".into()));
    talk.push_user("one");
    talk.push_assistant("1");
    talk.push_user("two");
    talk.push_assistant("2");
    talk
}

#[test]
fn undo_takes_back_a_question_with_its_answer() {
    let mut talk = talk();
    assert_eq!(talk.undo().as_deref(), Some("two"));
    assert_eq!(talk.turns().len(), 2);
    talk.push_user("three");
    assert_eq!(talk.undo().as_deref(), Some("three"), "a question without an answer goes too");
    assert_eq!(talk.undo().as_deref(), Some("one"));
    assert_eq!(talk.undo(), None);
    assert_eq!(talk.messages(), [Message::new("system", "Be kind.")]);
}

#[test]
fn retry_takes_back_the_answer_alone() {
    let mut talk = talk();
    assert!(talk.retry());
    assert_eq!(talk.turns().last(), Some(&Message::new("user", "two")));
    assert!(!Conversation::default().retry());
}

#[test]
fn a_saved_conversation_loads_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.json");
    let mut talk = talk();
    talk.weights = Some([("zeal".to_owned(), 1.5), ("calm".to_owned(), -0.25)].into_iter().collect());
    talk.save(&file).unwrap();
    talk.save(&file).unwrap();
    let loaded = Conversation::load(&file).unwrap();
    assert_eq!(loaded, talk);
    assert_eq!(loaded.weights.unwrap().get_index(0), Some((&"zeal".to_owned(), &1.5)));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn what_is_not_a_conversation_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.json");
    let wrong = [
        "",
        "GGUF",
        "[]",
        "{}",
        r#"{"messages":[{"role":"assistant","content":"first"}]}"#,
        r#"{"messages":[],"weights":{"calm":1e999}}"#,
        r#"{"messages":[],"sistem":"x"}"#,
    ];
    for text in wrong {
        std::fs::write(&file, text).unwrap();
        let error = Conversation::load(&file).unwrap_err();
        assert!(matches!(error, ConversationError::Invalid { .. }), "{text}: {error}");
        assert_eq!(error.to_string().lines().count(), 1);
    }
    assert!(matches!(Conversation::load(folder.path()), Err(ConversationError::Read { .. })));
    assert!(matches!(talk().save(folder.path()), Err(ConversationError::Write { .. })));
}
