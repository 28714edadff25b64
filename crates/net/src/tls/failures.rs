//! Logs failed handshakes: why clients could not connect, without a line for each attempt.
//!
//! Not here: notifying the client, for which rustls sends a TLS alert.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::{AlertDescription, CertificateError, Error};

/// Each reason is logged at most once in this time, with the number of failures that were not logged.
const PAUSE: Duration = Duration::from_secs(10);
/// The number of reasons that are counted separately; later ones share a count.
const MAX_REASONS: usize = 64;
const OTHER_REASONS: &str = "other reasons";

/// Limits the log lines about failed handshakes.
#[derive(Default)]
pub(super) struct Failures {
    /// By reason. Locked only for a look-up; nothing is logged under the lock.
    logged: Mutex<HashMap<String, Logged>>,
}

struct Logged {
    at: Instant,
    not_logged: u64,
}

impl Failures {
    /// Logs a failure, or counts it if its reason was logged a moment ago.
    pub(super) fn log(&self, error: &io::Error, has_begun: bool, peer: Option<SocketAddr>) {
        let peer = peer.map_or_else(|| "a Unix socket".to_owned(), |peer| peer.to_string());
        let reason = reason_of(error);
        if !has_begun && is_end(error) {
            // Port probes do this.
            tracing::debug!(peer, "connection closed before a TLS handshake");
            return;
        }
        match self.count(&reason, Instant::now()) {
            None => tracing::debug!(peer, reason, "TLS handshake failed"),
            Some(0) => tracing::warn!(peer, reason, "TLS handshake failed"),
            Some(not_logged) => tracing::warn!(
                peer,
                reason,
                "TLS handshake failed, as did {not_logged} more for this reason since the last such line"
            ),
        }
    }

    /// The number of failures that were not logged since the last line; `None` if it is too early for
    /// another.
    fn count(&self, reason: &str, now: Instant) -> Option<u64> {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = logged.contains_key(reason) || logged.len() < MAX_REASONS;
        let reason = if is_known { reason } else { OTHER_REASONS };
        match logged.get_mut(reason) {
            None => {
                let first = Logged {
                    at: now,
                    not_logged: 0,
                };
                logged.insert(reason.to_owned(), first);
                Some(0)
            }
            Some(last) if now.saturating_duration_since(last.at) < PAUSE => {
                last.not_logged += 1;
                None
            }
            Some(last) => {
                last.at = now;
                Some(std::mem::take(&mut last.not_logged))
            }
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// The reason, in words that an operator can act on.
fn reason_of(error: &io::Error) -> String {
    let source = error.get_ref().and_then(|it| it.downcast_ref::<Error>());
    match source {
        Some(Error::NoCertificatesPresented) => "the client sent no certificate".to_owned(),
        Some(Error::InvalidCertificate(refusal)) => {
            format!(
                "the client's certificate was refused: {}",
                refusal_of(refusal)
            )
        }
        Some(Error::AlertReceived(alert)) => {
            let hint = match alert {
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown => {
                    ": it refuses this server's certificate (server_cert)"
                }
                _ => "",
            };
            format!("the client ended it with the alert {alert:?}{hint}")
        }
        Some(Error::InvalidMessage(error)) => format!("the client does not speak TLS: {error:?}"),
        Some(error) => error.to_string(),
        None if error.kind() == io::ErrorKind::TimedOut => "the client was too slow".to_owned(),
        None if is_end(error) => "the client closed the connection".to_owned(),
        None => error.to_string(),
    }
}

fn refusal_of(refusal: &CertificateError) -> String {
    use CertificateError as E;
    let text = match refusal {
        E::BadEncoding => "it cannot be read",
        E::Expired => "it, or one that it leads to, has expired",
        E::NotValidYet => "it, or one that it leads to, is not yet valid",
        E::UnknownIssuer => "it does not lead to a trusted one (custom_ca)",
        E::BadSignature => "a signature is wrong, or of a kind that is not taken",
        E::InvalidPurpose => "it is not for TLS clients (keyUsage, extendedKeyUsage)",
        E::UnhandledCriticalExtension => "it has a critical extension that is not known here",
        E::Other(other) => return other.0.to_string(),
        other => return other.to_string(),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_logged_once_in_a_while() {
        let failures = Failures::default();
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(failures.count("a", start), Some(0));
        assert_eq!(failures.count("a", after(1)), None);
        assert_eq!(failures.count("b", after(2)), Some(0));
        assert_eq!(failures.count("a", after(9_999)), None);
        assert_eq!(failures.count("a", after(10_000)), Some(2));
        assert_eq!(failures.count("a", after(10_001)), None);
        assert_eq!(failures.count("b", after(12_000)), Some(0));
    }

    #[test]
    fn reasons_without_end_share_a_count() {
        let failures = Failures::default();
        let now = Instant::now();
        let lines = (0..10_000).filter_map(|it| failures.count(&it.to_string(), now));
        assert_eq!(lines.count(), MAX_REASONS + 1);
        assert_eq!(failures.logged.lock().unwrap().len(), MAX_REASONS + 1);
    }
}
