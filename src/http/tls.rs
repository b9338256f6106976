//! TLS of the listener: the certificate and key that it shows, and writes that do not run ahead of the socket.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::{Error as PemError, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

pub(super) use self::written_through::WrittenThrough;
use super::Error;
use crate::config::TlsFiles;

mod written_through;

/// Reads both files. HTTP/1.1 is the only protocol offered.
pub(super) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, Error> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|source| read_pem("a private key", &files.key, source))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
        .map_err(Error::UnusableCertificate)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let failed = |source| read_pem("a certificate", path, source);
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, PemError>>)
        .map_err(failed)?;
    if chain.is_empty() {
        return Err(failed(PemError::NoItemsFound));
    }
    Ok(chain)
}

fn read_pem(what: &'static str, path: &Path, source: PemError) -> Error {
    Error::ReadPem {
        what,
        path: path.to_owned(),
        source,
    }
}
