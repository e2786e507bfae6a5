//! Finds the valid name nearest to a wrong one, for error messages.

/// Bytes of the longest text that is taken for a slip of the fingers.
const MAX_BYTES: usize = 64;

/// The candidate nearest to `wrong`, if one is near enough to be a likely slip of the fingers.
///
/// Near enough is an edit distance (swaps count once) of at most a third of the longer name, and at least one. The work
/// grows with the product of the lengths, so a text longer than any name has no nearest one.
pub(crate) fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest_within(wrong, candidates, |longer| (longer / 3).max(1))
}

/// As [`nearest`], where `most` gives the greatest edit distance from the length of the longer name.
pub(crate) fn nearest_within<'a>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    most: impl Fn(usize) -> usize,
) -> Option<&'a str> {
    if wrong.len() > MAX_BYTES {
        return None;
    }
    let wrong_lower = wrong.to_lowercase();
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&wrong_lower, &c.to_lowercase()), c))
        .filter(|(distance, c)| *distance <= most(wrong.chars().count().max(c.chars().count())))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

/// The end of an error message: `; did you mean "x"?`, else the list of what is valid.
pub(crate) fn suggestion<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(name) = nearest(wrong, candidates.clone()) {
        return format!("; did you mean \"{name}\"?");
    }
    let valid: Vec<_> = candidates.into_iter().collect();
    if valid.is_empty() { "; there are none".to_owned() } else { format!("; expected one of: {}", valid.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_answered_with_the_name_that_was_meant() {
        assert_eq!(nearest("wieght", ["model", "weight", "template"]), Some("weight"));
        assert_eq!(nearest("TOP_P", ["top_k", "top_p"]), Some("top_p"));
    }

    #[test]
    fn a_text_longer_than_any_name_is_not_compared() {
        let long = "weight".repeat(200_000);
        assert_eq!(nearest(&long, ["weight", long.as_str()]), None);
        assert_eq!(suggestion(&long, ["weight"]), "; expected one of: weight");
    }

    #[test]
    fn a_foreign_word_is_answered_with_the_list() {
        assert_eq!(nearest("banana", ["model", "weight"]), None);
        assert_eq!(suggestion("banana", ["model", "weight"]), "; expected one of: model, weight");
        assert_eq!(suggestion("banana", []), "; there are none");
    }
}
