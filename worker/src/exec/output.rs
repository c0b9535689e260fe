use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde_json::Value;

/// How much of what was printed or answered goes into an error message, in bytes.
const EXCERPT_LIMIT: usize = 2048;

/// What a successful attempt left.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecOutput {
    /// How it ended.
    pub status: ExecStatus,
    /// The last bytes of a command's standard output, or the first bytes of a response's body, up to `output_limit`.
    pub stdout: Bytes,
    /// The last bytes of a command's standard error, up to `output_limit`; empty for a response.
    pub stderr: Bytes,
    /// Whether `stdout` is only a part of what there was.
    pub truncated: bool,
}

/// How a successful attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExecStatus {
    /// A command's exit code.
    Exit(i32),
    /// A response's status.
    Http(u16),
}

impl ExecOutput {
    /// The result of the task, for a reply: `stdout` read as JSON, or as a string where it is no JSON, with line ends
    /// at its end taken off and bytes that are not UTF-8 replaced; `null` where it is empty.
    ///
    /// Truncated output is always a string: a part of a JSON text can be JSON that means something else.
    pub fn result(&self) -> Value {
        if self.stdout.trim_ascii().is_empty() {
            return Value::Null;
        }
        if !self.truncated
            && let Ok(value) = serde_json::from_slice(&self.stdout)
        {
            return value;
        }
        Value::String(String::from_utf8_lossy(&self.stdout).trim_end_matches(['\r', '\n']).to_owned())
    }
}

impl fmt::Display for ExecStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit code {code}"),
            Self::Http(status) => write!(f, "status {status}"),
        }
    }
}

/// The end of a text for an error message, where programs say what went wrong.
pub(super) fn last_words(bytes: &[u8]) -> String {
    let bytes = bytes.trim_ascii_end();
    let skipped = bytes.len().saturating_sub(EXCERPT_LIMIT);
    // A cut in the middle of a character leaves up to three bytes that continue it.
    let continued = bytes[skipped..].iter().take(3).take_while(|&&byte| byte & 0xC0 == 0x80).count();
    let start = if skipped == 0 { 0 } else { skipped + continued };
    let dots = if skipped == 0 { "" } else { "…" };
    format!("{dots}{}", String::from_utf8_lossy(&bytes[start..]))
}

/// The start of a text for an error message, where servers say what went wrong.
pub(super) fn first_words(bytes: &[u8]) -> String {
    let bytes = bytes.trim_ascii();
    if bytes.len() <= EXCERPT_LIMIT {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let text: Cow<'_, str> = String::from_utf8_lossy(&bytes[..EXCERPT_LIMIT]);
    format!("{}…", text.trim_end_matches(char::REPLACEMENT_CHARACTER))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn output(stdout: &'static [u8], truncated: bool) -> ExecOutput {
        ExecOutput { status: ExecStatus::Exit(0), stdout: Bytes::from_static(stdout), stderr: Bytes::new(), truncated }
    }

    #[test]
    fn a_result_is_json_where_it_is_json_and_text_elsewhere() {
        assert_eq!(output(b"{\"pages\": 3}\n", false).result(), json!({"pages": 3}));
        assert_eq!(output(b"three pages\r\n", false).result(), json!("three pages"));
        assert_eq!(output(b" \n", false).result(), Value::Null);
        assert_eq!(output(b"caf\xe9", false).result(), json!("caf\u{fffd}"));
    }

    #[test]
    fn a_part_of_the_output_is_never_read_as_json() {
        assert_eq!(output(b"123\n", true).result(), json!("123"));
    }

    #[test]
    fn excerpts_are_cut_between_characters() {
        let long = "ä".repeat(3000) + "!\n";
        let last = last_words(long.as_bytes());
        assert!(last.starts_with("…ä") && last.ends_with("ä!"), "{last}");
        assert!(!last.contains(char::REPLACEMENT_CHARACTER));
        let first = first_words(("a".to_owned() + &long).as_bytes());
        assert!(first.starts_with("aä") && first.ends_with("ä…"), "{first}");
        assert!(last.len() <= EXCERPT_LIMIT + 3 && first.len() <= EXCERPT_LIMIT + 3);
        assert_eq!(last_words(b"no such file\n"), "no such file");
    }
}
