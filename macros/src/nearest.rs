//! What somebody may have meant.

/// The candidate that is nearest to a text, if it is near enough to have been meant.
pub(crate) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = candidates.into_iter().map(|candidate| (distance(candidate, text), candidate));
    near.filter(|(steps, candidate)| *steps <= candidate.len() / 2).min().map(|(_, candidate)| candidate)
}

/// How many letters have to be put in, taken out or changed to make one text the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for column in 0..other.len() {
            let changed = diagonal + usize::from(letter != other[column]);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distance_counts_letters() {
        for (one, other, steps) in
            [("name", "name", 0), ("timeout", "timeot", 1), ("retries", "retry", 3), ("queue", "", 5), ("", "a", 1)]
        {
            assert_eq!(distance(one, other), steps, "{one} {other}");
        }
    }

    #[test]
    fn what_is_far_away_was_not_meant() {
        assert_eq!(nearest("retry", ["key", "retries"]), Some("retries"));
        assert_eq!(nearest("colour", ["key", "queue"]), None);
    }
}
