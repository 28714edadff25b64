//! Accepts calls over a Unix socket whose `:authority` is the socket's path.
//!
//! gRPC's C library, and its clients in C++, Python and Ruby, percent-encode the path there
//! (`tmp%2Fgrpc.sock`). The HTTP/2 stack treats a `%` in an authority as an error and resets the call. This
//! stream replaces each such `%` by `-` while it is being read. The authority is not used for anything, and
//! because the length stays the same, so does HPACK's dynamic table on both sides.
//!
//! Not here: full HPACK. Only literals without Huffman coding are inspected, because that library writes
//! only those; all else passes unchanged to the HTTP/2 stack.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose incoming header blocks are corrected.
pub(super) struct UnixAuthority<S> {
    stream: S,
    scanner: Scanner,
}

impl<S> UnixAuthority<S> {
    /// Wraps a connection that nothing has been read from yet.
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            scanner: Scanner::default(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for UnixAuthority<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let start = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.scanner.scan(&mut buf.filled_mut()[start..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for UnixAuthority<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// The connection preface that every HTTP/2 client sends first.
const PREFACE_LEN: usize = 24;
const FRAME_HEADER_LEN: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Weight and dependency of a stream.
const PRIORITY_LEN: usize = 5;

/// Follows the frames of a connection, in pieces of any size.
struct Scanner {
    part: Part,
    header: [u8; FRAME_HEADER_LEN],
    block: HeaderBlock,
}

/// The part of the connection that comes next.
enum Part {
    /// This many bytes that do not matter.
    Skip(usize),
    /// A frame's header, of which this many bytes have arrived.
    FrameHeader(usize),
    /// The padding's length, in a frame with this many bytes after it.
    PadLength { rest: usize },
    /// `skip` bytes, `len` bytes of a header block, `padding` bytes.
    Block {
        skip: usize,
        len: usize,
        padding: usize,
    },
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            part: Part::Skip(PREFACE_LEN),
            header: [0; FRAME_HEADER_LEN],
            block: HeaderBlock::default(),
        }
    }
}

impl Scanner {
    fn scan(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let taken = self.scan_part(bytes);
            bytes = &mut bytes[taken..];
        }
    }

    /// Handles bytes of one part, and returns how many; at least one.
    fn scan_part(&mut self, bytes: &mut [u8]) -> usize {
        match &mut self.part {
            Part::Skip(left) => {
                let taken = bytes.len().min(*left);
                *left -= taken;
                if *left == 0 {
                    self.part = Part::FrameHeader(0);
                }
                taken
            }
            Part::FrameHeader(filled) => {
                self.header[*filled] = bytes[0];
                *filled += 1;
                if *filled == FRAME_HEADER_LEN {
                    self.start_frame();
                }
                1
            }
            &mut Part::PadLength { rest } => {
                let padding = usize::from(bytes[0]);
                self.start_block(rest, padding);
                1
            }
            Part::Block { skip, len, padding } => {
                if *skip > 0 {
                    *skip -= 1;
                } else {
                    self.block.scan(&mut bytes[0]);
                    *len -= 1;
                }
                if *len == 0 {
                    self.part = skip_or_frame(*padding);
                }
                1
            }
        }
    }

    fn start_frame(&mut self) {
        let [a, b, c, kind, flags, ..] = self.header;
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        match kind {
            HEADERS => self.block = HeaderBlock::default(),
            CONTINUATION => {}
            _ => {
                self.part = skip_or_frame(len);
                return;
            }
        }
        if kind == HEADERS && flags & PADDED != 0 && len > 0 {
            self.part = Part::PadLength { rest: len - 1 };
        } else {
            self.start_block(len, 0);
        }
    }

    /// A frame has `len` bytes left, of which the last `padding` are padding. If lengths contradict each
    /// other, the HTTP/2 stack refuses them.
    fn start_block(&mut self, len: usize, padding: usize) {
        let [_, _, _, kind, flags, ..] = self.header;
        let skip = if kind == HEADERS && flags & PRIORITY != 0 {
            PRIORITY_LEN
        } else {
            0
        };
        self.part = match len.checked_sub(skip + padding) {
            None | Some(0) => skip_or_frame(len),
            Some(len) => Part::Block { skip, len, padding },
        };
    }
}

fn skip_or_frame(len: usize) -> Part {
    if len == 0 {
        Part::FrameHeader(0)
    } else {
        Part::Skip(len)
    }
}

const AUTHORITY: &[u8] = b":authority";
/// The index of `:authority` in HPACK's static table.
const AUTHORITY_INDEX: u8 = 1;

/// Follows the fields of one header block, byte by byte (RFC 7541, section 6).
#[derive(Default)]
struct HeaderBlock {
    expected: Expected,
    text: Text,
    /// Whether the name is `:authority`, as far as it has been read.
    is_authority: bool,
}

#[derive(Default)]
enum Expected {
    /// The first byte of a field.
    #[default]
    Field,
    /// The rest of an integer that did not fit into the first byte; then a text, or the next field.
    Integer { then_text: bool },
    /// The first byte of a text's length.
    Length,
    /// The rest of that length.
    MoreLength { value: usize, shift: u32 },
    /// This many bytes of the text.
    Bytes { left: usize, read: usize },
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Text {
    #[default]
    Name,
    Value,
}

impl HeaderBlock {
    fn scan(&mut self, byte: &mut u8) {
        match self.expected {
            Expected::Field => self.start_field(*byte),
            Expected::Integer { then_text } => {
                if *byte < 0x80 {
                    self.after_integer(then_text);
                }
            }
            Expected::Length => {
                // Of a Huffman-coded text only the length is known.
                if *byte & 0x80 != 0 {
                    self.is_authority = false;
                }
                match usize::from(*byte & 0x7f) {
                    0x7f => {
                        self.expected = Expected::MoreLength {
                            value: 0x7f,
                            shift: 0,
                        }
                    }
                    len => self.start_text(len),
                }
            }
            Expected::MoreLength { value, shift } => {
                let more = usize::from(*byte & 0x7f).checked_shl(shift).unwrap_or(0);
                let value = value.saturating_add(more);
                if *byte < 0x80 {
                    self.start_text(value);
                } else {
                    let shift = shift + 7;
                    self.expected = Expected::MoreLength { value, shift };
                }
            }
            Expected::Bytes { left, read } => {
                match self.text {
                    Text::Name => self.is_authority &= AUTHORITY.get(read) == Some(byte),
                    Text::Value if self.is_authority && *byte == b'%' => *byte = b'-',
                    Text::Value => {}
                }
                let (left, read) = (left - 1, read + 1);
                self.expected = Expected::Bytes { left, read };
                if left == 0 {
                    self.end_text(read);
                }
            }
        }
    }

    fn start_field(&mut self, byte: u8) {
        let (mask, is_literal) = match byte {
            0x80.. => (0x7f, false),      // a field of the table
            0x40..=0x7f => (0x3f, true),  // a literal that enters the table
            0x20..=0x3f => (0x1f, false), // the table's new size
            _ => (0x0f, true),            // a literal that does not
        };
        let index = byte & mask;
        self.text = if index == 0 { Text::Name } else { Text::Value };
        self.is_authority = index == 0 || index == AUTHORITY_INDEX;
        if index == mask {
            self.expected = Expected::Integer {
                then_text: is_literal,
            };
        } else {
            self.after_integer(is_literal);
        }
    }

    fn after_integer(&mut self, then_text: bool) {
        self.expected = if then_text {
            Expected::Length
        } else {
            Expected::Field
        };
    }

    fn start_text(&mut self, left: usize) {
        self.expected = Expected::Bytes { left, read: 0 };
        if left == 0 {
            self.end_text(0);
        }
    }

    fn end_text(&mut self, read: usize) {
        self.expected = match self.text {
            Text::Name => {
                self.is_authority &= read == AUTHORITY.len();
                self.text = Text::Value;
                Expected::Length
            }
            Text::Value => Expected::Field,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    /// The block that Python's grpcio 1.85.1 sends over a Unix socket.
    const GRPCIO: &[u8] = b"@\x05:path\x04/a%b@\n:authority\x0ftmp%2Fgrpc%2Fsk\x83\x86\
        @\x0ccontent-type\x10application/grpc@\x02te\x08trailers";
    const MENDED: &[u8] = b"@\x05:path\x04/a%b@\n:authority\x0ftmp-2Fgrpc-2Fsk\x83\x86\
        @\x0ccontent-type\x10application/grpc@\x02te\x08trailers";

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.extend(payload);
        frame
    }

    /// The output of a connection does not depend on the sizes of the pieces.
    #[track_caller]
    fn check(frames: &[Vec<u8>], expected: &[Vec<u8>]) {
        let sent = [PREFACE, &frames.concat()].concat();
        let expected = [PREFACE, &expected.concat()].concat();
        for size in 1..=sent.len() {
            let mut scanner = Scanner::default();
            let mut received = sent.clone();
            received
                .chunks_mut(size)
                .for_each(|piece| scanner.scan(piece));
            assert_eq!(received, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn authority_of_a_path_is_mended() {
        check(&[frame(1, 4, GRPCIO)], &[frame(1, 4, MENDED)]);
    }

    #[test]
    fn authority_by_its_index_is_mended() {
        check(
            &[frame(1, 4, b"\x41\x05a%2Fb\x01\x03%20\x11\x02%%\x04\x02%%")],
            &[frame(1, 4, b"\x41\x05a-2Fb\x01\x03-20\x11\x02--\x04\x02%%")],
        );
    }

    #[test]
    fn other_frames_pass_as_they_are() {
        let frames = [
            frame(4, 0, b""),
            frame(0, 1, GRPCIO),
            frame(6, 0, b"@\n:autho"),
            frame(1, 4, b""),
        ];
        check(&frames, &frames);
    }

    #[test]
    fn padding_priority_and_continuation_are_followed() {
        let block = |block: &[u8]| {
            let (first, second) = block.split_at(30);
            let padded = [b"\x04\0\0\0\0\x10", first, b"%%%%"].concat();
            [frame(1, 0x28, &padded), frame(9, 4, second)]
        };
        check(&block(GRPCIO), &block(MENDED));
    }

    #[test]
    fn long_texts_and_other_names_pass() {
        let long = [b"@\x7f\x49".as_slice(), &[b'%'; 200], b"\x01%"].concat();
        let frames = [
            frame(1, 4, &long),
            frame(1, 4, b"@\x0b:authority2\x01%"),
            frame(1, 4, b"@\x09:authorit\x01%"),
            // The value in Huffman code.
            frame(1, 4, b"\x41\x82%%\x3f\x25\xff\x25"),
        ];
        check(&frames, &frames);
    }

    #[test]
    fn contradicting_lengths_do_no_harm() {
        let mut scanner = Scanner::default();
        let mut bytes = [
            PREFACE,
            &frame(1, 0x28, b"\xff\x01"),
            &frame(
                1,
                4,
                b"\x41\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01%",
            ),
            &frame(1, 4, GRPCIO),
        ]
        .concat();
        scanner.scan(&mut bytes);
        assert!(bytes.ends_with(MENDED));
    }
}
