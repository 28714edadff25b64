//! Verifies certificates of clients, and accepts those that gRPC's C-core accepts.
//!
//! Not here: building and verifying a chain (`libcrypto`), the names in a certificate (`peer`).

use std::fmt;
use std::sync::Arc;

use aws_lc_sys as c;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::libcrypto::{Certificate, KeyKind, Refusal, Roots};
use super::scheme;

/// BoringSSL's default schemes, in its order, and two more that rustls supports.
const SCHEMES: &[SignatureScheme] = &[
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA512,
    SignatureScheme::RSA_PKCS1_SHA1,
];

/// Accepts clients that have the key of a certificate which leads to one of the roots.
pub(super) struct ClientVerifier {
    roots: Roots,
    /// The names of the acceptable authorities, which clients receive.
    subjects: Vec<DistinguishedName>,
}

impl ClientVerifier {
    /// `None` if no root is usable.
    pub(super) fn new(certificates: &[Certificate]) -> Option<Self> {
        let mut roots = Roots::new()?;
        let added: Vec<_> = certificates.iter().filter(|it| roots.add(it)).collect();
        let subjects = added.iter().map(|it| it.subject().into()).collect();
        (!added.is_empty()).then_some(Self { roots, subjects })
    }

    fn verify_signature(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
        suits_key: impl Fn(SignatureScheme, KeyKind) -> bool,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = read(certificate)?.public_key();
        let key = key.ok_or(CertificateError::BadEncoding)?;
        let form = scheme::form_of(signed.scheme).filter(|_| suits_key(signed.scheme, key.kind()));
        match form.is_some_and(|form| key.has_signed(form, message, signed.signature())) {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let certificate = read(certificate)?;
        let others: Vec<_> = others.iter().map(read).collect::<Result<_, _>>()?;
        self.roots.verify(&certificate, &others)?;
        match certificate.may_sign() {
            true => Ok(ClientCertVerified::assertion()),
            false => Err(CertificateError::InvalidPurpose.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::verify_signature(message, certificate, signed, scheme::suits_key_in_tls12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::verify_signature(message, certificate, signed, scheme::suits_key)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

fn read(certificate: &CertificateDer<'_>) -> Result<Certificate, Error> {
    Certificate::from_der(certificate).ok_or_else(|| CertificateError::BadEncoding.into())
}

/// Selects the alert for the client.
impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        use CertificateError as E;
        Self::InvalidCertificate(match refusal.0 {
            c::X509_V_ERR_CERT_HAS_EXPIRED => E::Expired,
            c::X509_V_ERR_CERT_NOT_YET_VALID => E::NotValidYet,
            c::X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT
            | c::X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
            | c::X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT
            | c::X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN => E::UnknownIssuer,
            c::X509_V_ERR_CERT_SIGNATURE_FAILURE => E::BadSignature,
            c::X509_V_ERR_INVALID_PURPOSE => E::InvalidPurpose,
            c::X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION => E::UnhandledCriticalExtension,
            _ => E::Other(OtherError(Arc::new(refusal))),
        })
    }
}

impl std::error::Error for Refusal {}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientVerifier").finish_non_exhaustive()
    }
}
