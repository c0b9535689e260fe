//! What serde says about a value, in words for someone who edits a file.

/// The message in plain words and, where it speaks of a key under the place of the error, that key.
pub(super) fn plain(message: &str) -> (Option<String>, String) {
    let message = message.trim();
    let quoted = |text: &str| text.split('`').nth(1).map(str::to_owned);
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let mut names = rest.split('`').skip(1).step_by(2);
        let given = names.next().unwrap_or_default();
        let known: Vec<_> = names.collect();
        return (Some(given.to_owned()), format!("there is no such key: {}", instead(given, &known)));
    }
    if message.starts_with("missing field ") {
        return (None, format!("`{}` is missing: add it", quoted(message).unwrap_or_default()));
    }
    if let Some((given, known)) =
        message.strip_prefix("unknown variant ").and_then(|rest| rest.split_once(", expected "))
    {
        let known = known.strip_prefix("one of ").unwrap_or(known);
        return (None, format!("{given} is not known: write {known}"));
    }
    let typed = ["invalid type: ", "invalid value: ", "invalid length "];
    if let Some((found, wanted)) =
        typed.iter().find_map(|start| message.strip_prefix(start)).and_then(|rest| rest.split_once(", expected "))
    {
        return (None, format!("{} does not fit: write {}", kind(found), kind(wanted)));
    }
    (None, message.lines().map(str::trim).collect::<Vec<_>>().join(" "))
}

/// serde's names for kinds of values, and Rust's, in TOML's.
fn kind(text: &str) -> String {
    let text = text.trim().trim_start_matches("expected ");
    let number = ["integer `", "floating point `", "boolean `"].iter().find_map(|start| text.strip_prefix(start));
    if let Some(value) = number {
        return value.trim_end_matches('`').to_owned();
    }
    if let Some(value) = text.strip_prefix("string ") {
        return value.to_owned();
    }
    match text {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0 on, without quotes".to_owned(),
        "i8" | "i16" | "i32" | "i64" => "a whole number, without quotes".to_owned(),
        "f32" | "f64" => "a number, without quotes".to_owned(),
        "a string" | "string" => "a text in quotes".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a map" | "map" => "a table".to_owned(),
        "a sequence" | "sequence" => "a list".to_owned(),
        text if text.starts_with("struct ") => "a table".to_owned(),
        text => text.to_owned(),
    }
}

/// What to write instead of a key that is not known.
fn instead(given: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|name| (distance(given, name), *name)).min();
    match nearest {
        Some((distance, name)) if distance <= 1 + name.len() / 4 => format!("did you mean `{name}`?"),
        Some(_) => format!("the keys are {}", known.join(", ")),
        None => "remove it".to_owned(),
    }
}

/// How many letters have to be put in, taken out or changed to come from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_is_answered_with_the_right_one() {
        let (key, text) = plain("unknown field `concurency`, expected one of `name`, `concurrency`, `queues`");
        assert_eq!(key.as_deref(), Some("concurency"));
        assert_eq!(text, "there is no such key: did you mean `concurrency`?");
        let (_, text) = plain("unknown field `colour`, expected `name` or `queues`");
        assert_eq!(text, "there is no such key: the keys are name, queues");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_answered_with_the_right_kind() {
        let text = plain("invalid type: string \"8\", expected usize").1;
        assert_eq!(text, "\"8\" does not fit: write a whole number from 0 on, without quotes");
        assert_eq!(
            plain("invalid value: integer `-1`, expected u16").1,
            "-1 does not fit: write a whole number from 0 on, without quotes"
        );
    }

    #[test]
    fn distances_count_single_letters() {
        assert_eq!(
            [distance("", "abc"), distance("abc", "abc"), distance("grce", "grace"), distance("abc", "xbz")],
            [3, 0, 1, 2]
        );
    }
}
