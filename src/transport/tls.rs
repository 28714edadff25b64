//! TLS on a port: the handshake, and the keys and certificates that it is made with, which may be
//! exchanged while connections are open.
//!
//! Not here: reading and watching the file (`config`, `server`), who the client is then
//! (`transport::auth`).

mod peer;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use self::peer::is_in_force;
use super::connection::Protocols;
use crate::error::{Result, ServingError};
use crate::proto::tensorflow::serving::SslConfig;

pub use self::peer::PeerNames;

/// A client has this long for its part of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What handshakes are made with from now on; shared by the ports. Connections keep what they
/// began with.
#[derive(Clone)]
pub struct Tls(Arc<ArcSwap<Handshakes>>);

/// One configuration for each kind of port: they differ in what ALPN offers.
struct Handshakes {
    http2: Arc<ServerConfig>,
    http1_and_2: Arc<ServerConfig>,
}

impl Tls {
    /// Keys and certificates of a `--ssl_config_file`.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for what is no PEM text, a key that does not fit the certificate, and
    /// where client certificates are asked for and there is no authority to verify them.
    pub fn try_new(config: &SslConfig) -> Result<Self> {
        let handshakes = Handshakes::try_new(config)?;
        Ok(Self(Arc::new(ArcSwap::from_pointee(handshakes))))
    }

    /// Makes later handshakes with these instead.
    ///
    /// # Errors
    ///
    /// As [`try_new`](Self::try_new); then nothing changes.
    pub fn replace(&self, config: &SslConfig) -> Result<()> {
        self.0.store(Arc::new(Handshakes::try_new(config)?));
        Ok(())
    }

    /// Makes the handshake on a new connection, and says whom the client's certificate names.
    ///
    /// # Errors
    ///
    /// For a client that is too slow, does not speak TLS, or has no certificate that it needs. It
    /// was told by an alert.
    pub(super) async fn accept<S>(
        &self,
        stream: S,
        protocols: Protocols,
    ) -> io::Result<(TlsStream<S>, PeerNames)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.accept_within(HANDSHAKE_TIMEOUT, stream, protocols)
            .await
    }

    async fn accept_within<S>(
        &self,
        timeout: Duration,
        stream: S,
        protocols: Protocols,
    ) -> io::Result<(TlsStream<S>, PeerNames)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = {
            let handshakes = self.0.load();
            Arc::clone(match protocols {
                Protocols::Http2 => &handshakes.http2,
                Protocols::Http1And2 => &handshakes.http1_and_2,
            })
        };
        let handshake = TlsAcceptor::from(config).accept(stream);
        let stream = tokio::time::timeout(timeout, handshake).await??;
        let certificates = stream.get_ref().1.peer_certificates();
        let names = certificates.and_then(<[_]>::first).map(PeerNames::of);
        Ok((stream, names.unwrap_or_default()))
    }
}

/// Says nothing about keys.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Handshakes {
    fn try_new(config: &SslConfig) -> Result<Self> {
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

fn server_config(config: &SslConfig) -> Result<ServerConfig> {
    let chain = certificates("server_cert", &config.server_cert)?;
    if !chain.first().is_some_and(is_in_force) {
        tracing::warn!("server_cert is expired or not yet valid: clients will refuse it");
    }
    // What the PEM reader has to say may quote the key.
    let key = PrivateKeyDer::from_pem_slice(config.server_key.as_bytes()).map_err(|_| {
        ServingError::invalid_argument("server_key holds no unencrypted private key in PEM form")
    })?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| refused("TLS", error))?;
    let builder = if config.client_verify {
        builder.with_client_cert_verifier(client_verifier(&config.custom_ca, provider)?)
    } else {
        builder.with_no_client_auth()
    };
    builder
        .with_single_cert(chain, key)
        .map_err(|error| refused("server_key and server_cert", error))
}

/// Clients have to have a certificate that leads to `custom_ca`, or to an authority that the
/// system trusts where that is empty.
fn client_verifier(
    custom_ca: &str,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    if custom_ca.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        for authority in certificates("custom_ca", custom_ca)? {
            roots
                .add(authority)
                .map_err(|error| refused("custom_ca", error))?;
        }
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| refused("client_verify", error))
}

/// All certificates of a PEM text; at least one.
fn certificates(field: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .unwrap_or_default();
    if certificates.is_empty() {
        return Err(ServingError::invalid_argument(format!(
            "{field} holds no certificates in PEM form"
        )));
    }
    Ok(certificates)
}

fn refused(field: &str, error: impl fmt::Display) -> ServingError {
    ServingError::invalid_argument(format!("{field}: {error}"))
}

#[cfg(test)]
mod tests;
