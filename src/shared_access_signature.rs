//! Shared access signatures, by which Azure's hubs admit whoever holds the key of a policy.
//!
//! `SharedAccessSignature sr=<resource>&sig=<signature>&se=<expiry>&skn=<policy>`, signed with HMAC-SHA256 over the
//! encoded resource, a line feed and the expiry (Azure documentation, "Control access to IoT Hub using shared access
//! signatures"). The services differ in which bytes of the key sign: Event Hubs takes its text, IoT Hub decodes it.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::secret::Secret;

/// Everything but the unreserved characters of RFC 3986.
pub(crate) const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A token for `resource` that lapses `expires_unix_s` seconds after the Unix epoch, signed by `policy` with the bytes
/// of its key.
pub(crate) fn sign(resource: &str, policy: &str, key: &[u8], expires_unix_s: i64) -> Secret {
    let resource = utf8_percent_encode(resource, ENCODED);
    let signed = format!("{resource}\n{expires_unix_s}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let signature = STANDARD.encode(hmac::sign(&key, signed.as_bytes()));
    let signature = utf8_percent_encode(&signature, ENCODED);
    let policy = utf8_percent_encode(policy, ENCODED);
    Secret::new(format!(
        "SharedAccessSignature sr={resource}&sig={signature}&se={expires_unix_s}&skn={policy}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_resource_policy_and_expiry_and_is_signed_with_the_bytes_of_the_key() {
        let token = sign(
            "sb://hub.example/telemetry",
            "listen & read",
            b"c2VjcmV0",
            1_700_003_600,
        );
        // Computed with: openssl dgst -sha256 -hmac c2VjcmV0 -binary | base64
        assert_eq!(
            token.expose(),
            "SharedAccessSignature sr=sb%3A%2F%2Fhub.example%2Ftelemetry&sig=%2FkuBUm6LPktXK0Dgnj%2BLyJYI66071uFpHulUc8dKPAk%3D&se=1700003600&skn=listen%20%26%20read"
        );
    }
}
