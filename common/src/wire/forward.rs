//! How a task gets to one worker's own queue, or to those of all.

use lapin::types::ShortString;
use uuid::Uuid;

use super::{
    Envelope, Outgoing, TooLong, header,
    moves::{carried, travelling_headers},
    short,
};
use crate::headers::Headers;

/// One share of a broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share<'a> {
    /// The worker that gets it.
    pub worker: &'a str,
    /// Its number, from 0.
    pub index: u32,
    /// How many there are.
    pub total: u32,
}

/// The move of a task of queue `queue` to `target`, the own queue of a worker.
///
/// # Errors
/// [`TooLong`] when the name does not fit.
pub fn forward(envelope: &Envelope, queue: &str, target: &str) -> Result<Outgoing, TooLong> {
    let mut headers = travelling_headers(envelope, queue);
    headers.set(header::FORWARDS, i64::from(envelope.facts.forwards) + 1);
    moved(envelope, headers, ShortString::default(), short("queue of the worker", target)?)
}

/// One share of a broadcast of queue `queue`, for `target`, the own queue of a worker. It is a task of its own, whose
/// id follows from that of the broadcast and the name of the worker: sent twice, it is still the same task.
///
/// # Errors
/// [`TooLong`] when the name does not fit.
pub fn share(envelope: &Envelope, queue: &str, target: &str, share: Share<'_>) -> Result<Outgoing, TooLong> {
    let mut headers = travelling_headers(envelope, queue);
    headers.remove(header::ROUTE);
    headers.set(header::FORWARDS, i64::from(envelope.facts.forwards) + 1);
    headers.set(header::SHARD_INDEX, i64::from(share.index));
    headers.set(header::SHARD_TOTAL, i64::from(share.total));
    let id = envelope.facts.id.as_str();
    let namespace = Uuid::parse_str(id).unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes()));
    let id = Uuid::new_v5(&namespace, share.worker.as_bytes()).to_string();
    let mut outgoing = moved(envelope, headers, ShortString::default(), short("queue of the worker", target)?)?;
    outgoing.properties = outgoing.properties.with_message_id(short("message id", &id)?);
    Ok(outgoing)
}

/// The same message by way of `exchange` to the queue of all, for a worker that is gone. It is forwarded no more.
///
/// # Errors
/// [`TooLong`] when a name does not fit.
pub fn hand_back(mut outgoing: Outgoing, exchange: &str, queue: &str) -> Result<Outgoing, TooLong> {
    outgoing.exchange = short("exchange", exchange)?;
    outgoing.routing_key = short("queue", queue)?;
    Ok(outgoing)
}

fn moved(
    envelope: &Envelope,
    headers: Headers,
    exchange: ShortString,
    routing_key: ShortString,
) -> Result<Outgoing, TooLong> {
    let properties = carried(envelope, headers, None)?;
    Ok(Outgoing { exchange, routing_key, mandatory: true, properties, body: envelope.wire_body.clone() })
}

#[cfg(test)]
mod tests {
    use lapin::{BasicProperties, types::FieldTable};

    use super::*;
    use crate::wire::Limits;

    fn envelope(id: &str) -> Envelope {
        let mut headers = Headers::default();
        headers.set(header::ROUTE, "broadcast");
        headers.set(header::KEY, "k");
        let properties = BasicProperties::default()
            .with_type(short("type", "t").unwrap())
            .with_message_id(short("id", id).unwrap())
            .with_headers(FieldTable::from(headers));
        Envelope::decode("q", false, properties, b"1".to_vec(), &Limits::default()).unwrap()
    }

    #[test]
    fn a_forwarded_task_stays_itself_and_counts() {
        let outgoing = forward(&envelope("one"), "q", "q.at.w").unwrap();
        assert_eq!((outgoing.exchange(), outgoing.routing_key()), ("", "q.at.w"));
        let again = Envelope::decode("q", false, outgoing.properties, b"1".to_vec(), &Limits::default()).unwrap();
        assert_eq!((again.facts.id.as_str(), again.facts.forwards), ("one", 1));
        assert_eq!(again.facts.key.as_deref(), Some("k"));
    }

    #[test]
    fn each_share_is_a_task_of_its_own_and_the_same_when_sent_again() {
        let sent = |worker, index| {
            let share = share(&envelope("one"), "q", "q.at.w", Share { worker, index, total: 2 }).unwrap();
            Envelope::decode("q", false, share.properties, b"1".to_vec(), &Limits::default()).unwrap().facts
        };
        let (a, b) = (sent("a", 0), sent("b", 1));
        assert_ne!(a.id, b.id);
        assert_eq!(a.id, sent("a", 0).id);
        assert_eq!((a.share, b.share, a.route), (Some((0, 2)), Some((1, 2)), None::<crate::route::Route>));
    }
}
