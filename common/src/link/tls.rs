//! TLS for `amqps` URLs: its configuration, and what to do about each way in which it fails.

use std::{io, path::Path, sync::Arc};

use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, InvalidMessage, RootCertStore, crypto,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::config::TlsSettings;

/// The configuration that the settings ask for. Files are read anew each time, so that a renewed certificate is
/// used from the next connection on.
///
/// # Errors
/// When a file cannot be read or holds no certificate or key.
pub(super) fn config(settings: &TlsSettings) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &settings.ca {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| named(path, &error))?;
        }
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots);
    let config = match (&settings.certificate, &settings.key) {
        (Some(chain), Some(key)) => {
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| named(key, &error))?;
            let pair = builder.with_client_auth_cert(certificates(chain)?, secret);
            pair.map_err(|error| io::Error::other(format!("{} with {}: {error}", chain.display(), key.display())))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(named(path, &"it holds no PEM certificate")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(named(path, &error)),
    }
}

fn named(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

/// An `amqp` URL leads to a port that answers in TLS.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the port speaks TLS")]
pub(super) struct SpeaksTls;

/// What to do about a connection that failed because of TLS; nothing if it failed because of something else.
pub(super) fn fix(error: &io::Error) -> Option<&'static str> {
    use AlertDescription as Alert;
    use CertificateError as Certificate;
    let inner = error.get_ref()?;
    if inner.is::<SpeaksTls>() {
        return Some("write amqps:// in `broker.url`, or the broker's port without TLS, usually 5672");
    }
    Some(match inner.downcast_ref::<Error>()? {
        // A bad signature is that of an authority which only has the same name as the right one.
        Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => {
            "the authority that signed the broker's certificate is not trusted, name its PEM file as `broker.tls.ca`"
        }
        Error::InvalidCertificate(Certificate::NotValidForName | Certificate::NotValidForNameContext { .. }) => {
            "write a host in `broker.url` that the broker's certificate is valid for"
        }
        Error::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            "renew the broker's certificate, or set the clock of this machine"
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the port does not speak TLS, write amqp:// in `broker.url`, or the broker's TLS port, usually 5671"
        }
        Error::AlertReceived(
            Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown,
        ) => "the broker wants a client certificate that it trusts, set `broker.tls.certificate` and `broker.tls.key`",
        _ => "check `broker.tls`, and the TLS settings of the broker; it may want a client certificate",
    })
}
