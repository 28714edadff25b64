//! Handshakes in memory, with certificates made for each test.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientStream;

use super::*;

const HOST: &str = "server.example";

/// A certificate authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate that an authority signed, and its key.
struct Signed {
    pem: String,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            pem: params.self_signed(&key).unwrap().pem(),
            issuer: Issuer::new(params, key),
        }
    }

    fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> Signed {
        let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Signed {
            pem: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key,
        }
    }

    fn config(&self) -> TlsConfig {
        let signed = self.sign(|_| {});
        TlsConfig {
            server_key: signed.key.serialize_pem(),
            server_cert: signed.pem,
            ..TlsConfig::default()
        }
    }

    fn mutual(&self) -> TlsConfig {
        TlsConfig {
            custom_ca: self.pem.clone(),
            client_verify: true,
            ..self.config()
        }
    }
}

fn chain_of(pem: &str) -> Vec<CertificateDer<'static>> {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes());
    chain.collect::<Result<_, _>>().unwrap()
}

/// A client that trusts this authority.
fn client(authority: &Authority, certificate: Option<&Signed>, alpn: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for root in chain_of(&authority.pem) {
        roots.add(root).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(signed) => {
            let chain = chain_of(&signed.pem);
            let key = PrivateKeyDer::from_pem_slice(signed.key.serialize_pem().as_bytes());
            builder.with_client_auth_cert(chain, key.unwrap()).unwrap()
        }
    };
    config.alpn_protocols = alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
    config
}

type Accepted = (TlsStream<DuplexStream>, PeerNames);

/// Both sides of a handshake. With TLS 1.3 a client learns of its refusal only when it reads.
async fn handshake(
    tls: &Tls,
    protocols: Protocols,
    client: ClientConfig,
) -> (io::Result<Accepted>, io::Result<ClientStream<DuplexStream>>) {
    let (ours, theirs) = duplex(64 << 10);
    let name = ServerName::try_from(HOST).unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    tokio::join!(
        tls.accept(ours, protocols, None),
        connector.connect(name, theirs)
    )
}

#[tokio::test]
async fn alpn_depends_on_the_port() {
    let authority = Authority::new();
    let tls = Tls::try_new(&authority.config()).unwrap();
    for (protocols, offered, chosen) in [
        (Protocols::Http2, &["h2"][..], Some("h2")),
        (Protocols::Http2, &["http/1.1", "h2"], Some("h2")),
        (Protocols::Http2, &[], None),
        (Protocols::Http1And2, &["http/1.1"], Some("http/1.1")),
        (Protocols::Http1And2, &["http/1.1", "h2"], Some("h2")),
        (Protocols::Http1And2, &[], None),
    ] {
        let (_, stream) = handshake(&tls, protocols, client(&authority, None, offered)).await;
        let stream = stream.unwrap();
        let alpn = stream.get_ref().1.alpn_protocol();
        assert_eq!(alpn, chosen.map(str::as_bytes), "{protocols:?} {offered:?}");
    }
    let (accepted, stream) = handshake(
        &tls,
        Protocols::Http2,
        client(&authority, None, &["http/1.1"]),
    )
    .await;
    assert!(accepted.is_err() && stream.is_err());
}

#[tokio::test]
async fn names_of_a_verified_certificate_are_told() {
    let authority = Authority::new();
    let tls = Tls::try_new(&authority.mutual()).unwrap();
    let signed = authority.sign(|params| {
        params.distinguished_name.push(DnType::CommonName, "robot");
        params.subject_alt_names = vec![
            SanType::DnsName("robot.example".try_into().unwrap()),
            SanType::URI("spiffe://mesh/robot".try_into().unwrap()),
            SanType::Rfc822Name("robot@mesh.example".try_into().unwrap()),
            SanType::IpAddress([127, 0, 0, 1].into()),
        ];
    });
    let config = client(&authority, Some(&signed), &[]);
    let (accepted, _) = handshake(&tls, Protocols::Http2, config).await;
    let (_, names) = accepted.unwrap();
    let expected = [
        "robot",
        "robot.example",
        "spiffe://mesh/robot",
        "robot@mesh.example",
    ];
    assert_eq!(names.iter().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn clients_without_a_good_certificate_are_refused() {
    let authority = Authority::new();
    let tls = Tls::try_new(&authority.mutual()).unwrap();
    let stranger = Authority::new().sign(|_| {});
    let expired = authority.sign(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    for certificate in [None, Some(&stranger), Some(&expired)] {
        let config = client(&authority, certificate, &[]);
        let (accepted, stream) = handshake(&tls, Protocols::Http2, config).await;
        let accepted = accepted.map(|_| ()).unwrap_err();
        assert_eq!(accepted.kind(), io::ErrorKind::InvalidData);
        let told = stream.unwrap().read_u8().await.unwrap_err();
        assert!(told.to_string().contains("alert"), "{told}");
    }
}

// RFC 8446, section 6.2: a fatal alert is `15 03 xx 00 02 02 <description>`.
#[tokio::test]
async fn plain_text_is_answered_by_an_alert() {
    let tls = Tls::try_new(&Authority::new().config()).unwrap();
    for sent in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let (ours, mut theirs) = duplex(64 << 10);
        theirs.write_all(sent.as_bytes()).await.unwrap();
        assert!(tls.accept(ours, Protocols::Http1And2, None).await.is_err());
        let mut answer = Vec::new();
        theirs.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.len(), 7, "{answer:?}");
        assert_eq!((answer[0], answer[5]), (0x15, 2), "{answer:?}");
    }
}

#[tokio::test]
async fn a_silent_client_is_given_up() {
    let tls = Tls::try_new(&Authority::new().config()).unwrap();
    let (ours, _theirs) = duplex(64);
    let timeout = Duration::from_millis(1);
    let accepted = tls
        .accept_within(timeout, ours, Protocols::Http2, None)
        .await;
    let error = accepted.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn later_handshakes_use_the_new_certificate() {
    let (old, new) = (Authority::new(), Authority::new());
    let tls = Tls::try_new(&old.config()).unwrap();
    let trusts_old = || client(&old, None, &[]);
    let trusts_new = || client(&new, None, &[]);
    let connects = async |client| handshake(&tls, Protocols::Http2, client).await.1.is_ok();
    assert!(connects(trusts_old()).await && !connects(trusts_new()).await);
    tls.replace(&TlsConfig::default()).unwrap_err();
    assert!(connects(trusts_old()).await && !connects(trusts_new()).await);
    tls.replace(&new.config()).unwrap();
    assert!(!connects(trusts_old()).await && connects(trusts_new()).await);
}

#[test]
fn broken_configurations_are_refused() {
    let authority = Authority::new();
    let good = authority.mutual();
    let other = KeyPair::generate().unwrap().serialize_pem();
    let cases: [(TlsConfig, &str); 6] = [
        (
            TlsConfig {
                server_key: String::new(),
                ..good.clone()
            },
            "server_key holds no",
        ),
        (
            TlsConfig {
                server_cert: String::new(),
                ..good.clone()
            },
            "server_cert holds no",
        ),
        (
            TlsConfig {
                server_cert: "server.pem".to_owned(),
                ..good.clone()
            },
            "server_cert holds no",
        ),
        (
            TlsConfig {
                server_key: other,
                ..good.clone()
            },
            "server_key and server_cert: ",
        ),
        (
            TlsConfig {
                custom_ca: "ca.pem".to_owned(),
                ..good.clone()
            },
            "custom_ca holds no",
        ),
        (
            TlsConfig {
                server_key: good.server_cert.clone(),
                ..good.clone()
            },
            "server_key holds no",
        ),
    ];
    for (config, expected) in cases {
        let error = Tls::try_new(&config).map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    Tls::try_new(&good).unwrap();
}
