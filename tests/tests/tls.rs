//! `amqps://`: a task goes from publish to run over TLS, and every way in which TLS fails is told at once.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic, its helpers too")]

use std::{fs, path::PathBuf, time::Duration};

use leveret::{BrokerSettings, Client, ClientError, ConnectError, StartError};
use leveret_testkit::{ClientCertificates, Node, Vhost, eventually_eq};
use leveret_tests::{PATIENCE, probe, quick, settings, start, within, worker};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// An authority with one certificate for the broker and one for its clients, as PEM files in a folder.
struct Authority {
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        let named = |name: &str, subjects: &[&str]| {
            let mut params =
                CertificateParams::new(subjects.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params
        };
        let mut params = named("Leveret test authority", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        write("ca.pem", params.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(params, key);
        let sign = |prefix: &str, mut params: CertificateParams, purpose| {
            params.extended_key_usages.push(purpose);
            let key = KeyPair::generate().unwrap();
            write(&format!("{prefix}certificate.pem"), params.signed_by(&key, &issuer).unwrap().pem());
            write(&format!("{prefix}key.pem"), key.serialize_pem());
        };
        sign("", named("broker", &["127.0.0.1"]), ExtendedKeyUsagePurpose::ServerAuth);
        sign("client-", named("client", &[]), ExtendedKeyUsagePurpose::ClientAuth);
        Self { folder }
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.folder.path().join(name))
    }

    async fn node(&self, name: &str, clients: ClientCertificates) -> Node {
        Node::encrypted(name, self.folder.path(), clients).await
    }

    /// Settings that trust this authority.
    fn trusted_by(&self, url: &str) -> BrokerSettings {
        let mut settings = settings(url);
        settings.tls.ca = self.file("ca.pem");
        settings
    }
}

/// The error of a client and of a worker that cannot get in, which must be the same. Both know within two seconds.
async fn refused(settings: BrokerSettings) -> ConnectError {
    let soon = Duration::from_secs(2);
    let client = tokio::time::timeout(soon, Client::connect(settings.clone())).await.expect("the client knows soon");
    let Err(ClientError::Connect(error)) = client else { panic!("{client:?}") };
    let (builder, _runs) = worker(settings);
    let worker = builder.build().unwrap().start();
    let worker = tokio::time::timeout(soon, worker).await.expect("the worker knows soon");
    let Err(StartError::Connect(same)) = worker else { panic!("{worker:?}") };
    assert_eq!(error.to_string(), same.to_string());
    error
}

fn assert_tls(error: &ConnectError, url: &str, hints: &[&str]) {
    let ConnectError::Tls { host, .. } = error else { panic!("{error:?}") };
    assert!(url.contains(host.as_str()), "{error}");
    assert!(!error.is_passing());
    let text = error.to_string();
    assert!(hints.iter().all(|hint| text.contains(hint)), "{text}");
}

async fn round_trip(settings: BrokerSettings, vhost: &Vhost) {
    let (builder, mut runs) = worker(settings.clone());
    let worker = start(builder.queue("default", quick(1))).await;
    let client = Client::connect(settings).await.unwrap();
    // Larger than a TLS record and an AMQP frame.
    let text = "leveret ".repeat(50_000);
    client.publish_message(probe(&text)).await.unwrap();
    let run = runs.next().await;
    assert_eq!(run.arguments, text);
    run.done();
    let live = client.link().live().await.unwrap();
    let stated = vhost.api("overview").await["rabbitmq_version"].as_str().unwrap().to_owned();
    assert_eq!(live.capabilities.version, stated, "the greeting is overheard through TLS");
    assert!(live.capabilities.dead_letters_at_least_once());
    within("stop", worker.stop()).await;
    assert_eq!(vhost.ready("default").await, 0);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_go_through_an_encrypted_connection_whose_authority_is_named() {
    let authority = Authority::new();
    let node = authority.node("tls", ClientCertificates::Ignored).await;
    let vhost = node.broker().vhost().await;
    let url = node.encrypted_url(&vhost);
    round_trip(authority.trusted_by(&url), &vhost).await;

    // No authority, and another one than the broker's.
    let unknown = ["not trusted", "broker.tls.ca"];
    assert_tls(&refused(settings(&url)).await, &url, &unknown);
    assert_tls(&refused(Authority::new().trusted_by(&url)).await, &url, &unknown);

    // The certificate is for 127.0.0.1 alone.
    let other_name = url.replace("127.0.0.1", "localhost");
    assert_tls(&refused(authority.trusted_by(&other_name)).await, &other_name, &["localhost", "`broker.url`"]);

    // The two ports mixed up.
    let plain_port = vhost.url().replace("amqp://", "amqps://");
    assert_tls(&refused(authority.trusted_by(&plain_port)).await, &plain_port, &["amqp://"]);
    let tls_port = url.replace("amqps://", "amqp://");
    assert_tls(&refused(settings(&tls_port)).await, &tls_port, &["amqps://"]);

    // A file that is not there.
    let mut missing = settings(&url);
    missing.tls.ca = authority.file("missing.pem");
    assert_tls(&refused(missing).await, &url, &["missing.pem"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_wants_client_certificates_gets_the_configured_one() {
    let authority = Authority::new();
    let node = authority.node("mtls", ClientCertificates::Required).await;
    let vhost = node.broker().vhost().await;
    let url = node.encrypted_url(&vhost);
    let anonymous = authority.trusted_by(&url);
    let known = |authority: &Authority| {
        let mut settings = anonymous.clone();
        settings.tls.certificate = authority.file("client-certificate.pem");
        settings.tls.key = authority.file("client-key.pem");
        settings
    };
    round_trip(known(&authority), &vhost).await;

    let hints = ["broker.tls.certificate", "broker.tls.key"];
    assert_tls(&refused(anonymous.clone()).await, &url, &hints);
    // Signed by an authority that the broker does not know.
    assert_tls(&refused(known(&Authority::new())).await, &url, &hints);

    // A certificate that belongs to another key.
    let mut mismatched = known(&authority);
    mismatched.tls.key = authority.file("key.pem");
    assert_tls(&refused(mismatched).await, &url, &["client-certificate.pem", "key.pem"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_connection_comes_back_by_itself() {
    let authority = Authority::new();
    let node = authority.node("tls-again", ClientCertificates::Ignored).await;
    let vhost = node.broker().vhost().await;
    let settings = authority.trusted_by(&node.encrypted_url(&vhost));
    let (builder, mut runs) = worker(settings.clone());
    let worker = start(builder.queue("default", quick(1))).await;
    let client = Client::connect(settings).await.unwrap();
    node.restart().await;
    client.publish_message(probe("after")).await.unwrap();
    let run = runs.next().await;
    assert_eq!(run.arguments, "after");
    run.done();
    eventually_eq(PATIENCE, true, async || worker.health().ready().is_ok()).await;
    worker.stop().await;
}
