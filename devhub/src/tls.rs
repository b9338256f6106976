//! The certificates of devhub: an authority made on the spot and a leaf for this machine, signed by
//! it, for every TLS listener that devhub has.
//!
//! The authority's private key is never written down: nobody can sign anything else with it.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::ToSpan;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, ServerName, UnixTime,
    pem::{self, PemObject},
};

use crate::{
    clock::Clock,
    kept_file::{self, Access},
};

/// What the strictest clients accept.
const LIFETIME_DAYS: i32 = 397;

/// A leaf that lapses sooner than this is not used again.
const LEFT_MIN: Duration = Duration::from_hours(24);

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] kept_file::Error),
    /// A certificate could not be made.
    #[error("cannot make certificates")]
    Generate(#[from] rcgen::Error),
    /// The TLS library does not take the certificates.
    #[error("cannot use the certificates")]
    Rustls(#[from] rustls::Error),
    /// The new certificates could not be read back.
    #[error("cannot read the certificates")]
    Pem(#[from] pem::Error),
}

/// A server certificate for `localhost`, `127.0.0.1`, `::1` and further addresses, and the authority that signed it.
#[derive(Clone, Debug)]
pub struct Identity {
    server_config: Arc<ServerConfig>,
    ca_pem: String,
    ca_path: Option<PathBuf>,
}

impl Identity {
    /// Uses the certificates in `directory` while they are valid for another day and for all `addresses`, and
    /// otherwise makes new ones and writes them there: `ca.pem`, `server.pem` and, for the owner only,
    /// `server.key`.
    pub fn load_or_create(
        directory: &Path,
        addresses: &[IpAddr],
        clock: &dyn Clock,
    ) -> Result<Self, Error> {
        let [ca_path, server_path, key_path] =
            ["ca.pem", "server.pem", "server.key"].map(|name| directory.join(name));
        let read = |path: &Path| fs::read_to_string(path).ok();
        let stored = (|| {
            let pem = Pem {
                ca: read(&ca_path)?,
                server: read(&server_path)?,
                key: read(&key_path)?,
            };
            pem.is_valid_for(addresses, LEFT_MIN, clock).then_some(pem)
        })();
        let pem = if let Some(pem) = stored {
            pem
        } else {
            let pem = Pem::generate(addresses, clock)?;
            kept_file::write(&ca_path, &pem.ca, Access::Everybody)?;
            kept_file::write(&server_path, &pem.server, Access::Everybody)?;
            kept_file::write(&key_path, &pem.key, Access::Owner)?;
            pem
        };
        Ok(Self {
            server_config: pem.server_config()?,
            ca_pem: pem.ca,
            ca_path: Some(ca_path),
        })
    }

    /// Makes certificates that live in memory only.
    pub fn create(addresses: &[IpAddr], clock: &dyn Clock) -> Result<Self, Error> {
        let pem = Pem::generate(addresses, clock)?;
        Ok(Self {
            server_config: pem.server_config()?,
            ca_pem: pem.ca,
            ca_path: None,
        })
    }

    /// The configuration of a TLS 1.2 and 1.3 server. It offers no application protocol.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server_config)
    }

    /// The authority's certificate, for clients to trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The file that holds [`Identity::ca_pem`], if one was written.
    pub fn ca_path(&self) -> Option<&Path> {
        self.ca_path.as_deref()
    }
}

/// Authority, leaf and the leaf's key as text.
struct Pem {
    ca: String,
    server: String,
    key: String,
}

impl Pem {
    fn generate(addresses: &[IpAddr], clock: &dyn Clock) -> Result<Self, Error> {
        let today = jiff::Timestamp::from_millisecond(clock.now_ms())
            .unwrap_or_default()
            .to_zoned(jiff::tz::TimeZone::UTC)
            .date();
        let day = |date: jiff::civil::Date| {
            let part = |part: i8| u8::try_from(part).expect("months and days are positive");
            date_time_ymd(date.year().into(), part(date.month()), part(date.day()))
        };
        // A day of grace for clocks that are behind.
        let not_before = day(today.saturating_sub(1.day()));
        let not_after = day(today.saturating_add(LIFETIME_DAYS.days()));
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::default();
        ca.distinguished_name
            .push(DnType::CommonName, "devhub local authority");
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (ca.not_before, ca.not_after) = (not_before, not_after);
        let ca_certificate = ca.self_signed(&ca_key)?;
        let issuer = Issuer::new(ca, ca_key);

        let key = KeyPair::generate()?;
        let mut server = CertificateParams::new(vec!["localhost".to_owned()])?;
        server
            .distinguished_name
            .push(DnType::CommonName, "localhost");
        let loopback = [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ];
        let named = loopback.into_iter().chain(addresses.iter().copied());
        let named: BTreeSet<_> = named.filter(|address| !address.is_unspecified()).collect();
        server
            .subject_alt_names
            .extend(named.into_iter().map(SanType::IpAddress));
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.use_authority_key_identifier_extension = true;
        (server.not_before, server.not_after) = (not_before, not_after);
        let server = server.signed_by(&key, &issuer)?;
        Ok(Self {
            ca: ca_certificate.pem(),
            server: server.pem(),
            key: key.serialize_pem(),
        })
    }

    fn server_config(&self) -> Result<Arc<ServerConfig>, Error> {
        let leaf = CertificateDer::from_pem_slice(self.server.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf], key)?;
        Ok(Arc::new(config))
    }

    /// Whether the leaf holds for `localhost` and all addresses after `left`, is signed by the authority, and belongs
    /// to the key.
    fn is_valid_for(&self, addresses: &[IpAddr], left: Duration, clock: &dyn Clock) -> bool {
        let verified = || -> Result<(), Error> {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes())?)?;
            let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider())
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
            let now = Duration::from_millis(clock.now_ms().try_into().unwrap_or(0));
            let leaf = CertificateDer::from_pem_slice(self.server.as_bytes())?;
            let localhost = ServerName::try_from("localhost").expect("a host name");
            let addresses = addresses.iter().filter(|address| !address.is_unspecified());
            let named = addresses.map(|address| ServerName::from(*address));
            for name in std::iter::once(localhost).chain(named) {
                let then = UnixTime::since_unix_epoch(now + left);
                verifier.verify_server_cert(&leaf, &[], &name, &[], then)?;
            }
            self.server_config().map(drop)
        };
        verified().is_ok()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[derive(Debug)]
    struct FixedClock(i64);

    impl Clock for FixedClock {
        fn now_ms(&self) -> i64 {
            self.0
        }
    }

    #[test]
    fn certificates_are_used_again_while_they_are_valid() {
        let directory = tempfile::tempdir().unwrap();
        let first = Identity::load_or_create(directory.path(), &[], &SystemClock).unwrap();
        let second = Identity::load_or_create(directory.path(), &[], &SystemClock).unwrap();
        assert_eq!(first.ca_pem(), second.ca_pem());
        let year_2060 = FixedClock(2_840_140_800_000);
        let third = Identity::load_or_create(directory.path(), &[], &year_2060).unwrap();
        assert_ne!(first.ca_pem(), third.ca_pem());
    }

    #[test]
    fn a_key_that_does_not_fit_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let first = Identity::load_or_create(directory.path(), &[], &SystemClock).unwrap();
        let other = KeyPair::generate().unwrap().serialize_pem();
        fs::write(directory.path().join("server.key"), other).unwrap();
        let second = Identity::load_or_create(directory.path(), &[], &SystemClock).unwrap();
        assert_ne!(first.ca_pem(), second.ca_pem());
    }

    #[test]
    fn certificates_that_lack_an_address_are_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let load = |addresses: &[&str]| {
            let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
            Identity::load_or_create(directory.path(), &addresses, &SystemClock).unwrap()
        };
        let first = load(&[]);
        assert_eq!(
            first.ca_pem(),
            load(&["127.0.0.1", "::1", "0.0.0.0"]).ca_pem()
        );
        let second = load(&["127.4.5.6"]);
        assert_ne!(first.ca_pem(), second.ca_pem());
        assert_eq!(second.ca_pem(), load(&["127.4.5.6"]).ca_pem());
        assert_eq!(second.ca_pem(), load(&[]).ca_pem());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_the_key() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        Identity::load_or_create(directory.path(), &[], &SystemClock).unwrap();
        let key = fs::metadata(directory.path().join("server.key")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
    }
}
