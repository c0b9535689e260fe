//! The server's side of TLS: a certificate that may be renewed while the server runs.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig, crypto,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};
use tracing::{info, warn};

/// How often it is looked whether the files have changed, at most.
const LOOK: Duration = Duration::from_secs(1);

/// Certificate and key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by those of its authorities up to one that clients trust.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What was last read from the files.
#[derive(Debug)]
pub(super) struct Tls {
    files: TlsFiles,
    read: Mutex<Read>,
}

#[derive(Debug)]
struct Read {
    config: Arc<ServerConfig>,
    /// Of which state of the files it is.
    state: State,
    looked: Instant,
}

type State = [Option<(std::time::SystemTime, u64)>; 2];

impl Tls {
    pub(super) fn read(files: TlsFiles) -> io::Result<Self> {
        let state = state(&files);
        let read = Read { config: config(&files)?, state, looked: Instant::now() };
        Ok(Self { files, read: Mutex::new(read) })
    }

    /// For the next connection. New files are read when they have changed; if they are no good, the old ones stay.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut read = self.read.lock();
        if read.looked.elapsed() >= LOOK {
            read.looked = Instant::now();
            let now = state(&self.files);
            if now != read.state {
                read.state = now;
                match config(&self.files) {
                    Ok(config) => {
                        info!("the certificate {} was renewed", self.files.certificate.display());
                        read.config = config;
                    }
                    Err(error) => {
                        warn!("the certificate has changed and cannot be used, the one before stays: {error}");
                    }
                }
            }
        }
        TlsAcceptor::from(read.config.clone())
    }
}

fn state(files: &TlsFiles) -> State {
    [&files.certificate, &files.key].map(|file| {
        let data = std::fs::metadata(file).ok()?;
        Some((data.modified().ok()?, data.len()))
    })
}

fn config(files: &TlsFiles) -> io::Result<Arc<ServerConfig>> {
    let named =
        |path: &PathBuf, error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
    let chain = CertificateDer::pem_file_iter(&files.certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| named(&files.certificate, &error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| named(&files.key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| named(&files.certificate, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
