//! The facts in a request's head, known before any of its body is read: its client, and the memory that it
//! needs.
//!
//! Not here: limits (`limit`), the largest head that a connection accepts (`connection`).

use http::{HeaderMap, Request};

use super::peer::{ConnectionNumber, Peer, Source};

/// The memory that each header needs in addition to its text, as HTTP/2 counts it (RFC 9113, section
/// 6.5.2).
const BYTES_OF_EACH: usize = 32;

/// The facts from a request's head.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head {
    pub(super) source: Source,
    pub(super) connection: ConnectionNumber,
    /// The size of its headers and its path, which are held as long as the request.
    pub(super) bytes: usize,
}

impl Head {
    /// The head of `request`.
    pub fn of<B>(request: &Request<B>) -> Self {
        let (source, connection) = match request.extensions().get::<Peer>() {
            Some(peer) => (peer.source(), peer.connection()),
            None => (Source::default(), 0),
        };
        let path = request.uri().path_and_query();
        Self {
            source,
            connection,
            bytes: headers_bytes(request.headers()) + path.map_or(0, |it| it.as_str().len()),
        }
    }
}

/// The memory that these headers need.
pub fn headers_bytes(headers: &HeaderMap) -> usize {
    let headers = headers.iter();
    let bytes = headers.map(|(name, value)| name.as_str().len() + value.len() + BYTES_OF_EACH);
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_as_large_as_what_it_holds() {
        let request = Request::get("/path?query").header("name", "value");
        let head = Head::of(&request.header("name", "other").body(()).unwrap());
        assert_eq!(head.bytes, 11 + 2 * (4 + 5 + 32));
    }
}
