//! TLS for clients that prove who they are by a certificate of their own.
//!
//! A self-signed certificate is known to the hub by its thumbprint, so no authority vouches for it:
//! each is taken here, and whether it is the right one is decided with the client id. That the
//! client has the certificate's private key is verified as for any other.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::tls::{self, Identity};

/// The configuration of a server that asks its clients for a certificate, and does not insist on one.
pub(crate) fn server_config(identity: &Identity) -> Result<Arc<ServerConfig>, tls::Error> {
    let without = identity.server_config();
    let provider = Arc::clone(without.crypto_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(PrivateKeyOnly { provider }))
        .with_cert_resolver(Arc::clone(&without.cert_resolver));
    Ok(Arc::new(config))
}

/// Verifies that a client has the private key of its certificate, and nothing else.
#[derive(Debug)]
struct PrivateKeyOnly {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for PrivateKeyOnly {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
