//! A backoff as text, by the rules of `leveret_common::retry`, which this crate cannot depend on: that would build the
//! whole AMQP client for the compiler. `tests/fixtures/backoffs.json` holds both to the same texts.

use std::time::Duration;

/// The delays between attempts.
#[derive(Debug)]
pub(crate) struct Backoff {
    pub(crate) delays: Delays,
    pub(crate) factor: Option<u8>,
    pub(crate) jitter: Option<&'static str>,
}

#[derive(Debug)]
pub(crate) enum Delays {
    Exponential(Duration, Duration),
    Linear(Duration, Duration),
    /// One or several.
    Each(Vec<Duration>),
}

const MOST_IN_LIST: usize = 16;
const LONGEST_IN_LIST: Duration = Duration::from_secs(30 * 86_400);

const DELAYS: &str =
    r#"write the first and the longest delay, such as "2s..1h", several, such as "1s,5s,30s", or one, such as "30s""#;
const ORDER: &str = r#"its first delay is longer than its last: write the shorter one first, such as "2s..1h""#;
const LINEAR: &str = r#"delays that grow evenly need the first and the longest, such as "linear 10s..5m""#;
const LIST: &str = r#"a list has up to 16 delays of whole milliseconds, each at most 30 days, such as "1s,5s,30s""#;
const FACTOR: &str =
    r#"a factor is a whole number from 2 to 100 behind the first and the longest delay, such as "2s..1h x3""#;
const TWICE: &str = "its jitter or its factor is given twice: keep one";

/// Reads the text of a backoff; an error says what to write instead.
pub(crate) fn read(text: &str) -> Result<Backoff, String> {
    let (rest, factor, jitter) = split(text)?;
    match delays(rest, factor) {
        Ok(delays) => Ok(Backoff { delays, factor, jitter }),
        Err(DELAYS) => Err(unknown_word(rest).unwrap_or_else(|| DELAYS.to_owned())),
        Err(problem) => Err(problem.to_owned()),
    }
}

type Split<'a> = (&'a str, Option<u8>, Option<&'static str>);

/// Takes the known words off the end.
fn split(text: &str) -> Result<Split<'_>, &'static str> {
    let (mut rest, mut factor, mut jitter) = (text.trim(), None, None);
    while let Some((before, word)) = rest.rsplit_once(char::is_whitespace) {
        let known = ["full", "equal", "none"].into_iter().find(|known| *known == word);
        let earlier = match (known, word.strip_prefix('x')) {
            (Some(known), _) => jitter.replace(known).is_some(),
            (None, Some(number)) => factor.replace(read_factor(number)?).is_some(),
            (None, None) => break,
        };
        if earlier {
            return Err(TWICE);
        }
        rest = before.trim_end();
    }
    Ok((rest, factor, jitter))
}

fn read_factor(text: &str) -> Result<u8, &'static str> {
    text.parse().ok().filter(|factor| (2..=100).contains(factor)).ok_or(FACTOR)
}

fn delays(text: &str, factor: Option<u8>) -> Result<Delays, &'static str> {
    let length = |text: &str| humantime::parse_duration(text.trim()).ok();
    let linear = text.strip_prefix("linear").filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
    let range = linear.unwrap_or(text).split_once("..");
    if factor.is_some() && (linear.is_some() || range.is_none()) {
        return Err(FACTOR);
    }
    let wrong = if linear.is_some() { LINEAR } else { DELAYS };
    if let Some((first, cap)) = range {
        let (first, cap) = length(first).zip(length(cap)).ok_or(wrong)?;
        return match linear {
            _ if cap < first => Err(ORDER),
            Some(_) => Ok(Delays::Linear(first, cap)),
            None => Ok(Delays::Exponential(first, cap)),
        };
    }
    if linear.is_some() {
        return Err(wrong);
    }
    let each: Vec<Duration> = text.split(',').map(length).collect::<Option<_>>().ok_or(wrong)?;
    let fits = |delay: &Duration| *delay <= LONGEST_IN_LIST && delay.subsec_nanos().is_multiple_of(1_000_000);
    if each.len() > MOST_IN_LIST || (each.len() > 1 && !each.iter().all(fits)) {
        return Err(LIST);
    }
    Ok(Delays::Each(each))
}

/// The last word, if without it the text would be a backoff.
fn unknown_word(text: &str) -> Option<String> {
    let (before, word) = text.rsplit_once(char::is_whitespace)?;
    let (rest, factor, _) = split(before).ok()?;
    delays(rest, factor).ok()?;
    Some(format!(
        "{word:?} has no meaning here: behind the delays there may be \"full\", \"equal\" or \"none\" for the jitter, \
         and a factor such as \"x3\""
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    #[test]
    fn the_texts_are_those_that_the_program_takes() {
        let fixtures = include_str!("../../tests/fixtures/backoffs.json");
        for entry in serde_json::from_str::<Vec<Value>>(fixtures).unwrap() {
            let text = entry["text"].as_str().unwrap();
            assert_eq!(super::read(text).err().as_deref(), entry["error"].as_str(), "{text:?}");
        }
    }
}
