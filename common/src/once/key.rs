//! The key of a mark.

use std::{fmt, hash};

/// Bytes that a key may have and still need no allocation: with a kind and a UUID, as most have.
const ROOM: usize = 46;

/// A text that stays in its place while it is short. Of the marks in memory there are many, and each is looked up at
/// each task: one that is where its mark is costs half of the time of one that is elsewhere.
#[derive(Clone)]
pub(super) enum Key {
    Short { length: u8, bytes: [u8; ROOM] },
    Long(Box<str>),
}

impl Key {
    /// The parts, one after the other.
    pub(super) fn of(parts: &[&str]) -> Self {
        let mut bytes = [0; ROOM];
        let mut end = 0;
        for part in parts {
            match bytes.get_mut(end..end + part.len()) {
                Some(place) => place.copy_from_slice(part.as_bytes()),
                None => return Self::Long(parts.concat().into()),
            }
            end += part.len();
        }
        match u8::try_from(end) {
            Ok(length) => Self::Short { length, bytes },
            Err(_) => Self::Long(parts.concat().into()),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            // It was made of whole texts.
            Self::Short { .. } => str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Self::Long(text) => text,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(text) => text.as_bytes(),
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl hash::Hash for Key {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_text_wherever_that_is() {
        for length in [0, 1, ROOM - 1, ROOM, ROOM + 1, 300] {
            let text = "k".repeat(length);
            let (whole, parted) = (Key::of(&[&text]), Key::of(&[&text[..length / 2], &text[length / 2..]]));
            assert_eq!((whole.as_str(), &whole), (text.as_str(), &parted));
        }
        assert_ne!(Key::of(&["a"]), Key::of(&["a\0"]));
    }
}
