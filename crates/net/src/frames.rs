//! Follows where the frames of an HTTP/2 connection begin and end, to detect an incomplete one.
//!
//! Not here: the contents of frames (h2), closing connections with incomplete frames (`first_byte_timeout`).

/// The first bytes that an HTTP/2 client sends.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A frame's header: the length of the payload, and the other fields before it.
const HEADER_BYTES: usize = 9;

/// Follows the bytes of one connection.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes of the preface so far.
    begun: usize,
    is_http2: bool,
    header: [u8; HEADER_BYTES],
    of_header: usize,
    /// The number of payload bytes that are missing.
    missing: usize,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self {
            begun: 0,
            is_http2: true,
            header: [0; HEADER_BYTES],
            of_header: 0,
            missing: 0,
        }
    }

    /// Follows the bytes that have arrived.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.is_http2 {
            let taken = if self.begun < PREFACE.len() {
                let taken = bytes.len().min(PREFACE.len() - self.begun);
                self.is_http2 = PREFACE[self.begun..].starts_with(&bytes[..taken]);
                self.begun += taken;
                taken
            } else if self.missing > 0 {
                let taken = bytes.len().min(self.missing);
                self.missing -= taken;
                taken
            } else {
                let taken = bytes.len().min(HEADER_BYTES - self.of_header);
                let end = self.of_header + taken;
                self.header[self.of_header..end].copy_from_slice(&bytes[..taken]);
                self.of_header = end;
                if end == HEADER_BYTES {
                    self.of_header = 0;
                    let [a, b, c, ..] = self.header;
                    self.missing = u32::from_be_bytes([0, a, b, c]) as usize;
                }
                taken
            };
            bytes = &bytes[taken..];
        }
    }

    /// Whether a frame has begun but is incomplete.
    pub(super) fn is_one_begun(&self) -> bool {
        self.is_http2 && (self.of_header > 0 || self.missing > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_followed_in_pieces_of_any_size() {
        let frames = [
            PREFACE,
            b"\0\0\0\x04\0\0\0\0\0",
            b"\0\0\x03\0\0\0\0\0\x01abc",
            b"\0\x01\0\0\0\0\0\0\x01",
            &[7; 256],
        ];
        let whole: Vec<usize> = [2, 3, 5].map(|count| frames[..count].concat().len()).into();
        let bytes = frames.concat();
        for size in 1..bytes.len() {
            let mut follower = Frames::new();
            let mut came = 0;
            for piece in bytes.chunks(size) {
                follower.follow(piece);
                came += piece.len();
                let is_begun = came > PREFACE.len() && !whole.contains(&came);
                assert_eq!(
                    follower.is_one_begun(),
                    is_begun,
                    "{came} of pieces of {size}"
                );
            }
        }
    }

    #[test]
    fn other_protocols_have_no_frames() {
        for bytes in [
            &b"GET / HTTP/1.1\r\nX: "[..],
            b"PRI * HTTP/1.1\r\n\r\nxxxxxxxxxxx",
        ] {
            let mut follower = Frames::new();
            follower.follow(bytes);
            assert!(!follower.is_one_begun());
        }
    }
}
