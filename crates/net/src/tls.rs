//! TLS on a port: the handshake, and its keys and certificates, which can be replaced while connections are
//! open.
//!
//! rustls implements the protocol, AWS-LC the cryptography. Certificates that work with gRPC's C-core have
//! to work here as well, so they are read and verified in the same way (`libcrypto`).
//!
//! Not here: reading and watching the file (`config`, `server`), mapping clients to identities
//! (`api::access::auth`).

mod failures;
mod key;
mod libcrypto;
mod peer;
mod scheme;
mod verify;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::Acceptor;
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use self::failures::Failures;
use self::libcrypto::Certificate;
use self::peer::is_out_of_force;
use self::verify::ClientVerifier;
use super::protocols::Protocols;
use base::error::{Result, ServingError};

pub use self::peer::PeerNames;

/// The time limit of a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Keys and certificates, as PEM texts.
#[derive(Clone, Default)]
pub struct TlsConfig {
    /// The server's private key.
    pub server_key: String,
    /// The server's certificate, and the intermediate ones up to an authority.
    pub server_cert: String,
    /// The authorities that have to have issued clients' certificates; empty for those that the system
    /// trusts.
    pub custom_ca: String,
    /// Whether clients need a certificate.
    pub client_verify: bool,
}

/// Prints no keys.
impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig").finish_non_exhaustive()
    }
}

/// The settings for new handshakes, shared by the ports. Open connections keep theirs.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    handshakes: ArcSwap<Handshakes>,
    failures: Failures,
}

/// One configuration for each kind of port: they offer different protocols in ALPN.
struct Handshakes {
    http2: Arc<ServerConfig>,
    http1_and_2: Arc<ServerConfig>,
}

impl Tls {
    /// TLS with these keys and certificates.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for texts that are not PEM, for a key that does not match the certificate, and if
    /// client certificates are required without any authority to verify them.
    pub fn try_new(config: &TlsConfig) -> Result<Self> {
        let handshakes = Handshakes::try_new(config)?;
        Ok(Self(Arc::new(Shared {
            handshakes: ArcSwap::from_pointee(handshakes),
            failures: Failures::default(),
        })))
    }

    /// Uses these keys and certificates for later handshakes.
    ///
    /// # Errors
    ///
    /// As [`try_new`](Self::try_new); then nothing changes.
    pub fn replace(&self, config: &TlsConfig) -> Result<()> {
        let handshakes = Handshakes::try_new(config)?;
        self.0.handshakes.store(Arc::new(handshakes));
        Ok(())
    }

    /// Performs the handshake on a new connection. Returns the names in the client's certificate, too.
    ///
    /// # Errors
    ///
    /// If the client is too slow, does not speak TLS, or lacks a required certificate. In these cases it
    /// receives an alert, and the log says why.
    pub(super) async fn accept<S>(
        &self,
        stream: S,
        protocols: Protocols,
        peer: Option<SocketAddr>,
    ) -> io::Result<(TlsStream<S>, PeerNames)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.accept_within(HANDSHAKE_TIMEOUT, stream, protocols, peer)
            .await
    }

    async fn accept_within<S>(
        &self,
        timeout: Duration,
        stream: S,
        protocols: Protocols,
        peer: Option<SocketAddr>,
    ) -> io::Result<(TlsStream<S>, PeerNames)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut has_begun = false;
        let handshake = async {
            let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            has_begun = true;
            start.into_stream(self.config(protocols)).await
        };
        let accepted = match tokio::time::timeout(timeout, handshake).await {
            Ok(accepted) => accepted,
            Err(too_slow) => Err(too_slow.into()),
        };
        let stream = accepted.inspect_err(|error| self.0.failures.log(error, has_begun, peer))?;
        let certificates = stream.get_ref().1.peer_certificates();
        let names = certificates.and_then(<[_]>::first).map(PeerNames::of);
        Ok((stream, names.unwrap_or_default()))
    }

    fn config(&self, protocols: Protocols) -> Arc<ServerConfig> {
        let handshakes = self.0.handshakes.load();
        Arc::clone(match protocols {
            Protocols::Http2 => &handshakes.http2,
            Protocols::Http1And2 => &handshakes.http1_and_2,
        })
    }
}

/// Prints no keys.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Handshakes {
    fn try_new(config: &TlsConfig) -> Result<Self> {
        let config = server_config(config)?;
        let offering = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
            Arc::new(config)
        };
        Ok(Self {
            http2: offering(&[b"h2"]),
            http1_and_2: offering(&[b"h2", b"http/1.1"]),
        })
    }
}

fn server_config(config: &TlsConfig) -> Result<ServerConfig> {
    let chain = certificates("server_cert", &config.server_cert)?;
    let certified = key::certified_key(&chain, &config.server_key)?;
    if certified.cert.first().is_some_and(is_out_of_force) {
        tracing::warn!("server_cert is expired or not yet valid: clients will refuse it");
    }
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| refused("TLS", error))?;
    let builder = if config.client_verify {
        builder.with_client_cert_verifier(Arc::new(client_verifier(&config.custom_ca)?))
    } else {
        builder.with_no_client_auth()
    };
    Ok(builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified))))
}

/// Requires clients to have a certificate issued by an authority in `custom_ca` or, if that is empty, by
/// one that the system trusts.
fn client_verifier(custom_ca: &str) -> Result<ClientVerifier> {
    let authorities = if custom_ca.is_empty() {
        let found = rustls_native_certs::load_native_certs().certs;
        found
            .iter()
            .filter_map(|it| Certificate::from_der(it))
            .collect()
    } else {
        certificates("custom_ca", custom_ca)?
    };
    ClientVerifier::new(&authorities).ok_or_else(|| {
        refused(
            "client_verify",
            "there is no authority to verify clients by",
        )
    })
}

/// All certificates of a PEM text; at least one. As in gRPC, reading ends at the first that cannot be read;
/// unlike in gRPC, that is logged.
fn certificates(field: &str, pem: &str) -> Result<Vec<Certificate>> {
    let certificates = Certificate::all_from_pem(pem.as_bytes());
    if certificates.is_empty() {
        let is_marked = pem.contains("-----BEGIN CERTIFICATE-----");
        let reason = match is_marked {
            true => "cannot be read: its first certificate is damaged or cut off",
            false => "holds no certificates in PEM form",
        };
        return Err(ServingError::invalid_argument(format!("{field} {reason}")));
    }
    let (read, marked) = (
        certificates.len(),
        pem.matches(" CERTIFICATE-----").count() / 2,
    );
    let marked = marked.max(pem.matches("-----BEGIN CERTIFICATE-----").count());
    if read < marked {
        tracing::warn!(
            "{field}: only the first {read} of {marked} certificates are used, the next cannot be read"
        );
    }
    Ok(certificates)
}

fn refused(field: &str, error: impl fmt::Display) -> ServingError {
    ServingError::invalid_argument(format!("{field}: {error}"))
}

#[cfg(test)]
mod tests;
