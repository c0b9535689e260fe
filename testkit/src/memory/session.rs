//! One connection of a client: the handshake, and what it then asks for on its channels.

use std::{collections::BTreeMap, io, sync::Arc};

use amq_protocol::{
    frame::{AMQPContentHeader, AMQPFrame},
    protocol::{AMQPClass, basic, channel, confirm, connection},
};
use bytes::Bytes;
use lapin::types::{AMQPValue, FieldTable, LongString};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    channel::{Channel, Incoming, Publish},
    fault::Fault,
    frames::{Inbox, Outbox},
    table,
};

/// What the broker states as its version: everything here is as RabbitMQ 3.10 does it.
const VERSION: &str = "3.10.8";
const FRAME_MAX: u32 = 131_072;

/// One connection of a client.
pub(super) struct Session {
    pub(super) number: u64,
    pub(super) shared: Arc<Shared>,
    outbox: Outbox,
    frame_max: usize,
    pub(super) channels: BTreeMap<u16, Open>,
}

/// What a session keeps of a channel; the rest is in the state.
#[derive(Default)]
pub(super) struct Open {
    /// Numbers the publishes, where confirms are on.
    confirms: Option<u64>,
    /// A message that is not here in full.
    pub(super) coming: Option<Coming>,
    /// We have closed it, and the client has not answered: what it still sends is not heeded.
    closing: bool,
    /// The queue that was declared last.
    pub(super) last_queue: String,
    /// Numbers the subscriptions that the client does not name.
    pub(super) tags: u64,
}

/// A message on its way in.
pub(super) struct Coming {
    pub(super) method: basic::Publish,
    pub(super) header: Option<AMQPContentHeader>,
    pub(super) body: Vec<u8>,
}

/// Serves a client until it goes or `cut` is cancelled, upon which it hears no goodbye.
pub(super) async fn serve(shared: Arc<Shared>, socket: TcpStream, number: u64, cut: CancellationToken) {
    let _ = socket.set_nodelay(true);
    let (reading, writing) = socket.into_split();
    let (outbox, writer) = Outbox::new(writing);
    let writer = tokio::spawn(writer);
    let session = Session { number, shared: shared.clone(), outbox, frame_max: 0, channels: BTreeMap::new() };
    let ended = tokio::select! {
        // A client that goes is no fault of the broker's.
        _ = session.run(Inbox::new(reading)) => true,
        () = cut.cancelled() => false,
    };
    shared.state().close_connection(number);
    if ended {
        // What was said last, the answer to a close above all, still goes out.
        let _ = writer.await;
    } else {
        writer.abort();
    }
}

impl Session {
    async fn run(mut self, mut inbox: Inbox) -> io::Result<()> {
        self.shake_hands(&mut inbox).await?;
        loop {
            let handled = match inbox.frame().await? {
                AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(_))) => {
                    self.say(0, AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {})));
                    return Ok(());
                }
                AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::CloseOk(_))) => return Ok(()),
                AMQPFrame::Method(0, _) | AMQPFrame::Heartbeat => continue,
                AMQPFrame::Method(number, method) => self.method(number, method).map_err(|fault| (number, fault)),
                AMQPFrame::Header(number, header) => self.header(number, header).map_err(|fault| (number, fault)),
                AMQPFrame::Body(number, body) => self.body(number, &body).map_err(|fault| (number, fault)),
                AMQPFrame::ProtocolHeader(_) | AMQPFrame::InvalidHeartbeat(_) => return Ok(()),
            };
            if let Err((number, fault)) = handled {
                self.object(number, &fault);
            }
        }
    }

    async fn shake_hands(&mut self, inbox: &mut Inbox) -> io::Result<()> {
        inbox.greeting().await?;
        let mut properties = FieldTable::default();
        for (key, value) in [
            ("product", "RabbitMQ"),
            ("version", VERSION),
            ("platform", "memory broker of leveret-testkit"),
            ("cluster_name", "memory"),
        ] {
            properties.insert(table::short(key), table::long(value));
        }
        let mut capabilities = FieldTable::default();
        for ability in ["publisher_confirms", "basic.nack", "consumer_cancel_notify", "direct_reply_to"] {
            capabilities.insert(table::short(ability), AMQPValue::Boolean(true));
        }
        properties.insert(table::short("capabilities"), AMQPValue::FieldTable(capabilities));
        let start = connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: properties,
            mechanisms: LongString::from("PLAIN AMQPLAIN"),
            locales: LongString::from("en_US"),
        };
        self.say(0, AMQPClass::Connection(connection::AMQPMethod::Start(start)));
        loop {
            let AMQPFrame::Method(0, AMQPClass::Connection(method)) = inbox.frame().await? else { continue };
            match method {
                connection::AMQPMethod::StartOk(_) => {
                    let tune = connection::Tune { channel_max: 2047, frame_max: FRAME_MAX, heartbeat: 60 };
                    self.say(0, AMQPClass::Connection(connection::AMQPMethod::Tune(tune)));
                }
                connection::AMQPMethod::TuneOk(tuned) => {
                    let frame_max = if tuned.frame_max == 0 { FRAME_MAX } else { tuned.frame_max };
                    self.frame_max = usize::try_from(frame_max).unwrap_or(usize::MAX);
                }
                connection::AMQPMethod::Open(_) => {
                    self.say(0, AMQPClass::Connection(connection::AMQPMethod::OpenOk(connection::OpenOk {})));
                    return Ok(());
                }
                _ => return Err(io::Error::other("the client left during the handshake")),
            }
        }
    }

    pub(super) fn say(&self, channel: u16, method: AMQPClass) {
        self.outbox.method(channel, method);
    }

    /// Closes the channel, or the connection, over what a client did.
    fn object(&mut self, number: u16, fault: &Fault) {
        let (reply_code, reply_text) = (fault.code, table::short(&fault.text));
        if fault.is_hard() {
            let close = connection::Close { reply_code, reply_text, class_id: 0, method_id: 0 };
            return self.say(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)));
        }
        self.shared.state().close_channel((self.number, number));
        if let Some(open) = self.channels.get_mut(&number) {
            *open = Open { closing: true, ..Open::default() };
        }
        let close = channel::Close { reply_code, reply_text, class_id: 0, method_id: 0 };
        self.say(number, AMQPClass::Channel(channel::AMQPMethod::Close(close)));
    }

    fn method(&mut self, number: u16, method: AMQPClass) -> Result<(), Fault> {
        let key = (self.number, number);
        match method {
            AMQPClass::Channel(channel::AMQPMethod::Open(_)) => {
                self.channels.insert(number, Open::default());
                let channel = Channel::new(self.outbox.clone(), self.frame_max);
                self.shared.state().channels.insert(key, channel);
                self.say(number, AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {})));
            }
            AMQPClass::Channel(channel::AMQPMethod::Close(_)) => {
                self.shared.state().close_channel(key);
                self.channels.remove(&number);
                self.say(number, AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})));
            }
            AMQPClass::Channel(channel::AMQPMethod::CloseOk(_)) => drop(self.channels.remove(&number)),
            _ if self.channels.get(&number).is_none_or(|open| open.closing) => {}
            AMQPClass::Exchange(method) => self.exchange(number, method)?,
            AMQPClass::Queue(method) => self.queue(number, method)?,
            AMQPClass::Basic(method) => self.basic(number, method)?,
            AMQPClass::Confirm(confirm::AMQPMethod::Select(select)) => {
                // A second time changes nothing: the numbers go on.
                self.open(number).confirms.get_or_insert(0);
                if !select.nowait {
                    self.say(number, AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {})));
                }
            }
            AMQPClass::Channel(channel::AMQPMethod::Flow(flow)) => {
                let ok = channel::FlowOk { active: flow.active };
                self.say(number, AMQPClass::Channel(channel::AMQPMethod::FlowOk(ok)));
            }
            AMQPClass::Tx(_) => return Err(Fault::not_implemented("transactions")),
            _ => return Err(Fault::not_implemented("this method")),
        }
        Ok(())
    }

    pub(super) fn open(&mut self, number: u16) -> &mut Open {
        self.channels.entry(number).or_default()
    }

    fn header(&mut self, number: u16, header: AMQPContentHeader) -> Result<(), Fault> {
        if let Some(coming) = self.open(number).coming.as_mut() {
            coming.header = Some(header);
        }
        self.publish_if_whole(number)
    }

    fn body(&mut self, number: u16, body: &[u8]) -> Result<(), Fault> {
        if let Some(coming) = self.open(number).coming.as_mut() {
            coming.body.extend_from_slice(body);
        }
        self.publish_if_whole(number)
    }

    fn publish_if_whole(&mut self, number: u16) -> Result<(), Fault> {
        let key = (self.number, number);
        let open = self.open(number);
        let is_whole =
            |coming: &Coming| coming.header.as_ref().is_some_and(|header| header.body_size <= coming.body.len() as u64);
        let Some(Coming { method, header: Some(header), body }) = open.coming.take_if(|coming| is_whole(coming)) else {
            return Ok(());
        };
        let confirm = open.confirms.as_mut().map(|last| {
            *last += 1;
            *last
        });
        let message = Incoming {
            exchange: method.exchange,
            routing_key: method.routing_key,
            properties: header.properties,
            body: Bytes::from(body),
        };
        let (state, returned) = (&mut self.shared.state(), message.clone());
        let published = state.publish(key, message)?;
        if published == Publish::Unroutable && method.mandatory {
            let Incoming { exchange, routing_key, properties, body } = returned;
            let returning =
                basic::Return { reply_code: 312, reply_text: table::short("NO_ROUTE"), exchange, routing_key };
            let returning = AMQPClass::Basic(basic::AMQPMethod::Return(returning));
            self.outbox.content(number, returning, properties, &body, self.frame_max);
        }
        if let Some(delivery_tag) = confirm {
            let said = match published {
                Publish::Refused => {
                    basic::AMQPMethod::Nack(basic::Nack { delivery_tag, multiple: false, requeue: false })
                }
                _ => basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple: false }),
            };
            self.say(number, AMQPClass::Basic(said));
        }
        Ok(())
    }
}
