//! systemd, where it has started us with `Type=notify`: when we are ready, that we are alive, and that we stop.
//!
//! Elsewhere all of this does nothing.

use std::time::Duration;

use leveret::common::telemetry::http::Health;
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often it is looked whether something has changed.
const LOOK: Duration = Duration::from_secs(1);

/// Tells systemd how the service is until `shutdown`: ready once every check of `/ready` has passed for the first time,
/// alive at half of `WatchdogSec` while those of `/live` pass, and what fails as its status.
pub(crate) fn attend(health: Health, shutdown: CancellationToken) {
    let watchdog = sd_notify::watchdog_enabled().map(|interval| interval / 2);
    let look = watchdog.map_or(LOOK, |half| half.min(LOOK)).max(Duration::from_millis(10));
    let attending = async move {
        let (mut ready, mut said, mut alive) = (false, String::new(), Duration::ZERO);
        let mut tick = tokio::time::interval(look);
        loop {
            tick.tick().await;
            let failing = health.failing();
            if failing.is_empty() && !ready {
                ready = true;
                tell(NotifyState::Ready);
            }
            let status = failing.iter().map(|(check, why)| format!("{check}: {why}")).collect::<Vec<_>>().join("; ");
            // A line of its own would be a message of its own.
            let status = if status.is_empty() { "working".to_owned() } else { status.replace('\n', " ") };
            if status != said {
                tell(NotifyState::Status(&status));
                said = status;
            }
            alive += look;
            if watchdog.is_some_and(|half| alive >= half) && health.failing_live().is_empty() {
                tell(NotifyState::Watchdog);
                alive = Duration::ZERO;
            }
        }
    };
    tokio::spawn(shutdown.run_until_cancelled_owned(attending));
}

/// Tells systemd that the service has begun to stop.
pub(crate) fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!("systemd cannot be told: {error}");
    }
}
