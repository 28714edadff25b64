//! The other end of a connection: the names in its certificate, and its address.
//!
//! Not here: certificates (`tls`), access rules (`auth`).

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::tls::PeerNames;

/// The origin of requests, for sharing limited room between sources. Cheap to copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The origin is unknown.
    #[default]
    Unknown,
    /// An IPv4 address.
    V4([u8; 4]),
    /// The first 64 bits of an IPv6 address: networks assign such a prefix, and one host can use all
    /// addresses in it.
    V6([u8; 8]),
    /// A Unix socket. The file system decides who can open it.
    Unix,
}

impl Source {
    /// The source that this address belongs to.
    pub(super) fn from_ip(address: IpAddr) -> Self {
        let of_network = |address: Ipv6Addr| {
            let [a, b, c, d, e, f, g, h, ..] = address.octets();
            Self::V6([a, b, c, d, e, f, g, h])
        };
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => of_network(address),
        }
    }
}

/// Identifies a connection.
pub type ConnectionNumber = u64;

/// The other end of a connection. Each of its requests carries it.
#[derive(Clone, Debug, Default)]
pub struct Peer(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    names: PeerNames,
    source: Source,
    connection: ConnectionNumber,
    /// The number of logins that wait to be checked.
    logins: AtomicUsize,
    /// Whether the last login failed.
    has_been_wrong: AtomicBool,
}

/// A login that waits to be checked, until this is dropped.
pub struct WaitingLogin<'a>(&'a Peer);

impl Drop for WaitingLogin<'_> {
    fn drop(&mut self) {
        self.0.0.logins.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Peer {
    /// The client of a new connection, with these names in its certificate and this source.
    pub fn new(names: PeerNames, source: Source) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(Arc::new(Inner {
            names,
            source,
            connection: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            ..Inner::default()
        }))
    }

    /// The names in the client's certificate.
    pub fn names(&self) -> &PeerNames {
        &self.0.names
    }

    /// The source of the connection.
    pub fn source(&self) -> Source {
        self.0.source
    }

    /// Notes a login that waits to be checked.
    pub fn login_waits(&self) -> WaitingLogin<'_> {
        self.0.logins.fetch_add(1, Ordering::Relaxed);
        WaitingLogin(self)
    }

    /// The number of logins that wait to be checked.
    pub(super) fn waiting_logins(&self) -> usize {
        self.0.logins.load(Ordering::Relaxed)
    }

    /// Notes the result of a login.
    pub fn note_login(&self, is_right: bool) {
        self.0.has_been_wrong.store(!is_right, Ordering::Relaxed);
    }

    /// Whether the last login on the connection failed.
    pub fn has_been_wrong(&self) -> bool {
        self.0.has_been_wrong.load(Ordering::Relaxed)
    }

    /// The connection's number.
    pub fn connection(&self) -> ConnectionNumber {
        self.0.connection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        Source::from_ip(address.parse().unwrap())
    }

    #[test]
    fn hosts_of_one_ipv6_network_are_one_source() {
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::7"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        // The form in which a dual-stack socket reports an IPv4 client.
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    }
}
