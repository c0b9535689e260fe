//! A control plane in a process of its own, to be killed: `steered URL NAME BEAT_MS`. It says its instance on standard
//! output once commands come in.

use std::{io::Write, time::Duration};

use leveret::worker::control::ControlSettings;
use leveret_tests::{settings, steered::Steered};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, url, name, beat] = arguments.as_slice() else {
        return Err("usage: steered URL NAME BEAT_MS".into());
    };
    let mut control = ControlSettings::default();
    control.beat = Duration::from_millis(beat.parse()?);
    let steered = Steered::start(settings(url), name, &["default"], control).await.listens().await;
    writeln!(std::io::stdout(), "{}", steered.instance)?;
    std::io::stdout().flush()?;
    std::future::pending::<()>().await;
    Ok(())
}
