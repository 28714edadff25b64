//! The names in a client's certificate.
//!
//! Not here: verifying the certificate, which has been done before (`verify`).

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The common names and alternative names (DNS, URI, e-mail) in the certificate of a connection's client;
/// none without a certificate. Cheap to clone: each request carries it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerNames(Arc<[String]>);

impl PeerNames {
    /// The names in a certificate; none if it cannot be read.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
            return Self::default();
        };
        let subject = certificate.subject();
        let common = subject.iter_common_name().filter_map(|it| it.as_str().ok());
        let extension = certificate.subject_alternative_name().ok().flatten();
        let alternative = extension.iter().flat_map(|it| &it.value.general_names);
        let alternative = alternative.filter_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => {
                Some(*name)
            }
            _ => None,
        });
        Self(common.chain(alternative).map(str::to_owned).collect())
    }

    /// The names, the common name first.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl<const N: usize> From<[&str; N]> for PeerNames {
    fn from(names: [&str; N]) -> Self {
        Self(names.map(str::to_owned).into())
    }
}

/// Whether a certificate is expired or not valid yet; `false` if it cannot be read here.
pub(super) fn is_out_of_force(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate)
        .is_ok_and(|(_, certificate)| !certificate.validity().is_valid())
}
