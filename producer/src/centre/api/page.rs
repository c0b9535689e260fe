//! Lists in pages, by cursors that only we can read.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::{IntoParams, ToSchema};

use super::{Problem, ProblemKind};

/// Items on a page unless asked otherwise.
const DEFAULT: u32 = 50;
/// Items on a page at most.
const MOST: u32 = 1_000;

/// Which page is asked for, of a list that nothing else is asked of.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Paging {
    /// The `next` of the page before.
    #[param(max_length = 4096)]
    pub(super) cursor: Option<String>,
    /// Items on the page. Default 50.
    #[param(minimum = 1, maximum = 1000)]
    pub(super) limit: Option<u32>,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// The `cursor` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4096)]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A page from what was found when one more than the page holds was looked for. `key` is what the next page begins
    /// behind.
    ///
    /// # Errors
    /// 500 when the key cannot be written as JSON.
    pub fn of<K: Serialize>(mut found: Vec<T>, limit: u32, key: impl FnOnce(&T) -> K) -> Result<Self, Problem> {
        let size = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = found.len() > size;
        found.truncate(size);
        let next = found.last().filter(|_| more).map(|last| cursor(&key(last))).transpose()?;
        Ok(Self { items: found, next })
    }

    /// A page from the store.
    ///
    /// # Errors
    /// 500 when the cursor cannot be written as JSON.
    pub(super) fn stored(page: crate::centre::store::Page<T>) -> Result<Self, Problem> {
        Ok(Self { items: page.items, next: page.next.map(|next| cursor(&next)).transpose()? })
    }

    /// All of the list.
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }

    /// The same page with other items.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(change).collect(), next: self.next }
    }
}

fn cursor(key: &impl Serialize) -> Result<String, Problem> {
    let key = serde_json::to_vec(key).map_err(|error| Problem::internal(&error))?;
    Ok(URL_SAFE_NO_PAD.encode(key))
}

/// What a page is to begin behind, by its cursor.
///
/// # Errors
/// 400 when it is no cursor of this list.
pub fn behind<K: DeserializeOwned>(cursor: Option<&str>) -> Result<Option<K>, Problem> {
    let Some(cursor) = cursor else { return Ok(None) };
    let key = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|key| serde_json::from_slice(&key).ok());
    let wrong = || Problem::new(ProblemKind::Malformed, "`cursor` is not one that this list gave: begin without it");
    key.ok_or_else(wrong).map(Some)
}

/// How many items a page is to have.
///
/// # Errors
/// 400 when that is none, or more than 1,000.
pub fn limit(asked: Option<u32>) -> Result<u32, Problem> {
    let limit = asked.unwrap_or(DEFAULT);
    if (1..=MOST).contains(&limit) {
        return Ok(limit);
    }
    Err(Problem::new(ProblemKind::Malformed, format!("`limit` is 1 to {MOST}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_behind_the_last_item() {
        let page = Page::of(vec![1, 2, 3], 2, |last| *last).unwrap();
        assert_eq!(page.items, [1, 2]);
        assert_eq!(behind::<i32>(page.next.as_deref()).unwrap(), Some(2));
        assert_eq!(Page::of(vec![1, 2], 2, |last| *last).unwrap().next, None);
        for wrong in ["", "x", "💥", "bnVsbA=="] {
            assert!(behind::<i32>(Some(wrong)).is_err(), "{wrong}");
        }
        assert!((limit(None).unwrap(), limit(Some(1_000)).unwrap()) == (50, 1_000));
        assert!(limit(Some(0)).is_err() && limit(Some(1_001)).is_err());
    }
}
