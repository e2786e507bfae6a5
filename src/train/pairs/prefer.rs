//! Rows that do not say `chosen` and `rejected`: two responses with a label per objective, or responses with scores.

use super::forms;
use crate::train::render::TrainingPrompt;
use serde_json::{Map, Value};

type Object = Map<String, Value>;

/// The columns of two responses.
const TWO: [[&str; 2]; 5] = [
    ["response_0", "response_1"],
    ["response_1", "response_2"],
    ["response_a", "response_b"],
    ["human_ref_A", "human_ref_B"],
    ["a", "b"],
];

/// The column with a label per objective: `{"helpful": "a", "harmless": "b"}`.
const PREFERRED: &str = "preferred";

/// The columns of a single response.
const ONE: [&str; 4] = ["response", "completion", "output", "answer"];

/// A pair, and the line of its first row.
pub(super) type Pair = (usize, Value);

/// Turns rows into pairs by what a column says. Scored responses to one prompt stand in one row, or in rows that follow
/// each other.
#[derive(Debug, Default)]
pub(super) struct Preference {
    /// What is preferred: a column, or `helpful` and `harmless` of PKU-SafeRLHF.
    by: String,
    /// Rows of one prompt that follow each other.
    group: Option<Group>,
    /// Rows, or groups of them, that prefer nothing.
    pub ties: usize,
}

#[derive(Debug)]
struct Group {
    line: usize,
    asked: TrainingPrompt,
    rows: Vec<Object>,
}

impl Preference {
    pub fn new(by: &str) -> Self {
        Self { by: by.to_owned(), ..Self::default() }
    }

    /// The pair of a row that says `chosen` and `rejected`, as those of an objective's own file may; any other goes to
    /// [`Self::push`].
    ///
    /// # Errors
    ///
    /// As [`Self::push`]'s.
    pub fn push_own(&mut self, line: usize, value: Value) -> Result<Option<Pair>, String> {
        let has = |key| value.get(key).is_some_and(|cell: &Value| !cell.is_null());
        if has("chosen") && has("rejected") && !has(PREFERRED) {
            Ok(Some((line, value)))
        } else {
            self.push(line, value)
        }
    }

    /// The pair that is complete with the row at `line`, if any. Ties give none.
    ///
    /// # Errors
    ///
    /// What is wrong with the row, by the names of its columns.
    pub fn push(&mut self, line: usize, value: Value) -> Result<Option<Pair>, String> {
        let Value::Object(row) = value else { return Err("not a JSON object".into()) };
        if let Some(two) = TWO.iter().find(|two| two.iter().all(|key| row.contains_key(*key))) {
            let pair = match self.first_is_better(&row, two)? {
                Some(true) => Some(labelled(row, two[0], two[1])),
                Some(false) => Some(labelled(row, two[1], two[0])),
                None => None,
            };
            return Ok(self.counted(pair).map(|pair| (line, pair)));
        }
        if let Some(Value::Array(list)) = ["completions", "responses"].iter().find_map(|key| row.get(*key)) {
            let pair = self.listed(list)?.map(|responses| with_pair(row.clone(), responses));
            return Ok(self.counted(pair).map(|pair| (line, pair)));
        }
        self.score(&row)?;
        response(&row)?;
        let asked = forms::prompt(&Value::Object(row.clone()))?;
        if let Some(group) = self.group.as_mut().filter(|group| group.asked == asked) {
            group.rows.push(row);
            return Ok(None);
        }
        let complete = self.finish();
        self.group = Some(Group { line, asked, rows: vec![row] });
        Ok(complete)
    }

    /// The pair of the last rows.
    pub fn finish(&mut self) -> Option<Pair> {
        let Group { line, rows, .. } = self.group.take()?;
        let pair = self.extremes(&rows).map(|(best, worst)| {
            // Each row has been checked when it came.
            let text = |row: &Object| response(row).cloned().unwrap_or_default();
            with_pair(best.clone(), (text(best), text(worst)))
        });
        self.counted(pair).map(|pair| (line, pair))
    }

    fn counted(&mut self, pair: Option<Value>) -> Option<Value> {
        self.ties += usize::from(pair.is_none());
        pair
    }

    /// Whether the first of two responses is the better one; `None` for a tie.
    fn first_is_better(&self, row: &Object, two: &[&str; 2]) -> Result<Option<bool>, String> {
        if let Some(Value::Object(labels)) = row.get(PREFERRED) {
            // An annotator may have judged some of the objectives only.
            return match labels.get(&self.by) {
                None | Some(Value::Null) => Ok(None),
                Some(label) => named(label, &format!("{PREFERRED}.{}", self.by), two),
            };
        }
        let column = match (self.by.as_str(), two[0]) {
            ("helpful", "response_0") if row.contains_key("better_response_id") => "better_response_id",
            ("harmless", "response_0") if row.contains_key("safer_response_id") => "safer_response_id",
            (name, _) => name,
        };
        let Some(value) = row.get(column) else { return Err(self.unknown(row)) };
        // `preference_strength` runs from −3 (the first is much better) to 3.
        if column.contains("strength") {
            let strength = number(value).ok_or_else(|| format!("column `{column}` is {value}, not a number"))?;
            return Ok((strength != 0.0).then_some(strength < 0.0));
        }
        named(value, column, two)
    }

    /// The best and the worst of the responses in one row, as UltraFeedback has them.
    fn listed(&self, list: &[Value]) -> Result<Option<(Value, Value)>, String> {
        let row =
            |one: &Value| one.as_object().cloned().ok_or("a completion must be an object with a response and scores");
        let rows = list.iter().map(row).collect::<Result<Vec<_>, _>>()?;
        for row in &rows {
            self.score(row)?;
            response(row)?;
        }
        let Some((best, worst)) = self.extremes(&rows) else { return Ok(None) };
        Ok(Some((response(best)?.clone(), response(worst)?.clone())))
    }

    /// The rows with the largest and the smallest score, where these differ; the first ones, where several have it.
    fn extremes<'a>(&self, rows: &'a [Object]) -> Option<(&'a Object, &'a Object)> {
        let rated = || rows.iter().filter_map(|row| Some((self.score(row).ok().flatten()?, row)));
        let (most, best) = rated().reduce(|a, b| if b.0 > a.0 { b } else { a })?;
        let (least, worst) = rated().reduce(|a, b| if b.0 < a.0 { b } else { a })?;
        (most > least).then_some((best, worst))
    }

    /// A number of a row: its column, or the rating of an annotation; `None` where annotators left it out.
    fn score(&self, row: &Object) -> Result<Option<f64>, String> {
        let annotated = || row.get("annotations")?.get(&self.by)?.get("Rating");
        let value = row.get(&self.by).or_else(annotated).ok_or_else(|| self.unknown(row))?;
        match number(value) {
            Some(number) => Ok(Some(number)),
            None if value.is_null() || value == "N/A" || value == "" => Ok(None),
            None => Err(format!("column `{}` is {value}, not a number", self.by)),
        }
    }

    fn unknown(&self, row: &Object) -> String {
        let names = row.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        format!("--prefer {}: there is no such column; the row has {names}", self.by)
    }
}

/// Whether a label names the first of two responses; `None` for a tie.
fn named(value: &Value, column: &str, two: &[&str; 2]) -> Result<Option<bool>, String> {
    let ends = two.map(|name| name.rsplit('_').next().unwrap_or(name));
    let text = value.as_str().map(str::trim).unwrap_or_default();
    let names = |i: usize| text.eq_ignore_ascii_case(two[i]) || text.eq_ignore_ascii_case(ends[i]);
    match number(value) {
        // SHP: 1 where A is the better one. Elsewhere the number of the better response.
        Some(label) if two[0] == "human_ref_A" && [0.0, 1.0].contains(&label) => Ok(Some(label == 1.0)),
        Some(-1.0) => Ok(None),
        Some(id) if Some(id) == ends[0].parse().ok() => Ok(Some(true)),
        Some(id) if Some(id) == ends[1].parse().ok() => Ok(Some(false)),
        None if value.is_string() && ["tie", "both", "none", ""].contains(&&*text.to_ascii_lowercase()) => Ok(None),
        None if names(0) => Ok(Some(true)),
        None if names(1) => Ok(Some(false)),
        _ => Err(format!("column `{column}` is {value}, which names neither `{}` nor `{}`", two[0], two[1])),
    }
}

/// A number, which a table has as text.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|x| x.is_finite())
}

/// The only response of a row.
fn response(row: &Object) -> Result<&Value, String> {
    let found = ONE.iter().find_map(|key| row.get(*key));
    found.ok_or_else(|| format!("there is no response; one of these columns is needed: {}", ONE.join(", ")))
}

/// Two responses of a row become `chosen` and `rejected`.
fn labelled(mut row: Object, chosen: &str, rejected: &str) -> Value {
    let responses = (row.remove(chosen).unwrap_or_default(), row.remove(rejected).unwrap_or_default());
    // SHP calls the question so; elsewhere it is a list of turns.
    if row.get("history").is_some_and(Value::is_string)
        && let Some(question) = row.remove("history")
    {
        row.insert("prompt".to_owned(), question);
    }
    with_pair(row, responses)
}

fn with_pair(mut row: Object, (chosen, rejected): (Value, Value)) -> Value {
    row.extend([("chosen".to_owned(), chosen), ("rejected".to_owned(), rejected)]);
    Value::Object(row)
}
