//! Keeps the fragment of an HTTP/1 request's target. The HTTP stack drops it, but TensorFlow Serving treats
//! it as part of the path.
//!
//! The stream notes the request line while it is being read, and changes nothing. A line that is read
//! early, together with the body of the previous request, is not noted: its own request loses the
//! fragment.
//!
//! Not here: the meaning of the path (`rest::route`).

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use http::{Extensions, Request, Uri};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The longest line to note. The HTTP stack refuses longer targets.
const MAX_LINE_BYTES: usize = 64 << 10;

/// A target with its fragment, kept in its request's extensions.
#[derive(Clone, Debug)]
struct Target(String);

/// The path with its query, undecoded, as TensorFlow Serving matches it.
pub fn full_path(uri: &Uri) -> &str {
    uri.path_and_query().map_or("", |path| path.as_str())
}

/// The path of a request with query and fragment, undecoded.
pub fn full_target<'a>(uri: &'a Uri, extensions: &'a Extensions) -> &'a str {
    let target = extensions.get::<Target>();
    target.map_or_else(|| full_path(uri), |target| target.0.as_str())
}

/// The request lines of one connection.
#[derive(Clone)]
pub(super) struct RequestLines(Arc<Shared>);

struct Shared {
    /// Whether the next bytes are those of a request line.
    is_awaited: AtomicBool,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    /// The bytes of the line so far.
    part: Vec<u8>,
    /// A complete line that contains a `#`.
    whole: Option<Vec<u8>>,
}

impl Default for RequestLines {
    fn default() -> Self {
        Self(Arc::new(Shared {
            is_awaited: AtomicBool::new(true),
            line: Mutex::default(),
        }))
    }
}

impl RequestLines {
    /// The previous request has been read to its end.
    pub(super) fn expect(&self) {
        self.0.is_awaited.store(true, Ordering::Relaxed);
    }

    /// Attaches the noted target to its request.
    pub(super) fn attach<B>(&self, request: &mut Request<B>) {
        self.0.is_awaited.store(false, Ordering::Relaxed);
        let noted = {
            let mut line = self.lock();
            line.part.clear();
            line.whole.take()
        };
        let Some(target) = noted.and_then(|line| target_of(&line)) else {
            return;
        };
        // Otherwise the line is another request's.
        let path = target.split('#').next();
        if path == Some(full_path(request.uri())) {
            request.extensions_mut().insert(Target(target));
        }
    }

    fn note(&self, read: &[u8]) {
        if !self.0.is_awaited.load(Ordering::Relaxed) {
            return;
        }
        let mut line = self.lock();
        let mut read = read;
        if line.part.is_empty() {
            // Empty lines before a request are skipped.
            let start = read.iter().position(|byte| !b"\r\n".contains(byte));
            read = &read[start.unwrap_or(read.len())..];
        }
        let end = read.iter().position(|&byte| byte == b'\n');
        if end.is_none() && line.part.len() + read.len() <= MAX_LINE_BYTES {
            line.part.extend_from_slice(read);
            return;
        }
        self.0.is_awaited.store(false, Ordering::Relaxed);
        let part = std::mem::take(&mut line.part);
        let rest = &read[..end.unwrap_or(0)];
        if part.contains(&b'#') || rest.contains(&b'#') {
            line.whole = Some([&part, rest].concat());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Line> {
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn target_of(line: &[u8]) -> Option<String> {
    let target = line.split(|&byte| byte == b' ').nth(1)?;
    String::from_utf8(target.to_vec()).ok()
}

/// A connection whose request lines are noted.
pub(super) struct NotedLines<S> {
    stream: S,
    lines: RequestLines,
}

impl<S> NotedLines<S> {
    /// Wraps a connection that nothing has been read from yet.
    pub(super) fn new(stream: S, lines: RequestLines) -> Self {
        Self { stream, lines }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for NotedLines<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let start = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.lines.note(&buf.filled()[start..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for NotedLines<S> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The target of a request to `uri` whose bytes arrive in these pieces.
    fn target(pieces: &[&[u8]], uri: &'static str) -> String {
        let lines = RequestLines::default();
        pieces.iter().for_each(|piece| lines.note(piece));
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_static(uri);
        lines.attach(&mut request);
        full_target(request.uri(), request.extensions()).to_owned()
    }

    #[test]
    fn fragment_belongs_to_the_target() {
        let line = b"GET /v1/models/m?a#f#g HTTP/1.1\r\nHost: x\r\n\r\n";
        for end in 0..line.len() {
            let (one, two) = line.split_at(end);
            assert_eq!(target(&[one, two], "/v1/models/m?a"), "/v1/models/m?a#f#g");
        }
        assert_eq!(
            target(&[b"\r\n\r\n", line], "/v1/models/m?a"),
            "/v1/models/m?a#f#g"
        );
    }

    #[test]
    fn other_lines_change_nothing() {
        assert_eq!(target(&[b"GET /a HTTP/1.1\r\nX: #\r\n"], "/a"), "/a");
        assert_eq!(target(&[b"GET /b#f HTTP/1.1\r\n"], "/a"), "/a");
        assert_eq!(target(&[&vec![b'#'; MAX_LINE_BYTES + 1]], "/a"), "/a");
    }

    #[test]
    fn body_is_not_taken_for_a_line() {
        let lines = RequestLines::default();
        lines.note(b"POST /a HTTP/1.1\r\n\r\n");
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_static("/a");
        lines.attach(&mut request);
        lines.note(b"POST /a#f HTTP/1.1\r\n");
        lines.attach(&mut request);
        assert_eq!(full_target(request.uri(), request.extensions()), "/a");
        lines.expect();
        lines.note(b"POST /a#f HTTP/1.1\r\n");
        lines.attach(&mut request);
        assert_eq!(full_target(request.uri(), request.extensions()), "/a#f");
    }
}
