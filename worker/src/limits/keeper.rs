//! The keeper of the limits: one worker at a time, chosen by the broker, which gives out the permits of all.
//!
//! The broker delivers from the queue of the limits to one consumer alone, and to another when that one is gone. Here
//! is what goes in and out; what is decided, and why that holds through a change of keepers, is in `reign.rs`.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use leveret_common::{
    clock::Clock,
    link::{Inbox, MailEvent, Mailbox},
    wire::short,
};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{protocol::ToKeeper, reign::Reign, session::Ground};

/// Letters that are dealt with before answers go out.
const BATCH: usize = 256;

/// Stands by, and keeps the limits whenever the broker wants it, until it is to stop.
pub(super) async fn run(ground: Arc<Ground>, patience: Duration) {
    let shared = ground.names().limits().to_owned();
    while let Some((_, mut mailbox)) = ground.mailbox(|_| Inbox::Shared(shared.clone())).await {
        let ended = tokio::select! {
            () = ground.stop.cancelled() => None,
            reason = keep(&ground, patience, &mut mailbox) => Some(reason),
        };
        // The next keeper begins when the channel is closed.
        mailbox.close().await;
        let Some(reason) = ended else { return };
        info!(%reason, "does not keep the limits any more, standing by");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for the first letter, by which the broker says that this worker is the keeper, and is it until something ends
/// it.
async fn keep(ground: &Ground, patience: Duration, mailbox: &mut Mailbox) -> String {
    let mut event = Some(mailbox.next().await);
    // By the time, so that it is most likely above all before; where it is not, a worker says so.
    let epoch = u64::try_from(Clock::system().now().0).unwrap_or(0).max(ground.share.epoch() + 1);
    let mut reign = Reign::new(epoch, patience, Instant::now());
    let queue = match short("queue", ground.names().limits()) {
        Ok(queue) => queue,
        Err(error) => return error.to_string(),
    };
    let mut marked = 0;
    info!(epoch, "keeps the limits from here on");
    loop {
        let mut taken = 0;
        while let Some(now) = event.take() {
            match now {
                MailEvent::Letter { tag, body } => match serde_json::from_slice(&body) {
                    Ok(ToKeeper::Request(request)) => reign.request(tag, *request, Instant::now()),
                    Ok(ToKeeper::Marker { epoch }) => reign.marker(tag, epoch),
                    Err(error) => {
                        warn!(%error, "cannot read a message to the keeper of the limits");
                        mailbox.ack(tag);
                    }
                },
                MailEvent::Returned(queue) => reign.returned(&queue, Instant::now()),
                MailEvent::Closed(reason) => return reason,
            }
            taken += 1;
            if taken < BATCH {
                event = mailbox.next().now_or_never();
            }
        }
        if ground.share.epoch() > reign.epoch() {
            return "another worker keeps them".to_owned();
        }
        if marked != reign.epoch() {
            marked = reign.epoch();
            let marker = ToKeeper::Marker { epoch: marked };
            mailbox.post(&queue, serde_json::to_vec(&marker).unwrap_or_default());
        }
        let out = reign.advance(Instant::now());
        for tag in out.settled {
            mailbox.ack(tag);
        }
        for (to, answer) in out.answers {
            match short("queue", &to) {
                Ok(to) => mailbox.post(&to, serde_json::to_vec(&answer).unwrap_or_default()),
                // No queue has such a name, so nobody waits there.
                Err(_) => reign.returned(&to, Instant::now()),
            }
        }
        event = tokio::select! {
            event = mailbox.next() => Some(event),
            () = tokio::time::sleep_until(reign.next_look(Instant::now())) => None,
        };
    }
}
