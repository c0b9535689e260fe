//! Messages as the outbox keeps them.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use leveret_common::message::{StoredMessage, StoredProperties};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::centre::database::DatabaseError;

/// A message as JSON. The body is kept byte for byte: as a text where it is one, otherwise in base64.
#[derive(Serialize, Deserialize)]
struct Kept {
    id: String,
    task: String,
    queue: String,
    content_type: String,
    #[serde(default)]
    properties: StoredProperties,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(flatten)]
    body: Body,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Body {
    Text(String),
    Base64(String),
}

/// The message as a text for a column.
pub(crate) fn to_column(message: &StoredMessage) -> Result<String, DatabaseError> {
    let body = match std::str::from_utf8(&message.body) {
        // PostgreSQL takes no zero in a text.
        Ok(text) if !text.contains('\0') => Body::Text(text.to_owned()),
        _ => Body::Base64(BASE64_STANDARD.encode(&message.body)),
    };
    let kept = Kept {
        id: message.id.clone(),
        task: message.task.clone(),
        queue: message.queue.clone(),
        content_type: message.content_type.clone(),
        properties: message.properties.clone(),
        headers: message.headers.clone(),
        body,
    };
    serde_json::to_string(&kept).map_err(DatabaseError::Json)
}

/// The message that [`to_column`] has written.
pub(crate) fn from_column(text: &str) -> Result<StoredMessage, DatabaseError> {
    let kept: Kept = serde_json::from_str(text).map_err(DatabaseError::Json)?;
    let body = match kept.body {
        Body::Text(text) => Bytes::from(text),
        Body::Base64(text) => {
            let decoded = BASE64_STANDARD.decode(text);
            decoded.map_err(|error| DatabaseError::Json(serde::de::Error::custom(error)))?.into()
        }
    };
    Ok(StoredMessage {
        id: kept.id,
        task: kept.task,
        queue: kept.queue,
        content_type: kept.content_type,
        properties: kept.properties,
        headers: kept.headers,
        body,
    })
}

#[cfg(test)]
mod tests {
    use leveret_common::{clock::Clock, message::Message};

    use super::*;

    #[test]
    fn any_body_comes_back_byte_for_byte() {
        for body in [&b"{\"a\": 1.0}"[..], b"", b"nul \0 byte", &[0, 159, 255]] {
            let message =
                Message::raw("t", body.to_vec(), "a/b").header("x", true).to_stored(&Clock::system()).unwrap();
            let column = to_column(&message).unwrap();
            assert!(!column.contains("\\u0000"), "{column}");
            assert_eq!(from_column(&column).unwrap(), message);
        }
    }
}
