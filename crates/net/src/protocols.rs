//! Which protocols a port speaks.
//!
//! Not here: speaking them (`connection`), negotiating them (`tls`).

/// The protocols of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// gRPC: HTTP/2 with prior knowledge.
    Http2,
    /// REST: HTTP/1.0, 1.1, and HTTP/2 with prior knowledge.
    Http1And2,
}
