//! What a command is given: the global arguments, the output, and ways to the settings and the broker.

use std::{pin::pin, sync::Arc, time::Duration};

use leveret::{
    BrokerSettings, Client,
    common::link::{ChannelPool, Link, Role},
};

use crate::{
    api::{Api, Context},
    arguments::Global,
    failure::{Exit, Failure},
    output::Output,
    settings::Settings,
};

/// The longest that a command which is not to stay waits for the broker.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it waits without a word.
const SILENCE: Duration = Duration::from_secs(2);

/// What a command is given.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) global: Global,
    pub(crate) output: Output,
}

impl Session {
    pub(crate) fn new(global: Global, output: Output) -> Self {
        Self { global, output }
    }

    /// Reads the configuration. A command that needs none does not fail over a wrong one.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        Ok(Settings::load(&self.global)?)
    }

    /// The centre that is meant, and the namespace in it.
    pub(crate) fn api(&self) -> Result<(Api, Option<String>), Failure> {
        let context = Context::of(&self.global)?;
        Ok((Api::new(&context)?, context.namespace))
    }

    /// The centre for a command that asks the broker unless one is named, by --api, --context or their variables.
    pub(crate) fn centre(&self) -> Result<Option<Api>, Failure> {
        self.global.names_centre().then(|| Ok(self.api()?.0)).transpose()
    }

    /// Fails where a centre is named, for what it cannot be asked. `what` begins the sentence.
    pub(crate) fn without_centre(&self, what: &str) -> Result<(), Failure> {
        if self.global.names_centre() { Err(not_from_centre(what)) } else { Ok(()) }
    }

    /// The centre, for what the broker cannot be asked. `what` begins the sentence.
    pub(crate) fn need_centre(&self, what: &str) -> Result<Api, Failure> {
        let missing = || Failure::new(Exit::Usage, format!("{what}: name a centre by --context or --api"));
        self.centre()?.ok_or_else(missing)
    }

    /// A client that publishes. Fails within ten seconds when no broker answers.
    pub(crate) async fn client(&self, broker: BrokerSettings) -> Result<Client, Failure> {
        Ok(self.impatiently(Client::connect(impatient(broker))).await?)
    }

    /// Channels for requests. Fails within ten seconds when no broker answers.
    pub(crate) async fn admin(&self, broker: BrokerSettings) -> Result<ChannelPool, Failure> {
        let broker = impatient(broker);
        let patience = broker.timeout;
        let link = Link::open(Arc::new(broker), Role::Admin);
        self.impatiently(link.live_within(patience)).await?;
        Ok(ChannelPool::new(link))
    }

    /// Says so when it takes longer than people expect.
    async fn impatiently<T>(&self, connecting: impl Future<Output = T>) -> T {
        let mut connecting = pin!(connecting);
        tokio::select! {
            connected = &mut connecting => connected,
            () = tokio::time::sleep(SILENCE) => {
                self.output.remark("the broker does not answer yet, trying again");
                connecting.await
            }
        }
    }
}

/// Why a centre that is named does not help. `what` begins the sentence.
pub(crate) fn not_from_centre(what: &str) -> Failure {
    let text = "cannot be had from a centre: to ask the broker, leave out --api, --context and their variables";
    Failure::new(Exit::Usage, format!("{what} {text}"))
}

fn impatient(mut broker: BrokerSettings) -> BrokerSettings {
    broker.timeout = broker.timeout.min(PATIENCE);
    broker
}
