//! Whom the relay trusts where it is the client: the trust store of the operating system, or the file that
//! `SSL_CERT_FILE` names, with the one TLS provider of the program.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tracing::warn;

/// How to speak TLS to a server. Reads the trust store anew, which takes file access, so that a renewed one is noticed.
pub(crate) fn tls_client() -> io::Result<ClientConfig> {
    tls_client_trusting(None)
}

/// As [`tls_client`], with trust in the certificate authorities of a PEM file besides. A file without any is an error:
/// whoever names one relies on it.
pub(crate) fn tls_client_trusting(ca_file: Option<&Path>) -> io::Result<ClientConfig> {
    let certificates = rustls_native_certs::load_native_certs();
    for error in &certificates.errors {
        warn!(error.message = %error, "a trusted certificate could not be read");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.certs);
    if let Some(path) = ca_file {
        let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        let certificates: Vec<CertificateDer<'_>> = certificates.map_err(io::Error::other)?;
        if let (0, _) = roots.add_parsable_certificates(certificates) {
            return Err(io::Error::other(
                "the file holds no certificate that can be used",
            ));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
