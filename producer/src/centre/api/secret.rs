//! Secrets of tokens.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tokio_rustls::rustls::crypto::ring;

/// A new secret of 256 random bits; `None` when the system has no random numbers.
pub(super) fn generate() -> Option<String> {
    let mut bytes = [0; 32];
    ring::default_provider().secure_random.fill(&mut bytes).ok()?;
    Some(format!("leveret_{}", URL_SAFE_NO_PAD.encode(bytes)))
}
