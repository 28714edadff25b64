//! The certificates that the server trusts, and the verification of a client's certificate.
//!
//! Not here: reading a certificate (`libcrypto`), the alert for a refusal (`verify`).

use std::ffi::{CStr, c_int};
use std::fmt;
use std::ptr::NonNull;

use aws_lc_sys as c;

use super::{Certificate, forget_errors, owned};

/// The trusted certificates that a client's certificate has to lead to.
pub(crate) struct Roots(NonNull<c::X509_STORE>);

/// Why a client's certificate was refused: one of `X509_V_ERR_…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) c_int);

// SAFETY: Not bound to a thread. Nothing changes it once it is shared: `verify` calls functions which the
// library documents as free of changes, or which lock the parts that they change (the lookups of a store).
unsafe impl Send for Roots {}
// SAFETY: As above.
unsafe impl Sync for Roots {}

impl Roots {
    /// A store with the settings of C-core: every certificate in it is trusted by itself
    /// (`X509_V_FLAG_PARTIAL_CHAIN`), and all others are verified as a TLS client's.
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: Takes nothing.
        let roots = owned(unsafe { c::X509_STORE_new() }).map(Self)?;
        let (store, flags) = (
            roots.0.as_ptr(),
            c::X509_V_FLAG_PARTIAL_CHAIN | c::X509_V_FLAG_TRUSTED_FIRST,
        );
        // SAFETY: The store is alive; the function lives as long as the process.
        let is_set = unsafe {
            c::X509_STORE_set_verify_cb(store, Some(overlook));
            c::X509_STORE_set_flags(store, flags.unsigned_abs().into()) == 1
                && c::X509_STORE_set_purpose(store, c::X509_PURPOSE_SSL_CLIENT) == 1
                && c::X509_STORE_set_trust(store, c::X509_TRUST_SSL_CLIENT) == 1
        };
        is_set.then_some(roots)
    }

    /// Trusts a certificate from now on; returns whether that succeeded.
    pub(crate) fn add(&mut self, certificate: &Certificate) -> bool {
        // SAFETY: Both are alive; the store takes a reference of its own.
        let is_added =
            unsafe { c::X509_STORE_add_cert(self.0.as_ptr(), certificate.0.as_ptr()) } == 1;
        forget_errors();
        is_added
    }

    /// Verifies a client's certificate, with the others that the client sent.
    ///
    /// # Errors
    ///
    /// If it does not lead to a trusted certificate, or is not valid today.
    pub(crate) fn verify(
        &self,
        certificate: &Certificate,
        others: &[Certificate],
    ) -> Result<(), Refusal> {
        let out_of_memory = Refusal(c::X509_V_ERR_OUT_OF_MEM);
        let chain = Chain::of(others).ok_or(out_of_memory)?;
        // SAFETY: Takes nothing.
        let context = owned(unsafe { c::X509_STORE_CTX_new() }).ok_or(out_of_memory)?;
        let context = context.as_ptr();
        let (store, certificate, others) =
            (self.0.as_ptr(), certificate.0.as_ptr(), chain.0.as_ptr());
        // SAFETY: The store, the certificates and the list, which the context points to, live until the end
        // of this function, and the context is freed before that.
        let (is_good, error) = unsafe {
            let is_good = c::X509_STORE_CTX_init(context, store, certificate, others.cast()) == 1
                && c::X509_verify_cert(context) == 1;
            let error = c::X509_STORE_CTX_get_error(context);
            c::X509_STORE_CTX_free(context);
            (is_good, error)
        };
        forget_errors();
        is_good.then_some(()).ok_or(Refusal(error))
    }
}

impl Drop for Roots {
    fn drop(&mut self) {
        // SAFETY: We owned it, and it is not used again.
        unsafe { c::X509_STORE_free(self.0.as_ptr()) }
    }
}

/// The library's English text.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: Returns a static C string for any number.
        let text = unsafe { CStr::from_ptr(c::X509_verify_cert_error_string(self.0.into())) };
        f.write_str(&text.to_string_lossy())
    }
}

/// Called by the verification with every complaint; decides whether to ignore it.
///
/// AWS-LC checks more than BoringSSL does today:
/// - the trusted certificate at the end of a chain. BoringSSL trusts it as it is, even an issuer that is
///   not marked as one (version 1) or a leaf without the right purpose. These complaints come only once the
///   chain has been found to end in the store, so its last certificate is a trusted one.
/// - `nsCertType`, Netscape's predecessor of `extendedKeyUsage`.
///
/// All other complaints stand, including those about dates.
unsafe extern "C" fn overlook(is_good: c_int, context: *mut c::X509_STORE_CTX) -> c_int {
    if is_good == 1 {
        return 1;
    }
    // SAFETY: The library passes the context that it is working on, which has a chain by then.
    let (error, depth, length) = unsafe {
        let chain = c::X509_STORE_CTX_get0_chain(context);
        (
            c::X509_STORE_CTX_get_error(context),
            c::X509_STORE_CTX_get_error_depth(context),
            c::OPENSSL_sk_num(chain.cast()),
        )
    };
    let is_trusted = usize::try_from(depth).is_ok_and(|depth| depth + 1 == length);
    let is_overlooked = match error {
        c::X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION
        | c::X509_V_ERR_INVALID_CA
        | c::X509_V_ERR_PATH_LENGTH_EXCEEDED => is_trusted,
        // SAFETY: The complaint is about a certificate, which is alive as long as the chain.
        c::X509_V_ERR_INVALID_PURPOSE => is_trusted || unsafe { is_for_clients(context) },
        _ => false,
    };
    c_int::from(is_overlooked)
}

/// Whether `extendedKeyUsage` allows TLS clients or is absent. `keyUsage` is checked elsewhere: for an
/// issuer by the library, for a client by `may_sign`.
///
/// # Safety
///
/// The context has to be verifying a certificate.
unsafe fn is_for_clients(context: *mut c::X509_STORE_CTX) -> bool {
    // SAFETY: By the contract of this function.
    let usage =
        unsafe { c::X509_get_extended_key_usage(c::X509_STORE_CTX_get_current_cert(context)) };
    usage & c::XKU_SSL_CLIENT.unsigned_abs() != 0
}

/// A list of certificates, which it borrows.
struct Chain<'a>(
    NonNull<c::OPENSSL_STACK>,
    std::marker::PhantomData<&'a Certificate>,
);

impl<'a> Chain<'a> {
    fn of(certificates: &'a [Certificate]) -> Option<Self> {
        // SAFETY: Takes nothing.
        let chain = owned(unsafe { c::OPENSSL_sk_new_null() })?;
        let chain = Self(chain, std::marker::PhantomData);
        certificates
            .iter()
            // SAFETY: The list is alive; it stores the pointer, and never frees the certificate.
            .all(|it| unsafe { c::OPENSSL_sk_push(chain.0.as_ptr(), it.0.as_ptr().cast()) } > 0)
            .then_some(chain)
    }
}

impl Drop for Chain<'_> {
    fn drop(&mut self) {
        // SAFETY: We owned it, and it is not used again; the certificates are not freed with it.
        unsafe { c::OPENSSL_sk_free(self.0.as_ptr()) }
    }
}
