//! What a centre does beside: it keeps an eye on the database, and the schedules of the file applied.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use leveret::{
    Topology,
    common::{
        link::{ChannelPool, Link},
        telemetry::http::Health,
        topology::declare,
    },
    producer::{
        centre::{declared::Applied, store::Store},
        plan::{DEFAULT_NAMESPACE, Definition, ScheduleName},
    },
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::failure::{Failure, chain};

/// How often the database is asked whether it answers.
const LOOK: Duration = Duration::from_secs(2);
/// How long until it is tried again to apply what was refused: a calendar may be there by then.
const AGAIN: Duration = Duration::from_secs(30);

/// Asks the database again and again whether it answers, for the checks must not wait for it.
pub(super) fn watch_database(store: &Store, health: &Health, stop: CancellationToken) {
    let failing: Arc<Mutex<Option<String>>> = Arc::default();
    let shown = failing.clone();
    health.check("database", move || shown.lock().clone().map_or(Ok(()), Err));
    let database = store.database().clone();
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            let answer = database.ping().await.err().map(|error| chain(&error));
            if answer.is_some() && failing.lock().is_none() {
                warn!(why = answer, "the database does not answer");
            }
            *failing.lock() = answer;
        }
    }));
}

/// Declares the queues of the file on each new connection, for the broker may have lost them. One that is there with other
/// arguments, or may not be declared, is told and holds up none of the schedules; returns only when the broker does not let
/// us in.
pub(super) async fn keep_declared(link: &Link, topology: &Topology) -> Failure {
    let pool = ChannelPool::new(link.clone());
    loop {
        let live = match link.live().await {
            Ok(live) => live,
            Err(error) => return error.into(),
        };
        if let Err(error) = declare(&pool, topology).await
            && !live.lost.is_cancelled()
        {
            error!("the queues of the file are not all declared: {}", chain(&error));
        }
        live.lost.cancelled().await;
    }
}

/// Applies the schedules of the file, and goes on while some are refused or the database does not answer.
pub(super) fn keep_applied(store: Store, schedules: BTreeMap<String, Definition>, stop: CancellationToken) {
    let named = |(name, definition): (String, Definition)| {
        Some((ScheduleName::new(DEFAULT_NAMESPACE, &name).ok()?, definition))
    };
    let declared: Vec<_> = schedules.into_iter().filter_map(named).collect();
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        let mut said = Vec::new();
        loop {
            match store.apply_declared(&declared).await {
                Ok(applied) => {
                    say(&applied, &mut said);
                    if applied.refused.is_empty() {
                        return;
                    }
                }
                Err(error) => warn!(why = chain(&error), "the schedules of the file cannot be applied yet"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }));
}

/// Says what has changed, and of each that was refused once why.
fn say(applied: &Applied, said: &mut Vec<String>) {
    let names = |names: &[ScheduleName]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if !(applied.made.is_empty() && applied.changed.is_empty() && applied.removed.is_empty()) {
        let (made, changed, removed) = (names(&applied.made), names(&applied.changed), names(&applied.removed));
        info!(made, changed, removed, kept = applied.kept, "the schedules of the file are applied");
    }
    for (name, why) in &applied.refused {
        let line = format!("[schedules.{name}] is not applied: {}", chain(why));
        if !said.contains(&line) {
            error!("{line}");
            said.push(line);
        }
    }
}
