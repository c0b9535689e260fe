//! The twin: the same work with lapin alone, written as tightly as we can, to measure ourselves against.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions,
    },
    types::{FieldTable, ShortString},
};
use tokio::time::Instant;

use super::{Measured, ResourceUse, report::BenchError};

/// Publishes polled together, so that they are written in one piece.
const BATCH: usize = 64;
/// Confirms that may be outstanding.
const WINDOW: usize = 1024;
/// Deliveries acknowledged with one frame, or after [`ACK_WAIT`].
const ACKS: u64 = 50;
const ACK_WAIT: Duration = Duration::from_millis(1);
/// Deliveries that may be unacknowledged.
pub(super) const PREFETCH: u16 = 1_000;

/// A connection and a channel of plain lapin.
pub(super) struct Twin {
    connection: Connection,
    channel: Channel,
}

impl Twin {
    pub(super) async fn connect(url: &str) -> Result<Self, BenchError> {
        let properties = ConnectionProperties::default().with_connection_name("leveret bench twin".into());
        let connection = Connection::connect(url, properties).await?;
        let channel = connection.create_channel().await?;
        Ok(Self { connection, channel })
    }

    /// Publishes `count` bodies, mandatory and confirmed, through one channel.
    pub(super) async fn publish(
        &self,
        exchange: &ShortString,
        key: &ShortString,
        body: &[u8],
        count: usize,
    ) -> Result<Measured, BenchError> {
        self.channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let properties = BasicProperties::default().with_delivery_mode(2);
        let send = || async {
            let published =
                self.channel.basic_publish(exchange.clone(), key.clone(), options, body, properties.clone());
            published.await?.await
        };
        let measuring = ResourceUse::start();
        let mut flight = FuturesUnordered::new();
        let (mut sent, mut confirmed) = (0, 0);
        while confirmed < count {
            let room = (WINDOW - flight.len()).min(BATCH).min(count - sent);
            flight.extend((0..room).map(|_| send()));
            sent += room;
            let mut next = flight.next().await;
            while let Some(outcome) = next {
                if !matches!(outcome?, Confirmation::Ack(None)) {
                    return Err(BenchError::Refused);
                }
                confirmed += 1;
                next = flight.next().now_or_never().flatten();
            }
        }
        Ok(measuring.stop(count))
    }

    /// Takes `count` messages, and acknowledges them in batches.
    pub(super) async fn drain(&self, queue: &ShortString, count: usize) -> Result<Measured, BenchError> {
        self.channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let measuring = ResourceUse::start();
        let tag = ShortString::default();
        let mut deliveries = self
            .channel
            .basic_consume(queue.clone(), tag, BasicConsumeOptions::default(), FieldTable::default())
            .await?;
        let (mut taken, mut last, mut acked) = (0, 0, 0);
        let mut oldest = Instant::now();
        while taken < count {
            let due = tokio::time::sleep_until(oldest + ACK_WAIT);
            tokio::select! {
                biased;
                delivery = deliveries.next() => {
                    let Some(delivery) = delivery.transpose()? else { return Err(BenchError::Refused) };
                    if last == acked {
                        oldest = Instant::now();
                    }
                    taken += 1;
                    last = delivery.delivery_tag;
                    std::hint::black_box(&delivery.data);
                }
                () = due, if last > acked => {}
            }
            if last - acked >= ACKS || taken == count || oldest.elapsed() >= ACK_WAIT {
                self.channel.basic_ack(last, BasicAckOptions { multiple: true }).await?;
                acked = last;
            }
        }
        let measured = measuring.stop(count);
        self.channel.basic_cancel(deliveries.tag(), BasicCancelOptions::default()).await?;
        Ok(measured)
    }

    pub(super) async fn close(self) {
        let bye = ShortString::try_new("bye").unwrap_or_default();
        let _ = self.connection.close(200, bye).await;
    }
}
