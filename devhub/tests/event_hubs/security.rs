//! Tokens: what they open, and what happens when they lapse.

use std::{path::Path, sync::Arc, time::Duration};

use devhub::{
    Devhub, Options,
    sas::{self, SharedAccessKey},
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::client::{
    Client, KEY, POLICY, Reading, detached, fill_partition, options, refusal, sequences, soon,
    start, token,
};

const UNAUTHORIZED: &str = "amqp:unauthorized-access";

#[tokio::test]
async fn without_a_token_nothing_is_opened() {
    let devhub = start().await;
    let mut client = Client::connect(&devhub).await;
    let refused = client.try_receiver(Reading::default()).await;
    assert_eq!(refusal(refused), UNAUTHORIZED);
    devhub.stop().await;
}

#[tokio::test]
async fn tokens_that_do_not_hold_are_answered_with_401_and_open_nothing() {
    let devhub = start().await;
    let mut client = Client::connect(&devhub).await;
    let expires = Duration::from_secs(9_999_999_999);
    let signed = |resource: &str, key: &str| {
        sas::sign(resource, POLICY, &SharedAccessKey::new(key), expires)
    };
    for bad in [
        signed("sb://localhost/devhub", "other"),
        signed("sb://localhost/elsewhere", KEY),
        token(Duration::ZERO),
        "SharedAccessSignature".to_owned(),
        String::new(),
    ] {
        assert_eq!(client.put_token(&bad).await, 401, "{bad}");
    }
    let refused = client.try_receiver(Reading::default()).await;
    assert_eq!(refusal(refused), UNAUTHORIZED);
    assert_eq!(client.put_token(&token(Duration::from_mins(1))).await, 202);
    client.receiver(Reading::default()).await;
    devhub.stop().await;
}

#[tokio::test]
async fn a_lapsed_token_detaches_its_links_and_a_renewed_one_does_not() {
    let devhub = start().await;
    fill_partition(&devhub, 0, 1);
    let mut lapsing = Client::connect(&devhub).await;
    let mut renewing = Client::connect(&devhub).await;
    let short = token(Duration::from_secs(2));
    assert_eq!(lapsing.put_token(&short).await, 202);
    assert_eq!(renewing.put_token(&short).await, 202);
    let mut lost = lapsing.receiver(Reading::default()).await;
    let mut kept = renewing.receiver(Reading::default()).await;
    assert_eq!(sequences(&mut kept, 1).await, [0]);
    let long = token(Duration::from_mins(1));
    assert_eq!(renewing.put_token(&long).await, 202);
    assert_eq!(detached(&mut lost).await, UNAUTHORIZED);
    fill_partition(&devhub, 0, 1);
    assert_eq!(sequences(&mut kept, 1).await, [1]);
    devhub.stop().await;
}

#[tokio::test]
async fn tls_is_served_with_a_certificate_that_the_written_authority_signed() {
    let directory = tempfile::tempdir().unwrap();
    let devhub = Devhub::start(Options {
        amqp_tls: Some("127.0.0.1:0".parse().unwrap()),
        tls_dir: Some(directory.path().to_owned()),
        ..options()
    })
    .await
    .unwrap();
    let connection_string = devhub.tls_connection_string().unwrap();
    assert!(!connection_string.contains("UseDevelopmentEmulator"));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let connector = connector(devhub.ca_path().unwrap(), version);
        for name in ["localhost", "127.0.0.1", "::1"] {
            let tcp = TcpStream::connect(devhub.amqp_tls_address().unwrap())
                .await
                .unwrap();
            let name = ServerName::try_from(name).unwrap();
            let mut stream = connector.connect(name, tcp).await.unwrap();
            stream.write_all(b"AMQP\x03\x01\x00\x00").await.unwrap();
            let mut header = [0; 8];
            soon(stream.read_exact(&mut header)).await.unwrap();
            assert_eq!(&header, b"AMQP\x03\x01\x00\x00");
        }
    }
    devhub.stop().await;
}

fn connector(ca: &Path, version: &'static rustls::SupportedProtocolVersion) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config).into()
}
