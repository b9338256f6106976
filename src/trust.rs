//! Whom the relay trusts where it is the client: the trust store of the operating system, or the file that
//! `SSL_CERT_FILE` names, with the one TLS provider of the program.

use std::io;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use tracing::warn;

/// How to speak TLS to a server. Reads the trust store anew, which takes file access, so that a renewed one is noticed.
pub(crate) fn tls_client() -> io::Result<ClientConfig> {
    let certificates = rustls_native_certs::load_native_certs();
    for error in &certificates.errors {
        warn!(error.message = %error, "a trusted certificate could not be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
