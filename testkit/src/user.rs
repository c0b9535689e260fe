//! A user who may not do everything.

use reqwest::Method;
use serde_json::json;
use url::Url;

use crate::{
    Broker, Vhost,
    management::{delete_at_last, encode, expect},
};

const PASSWORD: &str = "leveret-test";

/// What a user may do in a virtual host: patterns for the names of exchanges and queues, an empty one for none.
#[derive(Debug, Clone, Copy)]
pub struct Permissions {
    /// Declare and delete.
    pub configure: &'static str,
    /// Publish to an exchange, bind a queue.
    pub write: &'static str,
    /// Consume from a queue, bind to an exchange.
    pub read: &'static str,
}

/// A user that one test has to itself, deleted when the value is dropped.
#[derive(Debug)]
pub struct User {
    broker: Broker,
    name: String,
    url: String,
}

impl User {
    pub(crate) async fn new(broker: Broker, vhost_url: &str, name: String) -> Self {
        let mut url = Url::parse(vhost_url).unwrap_or_else(|error| panic!("'{vhost_url}' is no AMQP URL: {error}"));
        let named = url.set_username(&name).is_ok() && url.set_password(Some(PASSWORD)).is_ok();
        assert!(named, "'{vhost_url}' cannot have another user");
        let path = format!("users/{}", encode(&name));
        let body = json!({"password": PASSWORD, "tags": ""});
        expect(broker.management().call(Method::PUT, &path, Some(&body)).await);
        Self { broker, name, url: url.to_string() }
    }

    /// The user's name on the broker.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The AMQP URL of the virtual host, as this user.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Changes what the user may do in a virtual host. The broker may go by the old permissions for as long as a
    /// channel that has used them lives.
    ///
    /// # Panics
    /// If the broker refuses it.
    pub async fn may(&self, vhost: &Vhost, permissions: Permissions) {
        let Permissions { configure, write, read } = permissions;
        let path = format!("permissions/{}/{}", encode(vhost.name()), encode(&self.name));
        let body = json!({"configure": configure, "write": write, "read": read});
        expect(self.broker.management().call(Method::PUT, &path, Some(&body)).await);
    }
}

impl Drop for User {
    fn drop(&mut self) {
        delete_at_last(self.broker.management(), format!("users/{}", encode(&self.name)));
    }
}
