//! Replays and purges that a centre does, in the background.

use std::time::Duration;

use indicatif::ProgressBar;
use leveret::{QueueName, producer::centre::operations::Request};
use serde_json::Value;

use crate::{
    api::{Api, Said, cell},
    failure::{Exit, Failure},
    session::Session,
};

/// How often it is asked how far it is.
const LOOK: Duration = Duration::from_millis(500);

/// Has a centre begin a replay or a purge, and waits for its end if that is wanted.
pub(super) async fn begin(
    api: &Api,
    session: &Session,
    kind: &'static str,
    queue: Option<&QueueName>,
    request: &Request,
    is_awaited: bool,
) -> Result<Exit, Failure> {
    let queue = queue.map_or("~lost", QueueName::as_str);
    let begun: Value = api.post(&["queues", queue, "dead", kind], &[], request).await?;
    let id = cell(&begun, "/id");
    if !is_awaited {
        session.output.remark("it has begun: `leveret centre operations` shows how far it is");
        session.output.report(&Said { json: begun, text: id })?;
        return Ok(Exit::Done);
    }
    let bar = session.output.progress(None, kind);
    let ended = wait(api, &id, &bar).await;
    bar.finish_and_clear();
    let ended = ended?;
    let state = cell(&ended, "/state");
    let why = ended["error"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
    let text = format!("{state}: {} of {} were moved or removed{why}", ended["done"], cell(&ended, "/total"));
    let exit = if state == "done" { Exit::Done } else { Exit::Failed };
    session.output.report(&Said { json: ended, text })?;
    Ok(exit)
}

async fn wait(api: &Api, id: &str, bar: &ProgressBar) -> Result<Value, Failure> {
    loop {
        let operation: Value = api.get(&["operations", id], &[]).await?;
        bar.set_position(operation["seen"].as_u64().unwrap_or_default());
        if operation["state"] != "running" {
            return Ok(operation);
        }
        tokio::time::sleep(LOOK).await;
    }
}
