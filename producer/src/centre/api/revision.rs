//! Revisions as ETags: what a change is based on.

use axum::http::{HeaderMap, HeaderValue, header};

use super::{Problem, ProblemKind};

/// What a change is based on, by `If-Match` and `If-None-Match`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// It must be there, at one of these revisions if there are some.
    is: Option<Vec<i64>>,
    /// It must not be there, or at none of these revisions if there are some.
    is_not: Option<Vec<i64>>,
}

impl Base {
    /// From the headers of a request. Without them, anything will do.
    ///
    /// # Errors
    /// 400 when one cannot be read.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self { is: revisions(headers, &header::IF_MATCH)?, is_not: revisions(headers, &header::IF_NONE_MATCH)? })
    }

    /// Whether the request says what it is based on.
    pub fn is_given(&self) -> bool {
        self.is.is_some() || self.is_not.is_some()
    }

    /// Holds what is there against it.
    ///
    /// # Errors
    /// 412 when it is something else.
    pub fn check(&self, found: Option<i64>) -> Result<(), Problem> {
        let listed = |listed: &Vec<i64>, found: i64| listed.is_empty() || listed.contains(&found);
        let fits = self.is.as_ref().is_none_or(|is| found.is_some_and(|found| listed(is, found)))
            && self.is_not.as_ref().is_none_or(|is_not| found.is_none_or(|found| !listed(is_not, found)));
        if fits {
            return Ok(());
        }
        let text = match found {
            Some(found) => format!("it is there at revision {found}: look at it and try again"),
            None => "it is not there".to_owned(),
        };
        Err(Problem::new(ProblemKind::PreconditionFailed, text))
    }

    /// Whether a client that has this revision need not be sent it again.
    pub fn is_known(&self, found: i64) -> bool {
        self.is_not.as_ref().is_some_and(|is_not| is_not.is_empty() || is_not.contains(&found))
    }
}

fn revisions(headers: &HeaderMap, name: &header::HeaderName) -> Result<Option<Vec<i64>>, Problem> {
    let mut values = headers.get_all(name).iter().peekable();
    if values.peek().is_none() {
        return Ok(None);
    }
    let mut revisions = Vec::new();
    for value in values {
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Some(Vec::new()));
        }
        for tag in text.split(',') {
            // A tag that is none of ours matches nothing.
            let tag = tag.trim();
            let Some(inner) = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) else {
                let weak = tag.strip_prefix("W/").is_some_and(|tag| tag.starts_with('"') && tag.ends_with('"'));
                if weak {
                    revisions.push(-1);
                    continue;
                }
                let text = format!("`{name}` is to be `*` or an ETag in quotes, such as \"3\"");
                return Err(Problem::new(ProblemKind::Malformed, text));
            };
            revisions.push(inner.parse().unwrap_or(-1));
        }
    }
    Ok(Some(revisions))
}

/// The ETag of a revision.
pub fn etag(revision: i64) -> [(header::HeaderName, HeaderValue); 1] {
    let value = HeaderValue::from_str(&format!("\"{revision}\"")).unwrap_or(HeaderValue::from_static("\"0\""));
    [(header::ETAG, value)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(name: header::HeaderName, value: &'static str) -> Result<Base, Problem> {
        Base::of(&HeaderMap::from_iter([(name, HeaderValue::from_static(value))]))
    }

    #[test]
    fn a_change_is_made_only_to_what_it_is_based_on() {
        let anything = Base::default();
        assert!(anything.check(None).is_ok() && anything.check(Some(3)).is_ok());
        let third = base(header::IF_MATCH, "\"2\", \"3\"").unwrap();
        assert!(third.check(Some(3)).is_ok());
        assert!(third.check(Some(4)).is_err() && third.check(None).is_err());
        let there = base(header::IF_MATCH, "*").unwrap();
        assert!(there.check(Some(9)).is_ok() && there.check(None).is_err());
        let new = base(header::IF_NONE_MATCH, "*").unwrap();
        assert!(new.check(None).is_ok() && new.check(Some(1)).is_err());
        assert!(base(header::IF_MATCH, "\"other\"").unwrap().check(Some(1)).is_err());
        assert!(base(header::IF_MATCH, "3").is_err());
        assert!(base(header::IF_NONE_MATCH, "\"3\"").unwrap().is_known(3));
    }
}
