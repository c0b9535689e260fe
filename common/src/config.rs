//! The `[broker]` table of `leveret.toml`: where the broker is and how to talk to it.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use lapin::uri::AMQPUri;
use serde::{Deserialize, Serialize};

use crate::{byte_size, duration, wire::Limits};

/// Where the broker is and how to talk to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct BrokerSettings {
    /// One URL, or those of the nodes of a cluster, which are tried in turn. Default
    /// `amqp://guest:guest@127.0.0.1:5672/%2f`.
    #[serde(with = "one_or_many")]
    pub url: Vec<BrokerUrl>,
    /// First part of the names of the exchanges. Default `leveret`.
    pub namespace: String,
    /// Name of this instance, shown in the RabbitMQ console. Default: `leveret-` and the process id.
    pub name: String,
    /// Certificates, for `amqps` URLs.
    pub tls: TlsSettings,
    /// A dead peer is noticed after two of these. Default 10 s.
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    /// How long one attempt to connect may take, and how long to wait for the broker's answer to a request.
    /// Default 10 s.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// The longest pause between attempts to connect again. They start at 100 ms, double, and are jittered.
    /// Default 10 s.
    #[serde(with = "duration")]
    pub reconnect_max: Duration,
    /// How long a publish may wait for the broker's confirm, reconnects included. Default 30 s.
    #[serde(with = "duration")]
    pub publish_timeout: Duration,
    /// How long the broker leaves a delivery unacknowledged (`consumer_timeout` in its configuration): it cannot be
    /// asked. A worker refuses tasks that may run for longer, unless they are `long`. Default 30 min, as RabbitMQ is
    /// shipped.
    #[serde(with = "duration")]
    pub consumer_timeout: Duration,
    /// How many publishes may be on their way without a confirm. Default 1024.
    pub publish_window: usize,
    /// Largest body that is published or run, in bytes on the wire. Default 16 MiB, the most that RabbitMQ 4
    /// takes unless told otherwise.
    pub max_body: usize,
    /// Largest body after decompression, in bytes. Default 64 MiB.
    pub max_inflated_body: usize,
    /// Bodies of more bytes than this are compressed with zstd when they are published: a number, or a size such as
    /// `"8KiB"`. Default: none are.
    #[serde(deserialize_with = "byte_size::option")]
    pub compress_over: Option<usize>,
    /// Largest AMQP frame in bytes; a connection keeps 64 of them in memory. Default 131072.
    pub frame_max: u32,
}

/// Certificates for `amqps` URLs. The system's own authorities are trusted as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct TlsSettings {
    /// PEM file with certificates of authorities to trust.
    pub ca: Option<PathBuf>,
    /// PEM file with this client's certificate chain; needs `key`.
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key of `certificate`.
    pub key: Option<PathBuf>,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            url: vec![BrokerUrl::default()],
            namespace: "leveret".to_owned(),
            name: format!("leveret-{}", std::process::id()),
            tls: TlsSettings::default(),
            heartbeat: Duration::from_secs(10),
            timeout: Duration::from_secs(10),
            reconnect_max: Duration::from_secs(10),
            publish_timeout: Duration::from_secs(30),
            consumer_timeout: Duration::from_secs(1_800),
            publish_window: 1024,
            max_body: limits.wire,
            max_inflated_body: limits.inflated,
            compress_over: None,
            frame_max: 131_072,
        }
    }
}

impl BrokerSettings {
    /// The defaults, with the broker at `url`.
    ///
    /// # Errors
    /// [`InvalidUrl`] when the text is no AMQP URL.
    pub fn new(url: &str) -> Result<Self, InvalidUrl> {
        Ok(Self { url: vec![url.parse()?], ..Self::default() })
    }

    /// Sets the name shown in the RabbitMQ console.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The limits on what a message may carry.
    pub fn limits(&self) -> Limits {
        Limits {
            wire: self.max_body,
            inflated: self.max_inflated_body,
            headers: Limits::headers_in(usize::try_from(self.frame_max).unwrap_or(usize::MAX)),
        }
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`InvalidSetting`] with the key and the fix.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        let wrong = |key, fix| Err(InvalidSetting { key, fix });
        if self.url.is_empty() {
            return wrong("broker.url", "give at least one URL, such as \"amqp://guest:guest@127.0.0.1:5672/%2f\"");
        }
        // RabbitMQ 4.1 and later hang up on a client that proposes less.
        if !(8_192..=16 << 20).contains(&self.frame_max) {
            return wrong("broker.frame_max", "choose 8192 to 16777216 bytes; RabbitMQ's own default is 131072");
        }
        if !(1..=65_536).contains(&self.publish_window) {
            return wrong("broker.publish_window", "choose 1 to 65536; 1024 is a good window");
        }
        if self.heartbeat < Duration::from_secs(1) || self.heartbeat > Duration::from_secs(3_600) {
            return wrong("broker.heartbeat", "choose 1s to 1h; 10s is a good heartbeat");
        }
        for (key, length) in [
            ("broker.timeout", self.timeout),
            ("broker.publish_timeout", self.publish_timeout),
            ("broker.reconnect_max", self.reconnect_max),
        ] {
            if length.is_zero() || length > Duration::from_secs(86_400) {
                return wrong(key, "choose more than zero and at most 1day");
            }
        }
        if self.consumer_timeout < Duration::from_secs(1) {
            return wrong(
                "broker.consumer_timeout",
                "write what the broker's configuration says; RabbitMQ ships with 30m",
            );
        }
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            return wrong("broker.tls", "a client certificate needs both `certificate` and `key`");
        }
        crate::topology::Names::new(&self.namespace)
            .map(drop)
            .map_err(|_| InvalidSetting { key: "broker.namespace", fix: "use 1 to 100 letters, digits, `-` and `_`" })
    }
}

/// A setting has a value that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {fix}")]
pub struct InvalidSetting {
    /// The key in `leveret.toml`.
    pub key: &'static str,
    /// What to write instead.
    pub fix: &'static str,
}

/// The URL of a RabbitMQ node and a virtual host on it. Printing it leaves the password out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BrokerUrl {
    pub(crate) uri: AMQPUri,
    text: String,
}

impl Default for BrokerUrl {
    /// RabbitMQ's own default user on this machine.
    fn default() -> Self {
        Self { uri: AMQPUri::default(), text: "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned() }
    }
}

impl BrokerUrl {
    /// Host and port, for people.
    pub fn host(&self) -> String {
        format!("{}:{}", self.uri.authority.host, self.uri.authority.port)
    }

    /// The virtual host.
    pub fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    /// The whole URL, its password included, to hand to another program.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }
}

impl FromStr for BrokerUrl {
    type Err = InvalidUrl;
    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let invalid = |reason: String| InvalidUrl { url: redact(text), reason };
        let parsed = url::Url::parse(text).map_err(|error| invalid(error.to_string()))?;
        if parsed.host_str().is_none_or(str::is_empty) {
            return Err(invalid("it names no host".to_owned()));
        }
        let mut uri: AMQPUri = text.parse().map_err(invalid)?;
        // By the letter `amqp://host/` is the virtual host "", which nobody has: RabbitMQ's own is "/".
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        Ok(Self { uri, text: text.to_owned() })
    }
}

impl TryFrom<String> for BrokerUrl {
    type Error = InvalidUrl;
    fn try_from(text: String) -> Result<Self, InvalidUrl> {
        text.parse()
    }
}

impl From<BrokerUrl> for String {
    fn from(url: BrokerUrl) -> Self {
        url.to_string()
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.uri.scheme {
            lapin::uri::AMQPScheme::AMQP => "amqp",
            lapin::uri::AMQPScheme::AMQPS => "amqps",
        };
        let vhost = if self.vhost() == "/" { "%2f" } else { self.vhost() };
        write!(f, "{scheme}://{}@{}/{vhost}", self.user(), self.host())
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no AMQP URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is no AMQP URL ({reason}): write amqp://user:password@host:5672/vhost, or amqps:// for TLS")]
pub struct InvalidUrl {
    /// The text, its password left out.
    pub url: String,
    /// What is wrong with it.
    pub reason: String,
}

fn redact(text: &str) -> String {
    let Some((credentials, host)) = text.rsplit_once('@') else {
        return text.to_owned();
    };
    // What is no URL may have its password anywhere before the host.
    let scheme = credentials.find("://").map_or("", |end| &credentials[..end + 3]);
    format!("{scheme}***@{host}")
}

mod one_or_many {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::BrokerUrl;

    #[derive(Deserialize)]
    #[serde(untagged, expecting = "an AMQP URL or a list of them")]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }

    pub(super) fn serialize<S: Serializer>(urls: &[BrokerUrl], serializer: S) -> Result<S::Ok, S::Error> {
        match urls {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<BrokerUrl>, D::Error> {
        let texts = match OneOrMany::deserialize(deserializer)? {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        };
        texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_virtual_host_means_the_brokers_own() {
        for text in ["amqp://broker", "amqp://broker/", "amqp://broker:5672/%2f"] {
            assert_eq!(text.parse::<BrokerUrl>().unwrap().vhost(), "/", "{text}");
        }
        assert_eq!("amqp://broker/mail".parse::<BrokerUrl>().unwrap().vhost(), "mail");
    }

    #[test]
    fn passwords_are_never_printed() {
        let url: BrokerUrl = "amqps://me:secret@broker/".parse().unwrap();
        assert_eq!(format!("{url} {url:?}").matches("secret").count(), 0);
        let error = "http://me:secret@broker/".parse::<BrokerUrl>().unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn a_setting_that_cannot_work_is_named_with_its_fix() {
        let settings = BrokerSettings { frame_max: 0, ..BrokerSettings::default() };
        assert!(settings.check().unwrap_err().to_string().starts_with("broker.frame_max: choose"));
        // A time to wait that no clock can show would make the publisher panic.
        let settings = BrokerSettings { publish_timeout: Duration::MAX, ..BrokerSettings::default() };
        assert!(settings.check().unwrap_err().to_string().starts_with("broker.publish_timeout: choose"));
    }
}
