//! A dead letter with something put right, to be published in its place.

use std::collections::BTreeMap;

use bytes::Bytes;
use lapin::BasicProperties;

use super::DeadLetter;
use crate::{
    headers::{HeaderValue, Headers},
    topology::Names,
    wire::{JSON, Outgoing, TooLong, header, is_broker_note, is_death_note, short},
};

/// What is to be different about a dead letter. What is not named stays as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Amendment {
    /// Another name of the task.
    pub task: Option<String>,
    /// Another body, uncompressed JSON.
    pub body: Option<Bytes>,
    /// Headers to set, and with `None` to take away. Those that the broker writes are left alone.
    pub headers: BTreeMap<String, Option<HeaderValue>>,
}

/// Where an amended letter goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Amended {
    /// To its work queue, where its attempts count anew.
    #[default]
    Runs,
    /// Back to the dead letters, to be replayed some other time.
    Stays,
}

/// The message that takes the place of a letter of `queue`.
pub(super) fn outgoing(
    names: &Names,
    letter: &DeadLetter,
    from: &BasicProperties,
    change: &Amendment,
    then: Amended,
) -> Result<Outgoing, TooLong> {
    let mut headers = letter.headers.clone();
    headers.retain(|name| !is_broker_note(name) && name != header::LEASE);
    if let Some(user) = from.user_id() {
        // The broker refuses a `user_id` that is not the connection's own user.
        headers.insert(header::USER_ID, user.as_str())?;
    }
    match then {
        Amended::Runs => {
            let of_the_past = [header::ATTEMPT, header::FORWARDS, header::NOT_BEFORE, header::LIMITED_SINCE];
            headers.retain(|name| !is_death_note(name) && !of_the_past.contains(&name));
            // As a replay does: what is told of it from here on follows what was told before.
            headers.insert(header::REPLAYS, i64::from(letter.replays).saturating_add(1))?;
        }
        // Of a letter that the broker moved, what happened stands in its notes alone.
        Amended::Stays => note_death(&mut headers, letter)?,
    }
    for (name, value) in change.headers.iter().filter(|(name, _)| !is_broker_note(name)) {
        match value {
            Some(value) => headers.insert(name, value.clone())?,
            None => headers.remove(name),
        }
    }
    let mut properties = BasicProperties::default().with_delivery_mode(2);
    macro_rules! carry {
        ($($get:ident => $set:ident),*) => {
            $(if let Some(value) = from.$get() { properties = properties.$set(value.clone()); })*
        };
    }
    carry!(
        kind => with_type, message_id => with_message_id, priority => with_priority,
        correlation_id => with_correlation_id, reply_to => with_reply_to, timestamp => with_timestamp,
        app_id => with_app_id
    );
    if let Some(task) = &change.task {
        properties = properties.with_type(short("task name", task)?);
        headers.remove(header::TASK);
    }
    let body = match &change.body {
        Some(body) => {
            properties = properties.with_content_type(short("content type", JSON)?);
            body.clone()
        }
        None => {
            carry!(content_type => with_content_type, content_encoding => with_content_encoding);
            letter.body.clone().into()
        }
    };
    let exchange = match then {
        Amended::Runs => names.publish(),
        Amended::Stays => names.dead(),
    };
    Ok(Outgoing {
        exchange: short("exchange", exchange)?,
        routing_key: short("queue", &letter.queue)?,
        mandatory: true,
        properties: properties.with_headers(headers.into()),
        body,
    })
}

fn note_death(headers: &mut Headers, letter: &DeadLetter) -> Result<(), TooLong> {
    if letter.replays > 0 {
        headers.insert(header::REPLAYS, i64::from(letter.replays))?;
    }
    if !letter.reason.is_empty() {
        headers.insert(header::DEAD_REASON, letter.reason.as_str())?;
    }
    for (name, text) in [(header::ERROR, &letter.error), (header::ERROR_KIND, &letter.error_kind)] {
        if let Some(text) = text {
            headers.insert(name, text.as_str())?;
        }
    }
    if let Some(at) = letter.failed_at {
        headers.insert(header::FAILED_AT, at.0)?;
    }
    Ok(())
}
