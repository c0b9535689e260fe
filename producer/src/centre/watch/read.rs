//! Reading messages of events. Anyone who may publish to the exchange can write one.

use leveret_common::{
    event::{EventBatch, TaskEvent},
    link::Delivery,
    registry::Instance,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::centre::store::tasks::Told;

/// The largest message that is read, in bytes. Those of our workers have about 1 MiB at most.
const LARGEST: usize = 16 << 20;

/// What could be read of a message.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) events: Vec<Told>,
    /// About how many bytes they have.
    pub(super) bytes: usize,
    /// Events that could not be read; 1 for a message as a whole.
    pub(super) unreadable: usize,
    /// What was wrong with the last of them.
    pub(super) error: Option<String>,
}

/// A message with events that may each be of a kind that this version does not know.
#[derive(Deserialize)]
struct Loose<'a> {
    worker: String,
    instance: Instance,
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

/// The events of a message of workers.
pub(super) fn message(delivery: &mut Delivery) -> Read {
    let (_, body) = delivery.take_content();
    Read { bytes: body.len(), ..read(&body) }
}

/// The events of a message; those that cannot be read are left out and counted.
fn read(body: &[u8]) -> Read {
    let failed = |error: String| Read { unreadable: 1, error: Some(error), ..Read::default() };
    if body.len() > LARGEST {
        return failed(format!("it has {} bytes, the limit is {LARGEST}", body.len()));
    }
    // As it is, nearly always.
    if let Ok(batch) = serde_json::from_slice::<EventBatch>(body) {
        return Read { events: Told::of(batch).collect(), ..Read::default() };
    }
    let loose: Loose<'_> = match serde_json::from_slice(body) {
        Ok(loose) => loose,
        Err(error) => return failed(error.to_string()),
    };
    let mut read = Read::default();
    for event in loose.events {
        match serde_json::from_str::<TaskEvent>(event.get()) {
            Ok(event) => read.events.push(Told::by(&loose.worker, loose.instance, event)),
            Err(error) => {
                read.unreadable += 1;
                read.error = Some(error.to_string());
            }
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"id":"a","task":"mail.send","queue":"mail","attempt":1,"at":7,"event":"started"}"#;

    fn message(events: &str) -> Vec<u8> {
        let instance = "0199aaaa-0000-7000-8000-000000000001";
        format!(r#"{{"worker":"mail-1","instance":"{instance}","events":[{events}]}}"#).into_bytes()
    }

    #[test]
    fn what_can_be_read_is_read() {
        let all = read(&message(&format!("{GOOD},{GOOD}")));
        assert_eq!((all.events.len(), all.unreadable), (2, 0));
        let later = GOOD.replace("started", "levitated");
        let some = read(&message(&format!("{later},{GOOD},{{}},7")));
        assert_eq!((some.events.len(), some.unreadable), (1, 3));
        for wrong in [b"".as_slice(), b"{", b"[]", b"\xff\xfe", br#"{"worker":"a","instance":"b","events":[]}"#] {
            let none = read(wrong);
            assert_eq!((none.events.len(), none.unreadable), (0, 1));
            assert!(none.error.is_some());
        }
    }
}
