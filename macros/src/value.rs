//! The values of `#[task(…)]`, checked by the rules that hold when the program runs.

use std::time::Duration;

use syn::{Error, Expr, ExprLit, Lit, LitStr, Path, Result, UnOp};

use crate::backoff::{self, Backoff};

/// The length of a short string, which carries the name on the wire.
const NAME_LIMIT: usize = 255;
/// The longest name of a queue, in characters.
const QUEUE_LIMIT: usize = 100;
/// The highest priority that AMQP 0-9-1 asks of a broker.
const HIGHEST_PRIORITY: u8 = 9;

pub(crate) fn name(value: &Expr) -> Result<String> {
    let literal = text(value, "name = \"email.send\"")?;
    let name = literal.value();
    match name.len() {
        0 => Err(Error::new(
            literal.span(),
            "the name is empty: write one that says what is done, such as \"email.send\"",
        )),
        1..=NAME_LIMIT => Ok(name),
        length => Err(Error::new(
            literal.span(),
            format!("the name is {length} bytes long, and AMQP carries {NAME_LIMIT} at most: shorten it"),
        )),
    }
}

pub(crate) fn queue(value: &Expr) -> Result<String> {
    let literal = text(value, "queue = \"email\"")?;
    let queue = literal.value();
    let wrong = queue.chars().find(|character| !character.is_ascii_alphanumeric() && !matches!(character, '-' | '_'));
    let problem = match wrong {
        Some('.') => "a dot cannot be part of a queue's name, as it starts the routing suffix".to_owned(),
        Some(wrong) => format!("{wrong:?} cannot be part of a queue's name"),
        None if queue.is_empty() => "the queue's name is empty".to_owned(),
        None if queue.len() > QUEUE_LIMIT => format!("the queue's name is {} characters long", queue.len()),
        None => return Ok(queue),
    };
    Err(Error::new(literal.span(), format!("{problem}: use 1 to {QUEUE_LIMIT} letters, digits, `-` and `_`")))
}

pub(crate) fn timeout(value: &Expr) -> Result<Duration> {
    let zero =
        "a timeout of zero stops every attempt before it starts: write a longer one, or leave it out for the worker's";
    length(value, "timeout = \"30s\"", zero)
}

pub(crate) fn give_up_after(value: &Expr) -> Result<Duration> {
    let zero = "a limit of zero gives up at the first failure: write a longer one, or `retries = 0`";
    length(value, "give_up_after = \"2h\"", zero)
}

pub(crate) fn window(value: &Expr) -> Result<Duration> {
    let zero = "in a window of zero there is no second task: write a longer one, such as \"1h\"";
    length(value, "unique = \"1h\"", zero)
}

pub(crate) fn backoff(value: &Expr) -> Result<Backoff> {
    let literal = text(value, "backoff = \"2s..1h\"")?;
    let written = literal.value();
    backoff::read(&written)
        .map_err(|problem| Error::new(literal.span(), format!("{written:?} is no backoff: {problem}")))
}

/// A length of time above zero.
fn length(value: &Expr, example: &str, zero: &str) -> Result<Duration> {
    let literal = text(value, example)?;
    let written = literal.value();
    match humantime::parse_duration(written.trim()) {
        Ok(Duration::ZERO) => Err(Error::new(literal.span(), zero)),
        Ok(length) => Ok(length),
        Err(_) => Err(Error::new(
            literal.span(),
            format!(
                "{written:?} is no length of time: write a number with a unit, such as \"250ms\", \"30s\" or \"1h 30m\""
            ),
        )),
    }
}

pub(crate) fn retries(value: &Expr) -> Result<u32> {
    let problem = match value {
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => match number.base10_parse() {
            Ok(retries) => return Ok(retries),
            Err(_) => format!("`retries` is a whole number from 0 to {}", u32::MAX),
        },
        Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) => {
            "`retries` cannot be negative: `retries = 0` means one attempt and no other".to_owned()
        }
        _ => "`retries` is a number without quotes: write `retries = 8`".to_owned(),
    };
    Err(Error::new_spanned(value, problem))
}

pub(crate) fn priority(value: &Expr) -> Result<u8> {
    let number = match value {
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => number.base10_parse().ok(),
        _ => None,
    };
    number.filter(|priority| *priority <= HIGHEST_PRIORITY).ok_or_else(|| {
        let problem = "`priority` is a number from 0 to 9 without quotes, above 4 is high: write `priority = 5`";
        Error::new_spanned(value, problem)
    })
}

pub(crate) fn flag(value: &Expr, example: &str) -> Result<bool> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Bool(flag), .. }) => Ok(flag.value),
        _ => Err(Error::new_spanned(value, format!("expected `true` or `false`: write `{example}`"))),
    }
}

pub(crate) fn path(value: &Expr) -> Result<Path> {
    let literal = text(value, "crate = \"::leveret\"")?;
    literal.parse().map_err(|_| {
        Error::new(literal.span(), "`crate` is the path of a crate or module: write it as in `crate = \"::leveret\"`")
    })
}

pub(crate) fn text<'a>(value: &'a Expr, example: &str) -> Result<&'a LitStr> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Str(literal), .. }) => Ok(literal),
        _ => Err(Error::new_spanned(value, format!("expected a text in quotes: write `{example}`"))),
    }
}
