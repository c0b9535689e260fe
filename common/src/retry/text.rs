//! A backoff as text: `2s..1h`, `2s..1h x3`, `linear 10s..5m`, `1s,5s,30s`, `30s`, each with or without a word for the
//! jitter. `leveret-macros` reads the same texts when it compiles; `tests/fixtures/backoffs.json` holds both to it.

use std::{fmt, str::FromStr, time::Duration};

use super::{
    Backoff, Jitter,
    backoff::{Delays, List},
};
use crate::duration;

/// The text is no backoff.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no backoff: {problem}")]
pub struct InvalidBackoff {
    /// The text.
    pub text: String,
    /// What is wrong with it, and what to write instead.
    pub problem: Problem,
}

/// What is wrong with the text of a backoff, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// There are no delays that could be read.
    #[error(
        "write the first and the longest delay, such as \"2s..1h\", several, such as \"1s,5s,30s\", or one, such as \"30s\""
    )]
    Delays,
    /// The longest delay is shorter than the first.
    #[error("its first delay is longer than its last: write the shorter one first, such as \"2s..1h\"")]
    Order,
    /// Linear delays without a range.
    #[error("delays that grow evenly need the first and the longest, such as \"linear 10s..5m\"")]
    Linear,
    /// A list with too many delays, or with one that does not fit.
    #[error("a list has up to 16 delays of whole milliseconds, each at most 30 days, such as \"1s,5s,30s\"")]
    List,
    /// A factor that is none, or where there is nothing to multiply.
    #[error("a factor is a whole number from 2 to 100 behind the first and the longest delay, such as \"2s..1h x3\"")]
    Factor,
    /// A word with no meaning here.
    #[error(
        "{0:?} has no meaning here: behind the delays there may be \"full\", \"equal\" or \"none\" for the jitter, and a factor such as \"x3\""
    )]
    Word(String),
    /// Two words for the jitter, or two factors.
    #[error("its jitter or its factor is given twice: keep one")]
    Twice,
}

impl FromStr for Backoff {
    type Err = InvalidBackoff;
    fn from_str(text: &str) -> Result<Self, InvalidBackoff> {
        parse(text).map_err(|problem| InvalidBackoff { text: text.to_owned(), problem })
    }
}

/// The words behind the delays.
#[derive(Default)]
struct Words {
    jitter: Option<Jitter>,
    factor: Option<u8>,
}

fn parse(text: &str) -> Result<Backoff, Problem> {
    let (delays, words) = split(text)?;
    let backoff = match shape(delays, words.factor) {
        Err(Problem::Delays) => return Err(unknown_word(delays).unwrap_or(Problem::Delays)),
        backoff => backoff?,
    };
    Ok(match words.jitter {
        Some(jitter) => backoff.jitter(jitter),
        None => backoff,
    })
}

/// Takes the known words off the end.
fn split(text: &str) -> Result<(&str, Words), Problem> {
    let mut words = Words::default();
    let mut rest = text.trim();
    while let Some((before, word)) = rest.rsplit_once(char::is_whitespace) {
        let earlier = match (word, word.strip_prefix('x')) {
            ("full", _) => words.jitter.replace(Jitter::Full).is_some(),
            ("equal", _) => words.jitter.replace(Jitter::Equal).is_some(),
            ("none", _) => words.jitter.replace(Jitter::None).is_some(),
            (_, Some(factor)) => words.factor.replace(read_factor(factor)?).is_some(),
            _ => break,
        };
        if earlier {
            return Err(Problem::Twice);
        }
        rest = before.trim_end();
    }
    Ok((rest, words))
}

fn read_factor(text: &str) -> Result<u8, Problem> {
    text.parse().ok().filter(|factor| (2..=Backoff::LARGEST_FACTOR).contains(factor)).ok_or(Problem::Factor)
}

fn shape(text: &str, factor: Option<u8>) -> Result<Backoff, Problem> {
    let linear = text.strip_prefix("linear").filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
    let range = linear.unwrap_or(text).split_once("..");
    if factor.is_some() && (linear.is_some() || range.is_none()) {
        return Err(Problem::Factor);
    }
    let wrong = if linear.is_some() { Problem::Linear } else { Problem::Delays };
    if let Some((first, cap)) = range {
        let (Ok(first), Ok(cap)) = (duration::parse(first), duration::parse(cap)) else {
            return Err(wrong);
        };
        return match linear {
            _ if cap < first => Err(Problem::Order),
            Some(_) => Ok(Backoff::linear(first, cap)),
            None => Ok(Backoff::exponential(first, cap).factor(factor.unwrap_or(2))),
        };
    }
    if linear.is_some() {
        return Err(wrong);
    }
    if text.contains(',') {
        return list(text);
    }
    duration::parse(text).map(Backoff::constant).map_err(|_| wrong)
}

fn list(text: &str) -> Result<Backoff, Problem> {
    let delays: Vec<Duration> =
        text.split(',').map(duration::parse).collect::<Result<_, _>>().map_err(|_| Problem::Delays)?;
    let fits = |delay: &Duration| *delay <= Backoff::LONGEST_IN_LIST && delay.subsec_nanos().is_multiple_of(1_000_000);
    if delays.len() > Backoff::MOST_IN_LIST || !delays.iter().all(fits) {
        return Err(Problem::List);
    }
    Ok(Backoff::of_slice(&delays))
}

/// The last word, if without it the text would be a backoff.
fn unknown_word(text: &str) -> Option<Problem> {
    let (before, word) = text.rsplit_once(char::is_whitespace)?;
    let (delays, words) = split(before).ok()?;
    shape(delays, words.factor).ok().map(|_| Problem::Word(word.to_owned()))
}

impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.delays {
            Delays::Constant(delay) => f.write_str(&duration::format(delay))?,
            Delays::Exponential { first, cap, factor } => {
                write!(f, "{}..{}", duration::format(first), duration::format(cap))?;
                if factor != 2 {
                    write!(f, " x{factor}")?;
                }
            }
            Delays::Linear { first, cap } => {
                write!(f, "linear {}..{}", duration::format(first), duration::format(cap))?;
            }
            Delays::List(list) => write_list(f, &list)?,
        }
        match self.jitter {
            jitter if jitter == self.delays.jitter() => Ok(()),
            Jitter::Full => f.write_str(" full"),
            Jitter::Equal => f.write_str(" equal"),
            Jitter::None => f.write_str(" none"),
        }
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, list: &List) -> fmt::Result {
    for (at, delay) in list.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        write!(f, "{comma}{}", duration::format(delay))?;
    }
    Ok(())
}

impl TryFrom<String> for Backoff {
    type Error = InvalidBackoff;
    fn try_from(text: String) -> Result<Self, InvalidBackoff> {
        text.parse()
    }
}

impl From<Backoff> for String {
    fn from(backoff: Backoff) -> Self {
        backoff.to_string()
    }
}
