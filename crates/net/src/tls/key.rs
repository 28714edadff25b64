//! The server's private key and its certificate, as rustls asks for them.
//!
//! Any certificate is accepted, as in gRPC: clients judge its contents. rustls' own loader parses
//! certificates and refuses some, for example those of version 1.
//!
//! Not here: the cryptography (`libcrypto`).

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};

use super::libcrypto::{Certificate, Key, KeyKind};
use super::scheme;
use base::error::{Result, ServingError};

/// In the order of preference; the first that both the client and the key support is used.
const SCHEMES: &[SignatureScheme] = &[
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
];

/// A chain and the private key of its first certificate.
///
/// # Errors
///
/// `INVALID_ARGUMENT` if the text has no usable private key, or the key belongs to another certificate. The
/// error quotes nothing of the key.
pub(super) fn certified_key(chain: &[Certificate], pem: &str) -> Result<CertifiedKey> {
    let key = Key::from_pem(pem.as_bytes()).ok_or_else(|| not_a_key(pem))?;
    let kind = key.kind();
    if matches!(kind, KeyKind::Other | KeyKind::OtherCurve) {
        return Err(ServingError::invalid_argument(
            "server_key is of a kind that TLS has no use for: it takes RSA, ECDSA with P-256, P-384 or \
             P-521, and Ed25519",
        ));
    }
    if !chain.first().is_some_and(|first| first.fits(&key)) {
        return Err(ServingError::invalid_argument(
            "server_key and server_cert: the key is not that of the first certificate",
        ));
    }
    let chain = chain.iter().map(|it| CertificateDer::from(it.to_der()));
    let key = Arc::new(key);
    Ok(CertifiedKey::new(
        chain.collect(),
        Arc::new(ServerKey { key, kind }),
    ))
}

fn not_a_key(pem: &str) -> ServingError {
    ServingError::invalid_argument(match pem.contains("ENCRYPTED") {
        true => {
            "server_key is encrypted: decrypt it first, for instance by `openssl pkey -in key.pem`"
        }
        false => "server_key holds no private key in PEM form that can be read",
    })
}

struct ServerKey {
    key: Arc<Key>,
    kind: KeyKind,
}

impl SigningKey for ServerKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let mut schemes = SCHEMES.iter().copied();
        let scheme =
            schemes.find(|it| offered.contains(it) && scheme::suits_key(*it, self.kind))?;
        Some(Box::new(Signature {
            key: Arc::clone(&self.key),
            scheme,
        }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.kind {
            KeyKind::Rsa(_) => SignatureAlgorithm::RSA,
            KeyKind::Ed25519 => SignatureAlgorithm::ED25519,
            _ => SignatureAlgorithm::ECDSA,
        }
    }
}

struct Signature {
    key: Arc<Key>,
    scheme: SignatureScheme,
}

impl Signer for Signature {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        scheme::form_of(self.scheme)
            .and_then(|form| self.key.sign(form, message))
            .ok_or_else(|| Error::General("the server's key could not sign".to_owned()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// Prints nothing of the key.
impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerKey").finish_non_exhaustive()
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signature").field(&self.scheme).finish()
    }
}
