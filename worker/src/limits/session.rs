//! A worker's connection to the keeper: requests out, one at a time, and answers in.

use std::{sync::Arc, time::Duration};

use leveret_common::{
    link::{Inbox, Link, Live, MailEvent, Mailbox},
    topology::{Names, Topology, declare},
    wire::{TooLong, short},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    desk::Desk,
    protocol::{Answer, ToKeeper},
    share::{Heard, Share},
};

/// A request that is not answered for so long is made again: its keeper, or the broker, has lost it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// A worker says that it is there at least so often. Its last message stays with the keeper unacknowledged, which no
/// broker puts up with for ever.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// What a session, and a keeper, stand on.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) link: Link,
    pub(super) pool: leveret_common::link::ChannelPool,
    pub(super) topology: Topology,
    /// Tells this worker's queues from those of all others.
    pub(super) id: String,
    pub(super) share: Arc<Share>,
    pub(super) stop: CancellationToken,
}

impl Ground {
    pub(super) fn names(&self) -> &Names {
        self.topology.names()
    }

    /// A connection, and a mailbox on it; tries until there is one. None when it is to stop.
    pub(super) async fn mailbox(&self, inbox: impl Fn(&Live) -> Inbox) -> Option<(Arc<Live>, Mailbox)> {
        let trying = async {
            let mut pause = Duration::from_millis(50);
            loop {
                let live = self.link.live().await.ok()?;
                // The queue may have been deleted.
                let opened = match declare(&self.pool, &self.topology).await {
                    Ok(()) => Mailbox::open(&self.link, &live, &inbox(&live)).await.map_err(|error| error.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                match opened {
                    Ok(mailbox) => return Some((live, mailbox)),
                    Err(reason) if live.lost.is_cancelled() => debug!(%reason, "no way to the limits"),
                    Err(reason) => warn!(%reason, "no way to the limits, trying again"),
                }
                tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => None,
            opened = trying => opened,
        }
    }
}

/// Asks and listens until it is to stop.
pub(super) async fn run(ground: Arc<Ground>) {
    let own = |live: &Live| ground.names().limits_of(&format!("{}.{}", ground.id, live.generation));
    while let Some((live, mut mailbox)) = ground.mailbox(|live| Inbox::Own(own(live))).await {
        ground.share.connected(live.lost.clone());
        let ended = serve(&ground, &own(&live), &mut mailbox).await;
        mailbox.close().await;
        match ended {
            Ok(End::Stopped) => break,
            Ok(End::Lost(reason)) => debug!(%reason, "lost the way to the limits"),
            Err(error) => {
                warn!("{error}");
                break;
            }
        }
    }
    ground.share.close();
}

enum End {
    Stopped,
    Lost(String),
}

async fn serve(ground: &Ground, from: &str, mailbox: &mut Mailbox) -> Result<End, TooLong> {
    let share = &ground.share;
    let to = short("queue", ground.names().limits())?;
    let mut report = true;
    let mut flight: Option<u64> = None;
    let mut last_sent = Instant::now();
    loop {
        let sign_of_life = last_sent.elapsed() >= SIGN_OF_LIFE;
        if flight.is_none()
            && let Some(request) = share.compose(from, report, sign_of_life)
        {
            flight = Some(request.number);
            report = false;
            last_sent = Instant::now();
            mailbox.post(&to, serde_json::to_vec(&ToKeeper::Request(Box::new(request))).unwrap_or_default());
        }
        let next_look = last_sent + if flight.is_some() { ANSWER_TIMEOUT } else { SIGN_OF_LIFE };
        tokio::select! {
            event = mailbox.next() => match event {
                MailEvent::Letter { body, .. } => match serde_json::from_slice::<Answer>(&body) {
                    Ok(answer) => match share.hear(answer) {
                        Heard::Report => (report, flight) = (true, None),
                        Heard::Done(done) => flight = flight.filter(|number| done.is_none_or(|done| done < *number)),
                        Heard::Outdated => {}
                    },
                    Err(error) => warn!(%error, "cannot read an answer about the limits"),
                },
                MailEvent::Returned(queue) => return Ok(End::Lost(format!("there is no queue {queue:?}"))),
                MailEvent::Closed(reason) => return Ok(End::Lost(reason)),
            },
            () = share.wake.notified(), if flight.is_none() => {}
            () = tokio::time::sleep_until(next_look) => if flight.take().is_some() {
                report = true;
            },
            () = ground.stop.cancelled() => return Ok(End::Stopped),
        }
    }
}
