//! Safe types for reading, using and verifying certificates and private keys with the C library AWS-LC.
//!
//! AWS-LC descends from BoringSSL, which gRPC's C-core is built on, so it accepts the same certificates and
//! keys as C-core. `aws-lc-rs` wraps its cryptography, but neither X.509 nor RSA keys of less than 2048
//! bits. All calls into C are in this file and in `roots`; `docs/unsafe.md` says why they are sound.
//!
//! Not here: verifying a client's certificate (`roots`), using a key in a handshake (`key`), the alert for a
//! refusal (`verify`).

mod roots;

use std::ffi::{c_int, c_void};
use std::ptr::{NonNull, null, null_mut};

use aws_lc_sys as c;

pub(super) use self::roots::{Refusal, Roots};

/// A certificate.
pub(super) struct Certificate(NonNull<c::X509>);

/// A public key, perhaps with its private one.
pub(super) struct Key(NonNull<c::EVP_PKEY>);

/// The kinds of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    /// With a modulus of this many bytes.
    Rsa(usize),
    P256,
    P384,
    P521,
    /// A curve that TLS does not use.
    OtherCurve,
    Ed25519,
    Other,
}

/// The form of a signature. Ed25519 has a hash of its own, and takes none.
#[derive(Clone, Copy, Debug)]
pub(super) struct SignatureForm {
    pub(super) hash: Option<Hash>,
    /// Pads an RSA signature by PSS instead of PKCS #1.
    pub(super) pss: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

// SAFETY: Neither of the two is bound to a thread. Nothing changes them once they are shared: the methods
// that take `&self` call functions which the library documents as free of changes, or which lock the parts
// that they change (caches of parsed extensions, RSA blinding).
unsafe impl Send for Certificate {}
// SAFETY: As above.
unsafe impl Sync for Certificate {}
// SAFETY: As above.
unsafe impl Send for Key {}
// SAFETY: As above.
unsafe impl Sync for Key {}

impl Certificate {
    /// Reads a certificate; fails if any bytes follow it.
    pub(super) fn from_der(der: &[u8]) -> Option<Self> {
        let mut at = der.as_ptr();
        let length = der.len().try_into().ok()?;
        // SAFETY: `at` and `length` are those of `der`; the library copies the parts that it keeps.
        let certificate = unsafe { c::d2i_X509(null_mut(), &mut at, length) };
        let certificate = owned(certificate).map(Self)?;
        (at == der.as_ptr_range().end).then_some(certificate)
    }

    /// All certificates of a PEM text, up to the first that cannot be read. Text between them and PEM
    /// blocks of other kinds are skipped.
    pub(super) fn all_from_pem(pem: &[u8]) -> Vec<Self> {
        let Some(text) = Text::new(pem) else {
            return Vec::new();
        };
        let next = || {
            // SAFETY: The text lives as long as the closure, and the password is a C string.
            owned(unsafe {
                c::PEM_read_bio_X509_AUX(text.bio.as_ptr(), null_mut(), None, NO_PASSWORD)
            })
        };
        std::iter::from_fn(next).map(Self).collect()
    }

    /// The certificate in DER form.
    pub(super) fn to_der(&self) -> Vec<u8> {
        // SAFETY: The certificate is alive; `to_der` keeps the protocol of `i2d` functions.
        to_der(|out| unsafe { c::i2d_X509(self.0.as_ptr(), out) })
    }

    /// The subject's name in DER form.
    pub(super) fn subject(&self) -> Vec<u8> {
        // SAFETY: As for `to_der`; the name belongs to the certificate, which is alive.
        to_der(|out| unsafe { c::i2d_X509_NAME(c::X509_get_subject_name(self.0.as_ptr()), out) })
    }

    /// The certificate's key, if the library knows its kind.
    pub(super) fn public_key(&self) -> Option<Key> {
        // SAFETY: The certificate is alive; we own a reference to the key.
        owned(unsafe { c::X509_get_pubkey(self.0.as_ptr()) }).map(Key)
    }

    /// Whether the certificate is for this private key.
    pub(super) fn fits(&self, key: &Key) -> bool {
        // SAFETY: Both are alive.
        let fits = unsafe { c::X509_check_private_key(self.0.as_ptr(), key.0.as_ptr()) };
        forget_errors();
        fits == 1
    }

    /// Whether the certificate's key can be used for signatures: `keyUsage` allows it or is absent.
    pub(super) fn may_sign(&self) -> bool {
        // SAFETY: The certificate is alive.
        let usage = unsafe { c::X509_get_key_usage(self.0.as_ptr()) };
        usage & c::X509v3_KU_DIGITAL_SIGNATURE.unsigned_abs() != 0
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        // SAFETY: We owned it, and it is not used again.
        unsafe { c::X509_free(self.0.as_ptr()) }
    }
}

impl Key {
    /// The first private key of a PEM text (PKCS #8, PKCS #1 or SEC 1); `None` for an encrypted one.
    pub(super) fn from_pem(pem: &[u8]) -> Option<Self> {
        let text = Text::new(pem)?;
        // SAFETY: The text is alive, and the password is a C string.
        owned(unsafe {
            c::PEM_read_bio_PrivateKey(text.bio.as_ptr(), null_mut(), None, NO_PASSWORD)
        })
        .map(Self)
    }

    pub(super) fn kind(&self) -> KeyKind {
        let key = self.0.as_ptr();
        // SAFETY: The key is alive.
        match unsafe { c::EVP_PKEY_id(key) } {
            c::EVP_PKEY_RSA => {
                // SAFETY: The key is alive.
                let length = unsafe { c::EVP_PKEY_size(key) };
                KeyKind::Rsa(usize::try_from(length).unwrap_or(0))
            }
            c::EVP_PKEY_ED25519 => KeyKind::Ed25519,
            c::EVP_PKEY_EC => {
                // SAFETY: An elliptic-curve key has an `EC_KEY` with a group; both belong to it.
                let curve = unsafe {
                    let group = c::EC_KEY_get0_group(c::EVP_PKEY_get0_EC_KEY(key));
                    c::EC_GROUP_get_curve_name(group)
                };
                match curve {
                    c::NID_X9_62_prime256v1 => KeyKind::P256,
                    c::NID_secp384r1 => KeyKind::P384,
                    c::NID_secp521r1 => KeyKind::P521,
                    _ => KeyKind::OtherCurve,
                }
            }
            _ => KeyKind::Other,
        }
    }

    /// Signs with the private key; `None` if the key is of another kind or too short for the form.
    pub(super) fn sign(&self, form: SignatureForm, message: &[u8]) -> Option<Vec<u8>> {
        let context = DigestContext::new()?;
        let (data, length) = (message.as_ptr(), message.len());
        // SAFETY: Everything passed is alive, and the lengths are those of the slices. The first call of
        // `EVP_DigestSign` only returns the maximum length, the second writes no more than the buffer
        // holds.
        let signature = unsafe {
            let mut parameters = null_mut();
            let (context, key) = (context.0.as_ptr(), self.0.as_ptr());
            let hash = form.hash();
            (c::EVP_DigestSignInit(context, &mut parameters, hash, null_mut(), key) == 1
                && form.apply(parameters))
            .then_some(())
            .and_then(|()| {
                let mut size = 0;
                if c::EVP_DigestSign(context, null_mut(), &mut size, data, length) != 1 {
                    return None;
                }
                let mut signature = vec![0; size];
                let out = signature.as_mut_ptr();
                if c::EVP_DigestSign(context, out, &mut size, data, length) != 1 {
                    return None;
                }
                signature.truncate(size);
                Some(signature)
            })
        };
        forget_errors();
        signature
    }

    /// Whether the message was signed with the private key that belongs to this public key.
    pub(super) fn has_signed(&self, form: SignatureForm, message: &[u8], signature: &[u8]) -> bool {
        let Some(context) = DigestContext::new() else {
            return false;
        };
        // SAFETY: Everything passed is alive, and the lengths are those of the slices.
        let has_signed = unsafe {
            let mut parameters = null_mut();
            let (context, key) = (context.0.as_ptr(), self.0.as_ptr());
            c::EVP_DigestVerifyInit(context, &mut parameters, form.hash(), null_mut(), key) == 1
                && form.apply(parameters)
                && c::EVP_DigestVerify(
                    context,
                    signature.as_ptr(),
                    signature.len(),
                    message.as_ptr(),
                    message.len(),
                ) == 1
        };
        forget_errors();
        has_signed
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: We owned it, and it is not used again.
        unsafe { c::EVP_PKEY_free(self.0.as_ptr()) }
    }
}

impl SignatureForm {
    fn hash(self) -> *const c::EVP_MD {
        // SAFETY: These functions take nothing and return pointers to static tables.
        unsafe {
            match self.hash {
                None => null(),
                Some(Hash::Sha1) => c::EVP_sha1(),
                Some(Hash::Sha256) => c::EVP_sha256(),
                Some(Hash::Sha384) => c::EVP_sha384(),
                Some(Hash::Sha512) => c::EVP_sha512(),
            }
        }
    }

    /// Sets the padding, which is PKCS #1 by default. Returns whether that succeeded.
    ///
    /// # Safety
    ///
    /// The parameters have to be alive.
    unsafe fn apply(self, parameters: *mut c::EVP_PKEY_CTX) -> bool {
        let (padding, as_hash) = (c::RSA_PKCS1_PSS_PADDING, c::RSA_PSS_SALTLEN_DIGEST);
        // SAFETY: By the contract of this function.
        !self.pss
            || unsafe {
                c::EVP_PKEY_CTX_set_rsa_padding(parameters, padding) == 1
                    && c::EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, as_hash) == 1
            }
    }
}

/// As in C-core: an encrypted key is refused, instead of asking for a password on the terminal.
const NO_PASSWORD: *mut c_void = c"".as_ptr().cast_mut().cast();

/// A text that the library reads from front to back.
struct Text<'a> {
    bio: NonNull<c::BIO>,
    _text: &'a [u8],
}

impl<'a> Text<'a> {
    fn new(text: &'a [u8]) -> Option<Self> {
        let length = text.len().try_into().ok()?;
        // SAFETY: Pointer and length are those of the slice, which outlives this value.
        let bio = owned(unsafe { c::BIO_new_mem_buf(text.as_ptr().cast(), length) })?;
        Some(Self { bio, _text: text })
    }
}

impl Drop for Text<'_> {
    fn drop(&mut self) {
        // SAFETY: We owned it, and it is not used again.
        unsafe { c::BIO_free(self.bio.as_ptr()) };
        // Reaching the end of a text also counts as an error.
        forget_errors();
    }
}

struct DigestContext(NonNull<c::EVP_MD_CTX>);

impl DigestContext {
    fn new() -> Option<Self> {
        // SAFETY: Takes nothing.
        owned(unsafe { c::EVP_MD_CTX_new() }).map(Self)
    }
}

impl Drop for DigestContext {
    fn drop(&mut self) {
        // SAFETY: We owned it, and it is not used again.
        unsafe { c::EVP_MD_CTX_free(self.0.as_ptr()) }
    }
}

/// Wraps a pointer that the library passes to its caller; null means that the function failed.
fn owned<T>(made: *mut T) -> Option<NonNull<T>> {
    let made = NonNull::new(made);
    if made.is_none() {
        forget_errors();
    }
    made
}

/// Empties the list of errors that the library keeps for each thread.
fn forget_errors() {
    // SAFETY: Takes nothing, and touches only this thread's list.
    unsafe { c::ERR_clear_error() }
}

/// The output of an `i2d` function: called with null it returns the length, then it fills the buffer.
fn to_der(write: impl Fn(*mut *mut u8) -> c_int) -> Vec<u8> {
    let length = usize::try_from(write(null_mut())).unwrap_or(0);
    let mut der = vec![0; length];
    let mut at = der.as_mut_ptr();
    if length > 0 {
        write(&mut at);
    }
    der
}
