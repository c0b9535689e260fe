//! `H` in a field: a number that follows from the schedule's name, so that schedules spread over the time by themselves.

use super::error::ExpressionError;

/// A number that follows from the parts, the same in every process and version: FNV-1a, then mixed by the finaliser of
/// MurmurHash3, so that names which differ in one letter come out far apart.
pub(crate) fn hash(parts: &[&str]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let byte = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    // A byte that no text has keeps ["ab", "c"] apart from ["a", "bc"].
    let mut hash = parts.iter().fold(OFFSET, |hash, part| byte(part.bytes().fold(hash, byte), 0xff));
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// A hash as a number below `bound`, evenly.
pub(crate) fn below(hash: u64, bound: u64) -> u64 {
    // The product has its upper half below `bound`.
    u64::try_from((u128::from(hash) * u128::from(bound)) >> 64).unwrap_or(0)
}

/// A field as `H` sees it: what it is called, for the hash, and its lowest and highest number.
pub(super) type Bounds = (&'static str, u32, u32);

/// Of Unix cron. The last days of a month are left out, so that each month has the day.
pub(super) const UNIX: [Bounds; 5] =
    [("minute", 0, 59), ("hour", 0, 23), ("day", 1, 28), ("month", 1, 12), ("weekday", 0, 6)];
/// Of Quartz cron, without the year.
pub(super) const QUARTZ: [Bounds; 6] =
    [("second", 0, 59), ("minute", 0, 59), ("hour", 0, 23), ("day", 1, 28), ("month", 1, 12), ("weekday", 1, 7)];

/// Whether an expression has an `H`.
pub(super) fn has_h(text: &str) -> bool {
    text.split_whitespace().flat_map(|field| field.split(',')).any(is_h)
}

/// The expression with numbers in place of each `H`: `H`, `H/15`, `H(0-29)` and `H(0-29)/10`.
pub(super) fn expand(text: &str, fields: &[Bounds], name: &str) -> Result<String, ExpressionError> {
    let expanded = text.split_whitespace().enumerate().map(|(at, field)| match fields.get(at) {
        Some(bounds) => field_without_h(field, *bounds, name),
        None => Ok(field.to_owned()),
    });
    Ok(expanded.collect::<Result<Vec<_>, _>>()?.join(" "))
}

fn is_h(part: &str) -> bool {
    part == "H" || part.starts_with("H/") || part.starts_with("H(")
}

fn field_without_h(field: &str, bounds: Bounds, name: &str) -> Result<String, ExpressionError> {
    let parts = field.split(',').map(|part| if is_h(part) { number(part, bounds, name) } else { Ok(part.to_owned()) });
    Ok(parts.collect::<Result<Vec<_>, _>>()?.join(","))
}

/// What stands for one `H`.
fn number(part: &str, (field, lowest, highest): Bounds, name: &str) -> Result<String, ExpressionError> {
    let invalid = || ExpressionError::Spread { value: part.to_owned(), field, lowest, highest };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits).ok_or_else(invalid)
    };
    let mut rest = part.strip_prefix('H').ok_or_else(invalid)?;
    let (mut from, mut to) = (lowest, highest);
    if let Some(inner) = rest.strip_prefix('(') {
        let (range, after) = inner.split_once(')').ok_or_else(invalid)?;
        let (first, last) = range.split_once('-').ok_or_else(invalid)?;
        (from, to) = (number(first)?, number(last)?);
        // The days that are left out otherwise can be named here.
        let most = if field == "day" { 31 } else { highest };
        if from < lowest || to > most || from > to {
            return Err(invalid());
        }
        rest = after;
    }
    let step: Option<u32> = match rest.strip_prefix('/') {
        Some(step) => Some(number(step)?),
        None if rest.is_empty() => None,
        None => return Err(invalid()),
    };
    let values = to - from + 1;
    let choices = match step {
        Some(0) => return Err(invalid()),
        Some(step) => step.min(values),
        None => values,
    };
    let chosen = below(hash(&["H", name, field]), choices.into());
    let chosen = from + u32::try_from(chosen).unwrap_or(0);
    Ok(match step {
        Some(step) if step <= to.saturating_sub(chosen) => format!("{chosen}-{to}/{step}"),
        _ => chosen.to_string(),
    })
}
