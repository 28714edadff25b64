//! The signature schemes of TLS: the form of each, and the keys that support it.

use rustls::SignatureScheme;

use super::libcrypto::{Hash, KeyKind, SignatureForm};

/// The form of a scheme; `None` if it is not supported.
pub(super) fn form_of(scheme: SignatureScheme) -> Option<SignatureForm> {
    use SignatureScheme as S;
    let (hash, pss) = match scheme {
        S::ED25519 => (None, false),
        S::RSA_PKCS1_SHA1 => (Some(Hash::Sha1), false),
        S::ECDSA_NISTP256_SHA256 | S::RSA_PKCS1_SHA256 => (Some(Hash::Sha256), false),
        S::ECDSA_NISTP384_SHA384 | S::RSA_PKCS1_SHA384 => (Some(Hash::Sha384), false),
        S::ECDSA_NISTP521_SHA512 | S::RSA_PKCS1_SHA512 => (Some(Hash::Sha512), false),
        S::RSA_PSS_SHA256 => (Some(Hash::Sha256), true),
        S::RSA_PSS_SHA384 => (Some(Hash::Sha384), true),
        S::RSA_PSS_SHA512 => (Some(Hash::Sha512), true),
        _ => return None,
    };
    Some(SignatureForm { hash, pss })
}

/// Whether a key of this kind can sign with this scheme by the rules of TLS 1.3: an elliptic-curve scheme
/// works only with its own curve.
pub(super) fn suits_key(scheme: SignatureScheme, kind: KeyKind) -> bool {
    use SignatureScheme as S;
    match kind {
        KeyKind::Ed25519 => scheme == S::ED25519,
        KeyKind::P256 => scheme == S::ECDSA_NISTP256_SHA256,
        KeyKind::P384 => scheme == S::ECDSA_NISTP384_SHA384,
        KeyKind::P521 => scheme == S::ECDSA_NISTP521_SHA512,
        KeyKind::Rsa(length) => is_rsa(scheme) && length >= shortest_modulus(scheme),
        KeyKind::OtherCurve | KeyKind::Other => false,
    }
}

/// The same by the rules of TLS 1.2: a scheme only names a hash, and works with any of these curves.
pub(super) fn suits_key_in_tls12(scheme: SignatureScheme, kind: KeyKind) -> bool {
    use SignatureScheme as S;
    match kind {
        KeyKind::P256 | KeyKind::P384 | KeyKind::P521 => matches!(
            scheme,
            S::ECDSA_NISTP256_SHA256 | S::ECDSA_NISTP384_SHA384 | S::ECDSA_NISTP521_SHA512
        ),
        _ => suits_key(scheme, kind),
    }
}

fn is_rsa(scheme: SignatureScheme) -> bool {
    use SignatureScheme as S;
    matches!(
        scheme,
        S::RSA_PKCS1_SHA1
            | S::RSA_PKCS1_SHA256
            | S::RSA_PKCS1_SHA384
            | S::RSA_PKCS1_SHA512
            | S::RSA_PSS_SHA256
            | S::RSA_PSS_SHA384
            | S::RSA_PSS_SHA512
    )
}

/// In bytes. PSS needs space for the hash, a salt of the same length and two bytes more (RFC 8017, section
/// 9.1.1): with SHA-512 a key of 1024 bits is too short. PKCS #1 needs space for the hash, at most 19 bytes
/// that name it, and 11 of padding (section 9.2).
fn shortest_modulus(scheme: SignatureScheme) -> usize {
    let Some(form) = form_of(scheme) else {
        return usize::MAX;
    };
    let hash = match form.hash {
        Some(Hash::Sha1) => 20,
        Some(Hash::Sha256) => 32,
        Some(Hash::Sha384) => 48,
        Some(Hash::Sha512) => 64,
        None => return usize::MAX,
    };
    match form.pss {
        true => 2 * hash + 2,
        false => hash + 19 + 11,
    }
}
