//! Rows that do not say `chosen` and `rejected`: two responses with a label per objective, or responses with scores.

use serde_json::{Map, Value};
use std::mem::take;

type Object = Map<String, Value>;

/// The columns of two responses.
const TWO: [[&str; 2]; 4] = [
    ["response_0", "response_1"],
    ["response_1", "response_2"],
    ["response_a", "response_b"],
    ["human_ref_A", "human_ref_B"],
];

/// Turns rows into pairs by what a column says. Scored responses to one prompt stand in one row, or in rows that follow
/// each other.
#[derive(Debug, Default)]
pub(super) struct Preference {
    /// What is preferred: a column, or `helpful` and `harmless` of PKU-SafeRLHF.
    by: String,
    /// Rows of one prompt.
    group: Vec<Object>,
}

impl Preference {
    pub fn new(by: &str) -> Self {
        Self { by: by.to_owned(), group: Vec::new() }
    }

    /// The pair that is complete with this row, if any. Ties give none.
    ///
    /// # Errors
    ///
    /// What is wrong with the row, by the names of its columns.
    pub fn push(&mut self, value: Value) -> Result<Option<Value>, String> {
        let Value::Object(mut row) = value else { return Err("not a JSON object".into()) };
        if let Some(two) = TWO.iter().find(|two| two.iter().all(|key| row.contains_key(*key))) {
            return Ok(self
                .labelled(&row, two)?
                .map(|first| pair(&mut row, two[usize::from(!first)], two[usize::from(first)])));
        }
        if let Some(Value::Array(list)) = row.get("completions").or_else(|| row.get("responses")) {
            return self.listed(&list.clone(), row);
        }
        self.score(&row)?;
        let same = self.group.first().is_some_and(|first| asked(first) == asked(&row));
        let complete = if same { None } else { self.finish() };
        self.group.push(row);
        Ok(complete)
    }

    /// The pair of the last rows.
    pub fn finish(&mut self) -> Option<Value> {
        let rows = take(&mut self.group);
        let score = |row: &Object| self.score(row).unwrap_or(f64::NAN);
        let (best, worst) = extremes(&rows, score)?;
        let rejected = worst.get(response_key(worst)?)?.clone();
        let mut row = best.clone();
        let chosen = row.remove(response_key(best)?)?;
        row.extend([("chosen".to_owned(), chosen), ("rejected".to_owned(), rejected)]);
        Some(Value::Object(row))
    }

    /// Whether the first of two responses is the better one; `None` for a tie.
    fn labelled(&self, row: &Object, two: &[&str; 2]) -> Result<Option<bool>, String> {
        let column = match (self.by.as_str(), two[0]) {
            ("helpful", "response_0") if row.contains_key("better_response_id") => "better_response_id",
            ("harmless", "response_0") if row.contains_key("safer_response_id") => "safer_response_id",
            (name, _) => name,
        };
        let Some(value) = row.get(column) else { return Err(self.unknown(row)) };
        // `preference_strength` runs from −3 (the first is much better) to 3.
        let strength = column.contains("strength");
        match (value.as_i64().or_else(|| value.as_f64().map(|x| x as i64)), two[0]) {
            (Some(0), _) if strength => Ok(None),
            (Some(strong), _) if strength => Ok(Some(strong < 0)),
            // SHP: 1 where A is the better one. Elsewhere the number of the better response.
            (Some(label @ (0 | 1)), "human_ref_A") => Ok(Some(label == 1)),
            (Some(id), first) if first.ends_with(&id.to_string()) => Ok(Some(true)),
            (Some(id), _) if two[1].ends_with(&id.to_string()) => Ok(Some(false)),
            (Some(-1), _) => Ok(None),
            _ => match value.as_str().map(str::to_ascii_lowercase).as_deref() {
                Some("tie" | "both" | "none" | "") => Ok(None),
                Some(text) if two[0].ends_with(text) || text == two[0] => Ok(Some(true)),
                Some(text) if two[1].ends_with(text) || text == two[1] => Ok(Some(false)),
                _ => Err(format!("column `{column}` is {value}, which names neither `{}` nor `{}`", two[0], two[1])),
            },
        }
    }

    /// Responses with scores in one row, as UltraFeedback has them.
    fn listed(&self, list: &[Value], mut row: Object) -> Result<Option<Value>, String> {
        let rows: Vec<Object> = list.iter().filter_map(|one| one.as_object().cloned()).collect();
        rows.iter().try_for_each(|row| self.score(row).map(drop))?;
        let Some((best, worst)) = extremes(&rows, |row| self.score(row).unwrap_or(f64::NAN)) else { return Ok(None) };
        let text = |row: &Object| {
            let key = response_key(row).ok_or("a completion has no `response`")?;
            Ok::<_, String>(row[key].clone())
        };
        row.extend([("chosen".to_owned(), text(best)?), ("rejected".to_owned(), text(worst)?)]);
        Ok(Some(Value::Object(row)))
    }

    /// A number of a row: its column, or the rating of an annotation.
    fn score(&self, row: &Object) -> Result<f64, String> {
        let annotated = || row.get("annotations")?.get(&self.by)?.get("Rating");
        let value = row.get(&self.by).or_else(annotated).ok_or_else(|| self.unknown(row))?;
        let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|x: &f64| !x.is_nan());
        match (number, value) {
            (Some(number), _) => Ok(number),
            // Ratings that annotators left out.
            (None, Value::Null) => Ok(f64::NAN),
            (None, Value::String(text)) if matches!(text.as_str(), "N/A" | "") => Ok(f64::NAN),
            _ => Err(format!("column `{}` is {value}, not a number", self.by)),
        }
    }

    fn unknown(&self, row: &Object) -> String {
        let names = row.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        format!("--prefer {}: there is no such column; the row has {names}", self.by)
    }
}

/// Two responses of a row become `chosen` and `rejected`.
fn pair(row: &mut Object, chosen: &str, rejected: &str) -> Value {
    let (chosen, rejected) = (row.remove(chosen).unwrap_or_default(), row.remove(rejected).unwrap_or_default());
    // SHP calls the question so; elsewhere it is a list of turns.
    if let Some(Value::String(question)) = row.get("history").cloned() {
        row.remove("history");
        row.insert("prompt".to_owned(), question.into());
    }
    row.extend([("chosen".to_owned(), chosen), ("rejected".to_owned(), rejected)]);
    Value::Object(take(row))
}

/// The rows with the largest and the smallest score, where these differ; the first ones, where several have it.
fn extremes(rows: &[Object], score: impl Fn(&Object) -> f64) -> Option<(&Object, &Object)> {
    let rated = || rows.iter().map(|row| (score(row), row)).filter(|(score, _)| !score.is_nan());
    let (most, best) = rated().reduce(|a, b| if b.0 > a.0 { b } else { a })?;
    let (least, worst) = rated().reduce(|a, b| if b.0 < a.0 { b } else { a })?;
    (most > least).then_some((best, worst))
}

fn response_key(row: &Object) -> Option<&'static str> {
    ["response", "completion", "output", "answer"].into_iter().find(|key| row.contains_key(*key))
}

/// What tells the prompts of rows apart.
fn asked(row: &Object) -> Vec<Option<&Value>> {
    ["prompt", "instruction", "question", "query", "input", "conversations", "messages", "system"]
        .iter()
        .map(|key| row.get(*key))
        .collect()
}
