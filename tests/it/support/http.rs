//! A raw HTTP/1 client: writes bytes, reads one response. Tests can send and see everything.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// The longest wait for one response.
const TIMEOUT: Duration = Duration::from_secs(180);

/// A response.
#[derive(Debug)]
pub(crate) struct HttpReply {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl HttpReply {
    /// The first header of this name, given in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// An HTTP/1.1 request with `Host`, these headers, and `Content-Length` if there is a body.
pub(crate) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if let Some(body) = body {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    let mut bytes = (head + "\r\n").into_bytes();
    bytes.extend_from_slice(body.unwrap_or_default());
    bytes
}

/// Opens a connection, sends `bytes`, reads one response.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> io::Result<HttpReply> {
    let mut connection = HttpConnection::open(address).await?;
    connection.exchange(bytes).await
}

/// A connection for one or more exchanges.
pub(crate) struct HttpConnection {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    /// Bytes that are read but not used yet.
    buffer: Vec<u8>,
}

impl HttpConnection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        Ok(Self {
            read,
            write,
            buffer: Vec::new(),
        })
    }

    /// Sends `bytes` and reads one response at the same time, because a server can answer before it has
    /// read everything.
    pub(crate) async fn exchange(&mut self, bytes: &[u8]) -> io::Result<HttpReply> {
        let Self {
            read,
            write,
            buffer,
        } = self;
        let send = async {
            // A server that has answered can close before it has read everything.
            let _ = write.write_all(bytes).await;
            std::future::pending().await
        };
        let head_only = bytes.starts_with(b"HEAD ");
        tokio::select! {
            reply = read_reply(read, buffer, head_only) => reply,
            () = send => unreachable!("it never ends"),
            () = tokio::time::sleep(TIMEOUT) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Sends bytes and waits for nothing.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write.write_all(bytes).await
    }

    /// Signals that nothing more will be sent.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        self.write.shutdown().await
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = std::mem::take(&mut self.buffer);
        let read = self.read.read_to_end(&mut bytes);
        tokio::time::timeout(TIMEOUT, read).await??;
        Ok(bytes)
    }
}

async fn read_reply(
    read: &mut OwnedReadHalf,
    buffer: &mut Vec<u8>,
    head_only: bool,
) -> io::Result<HttpReply> {
    let mut reply = read_head(read, buffer).await?;
    while reply.status == 100 {
        reply = read_head(read, buffer).await?;
    }
    let chunked = reply.header("transfer-encoding") == Some("chunked");
    let length = reply.header("content-length").map(str::parse);
    reply.body = if head_only || matches!(reply.status, 204 | 304) {
        Vec::new()
    } else if chunked {
        read_chunks(read, buffer).await?
    } else if let Some(length) = length {
        take(read, buffer, length.map_err(io::Error::other)?).await?
    } else {
        let mut body = std::mem::take(buffer);
        read.read_to_end(&mut body).await?;
        body
    };
    Ok(reply)
}

async fn read_head(read: &mut OwnedReadHalf, buffer: &mut Vec<u8>) -> io::Result<HttpReply> {
    let first = take_line(read, buffer).await?;
    let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status in {first:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = take_line(read, buffer).await?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(HttpReply {
        status,
        headers,
        body: Vec::new(),
    })
}

async fn read_chunks(read: &mut OwnedReadHalf, buffer: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = take_line(read, buffer).await?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        body.extend(take(read, buffer, size).await?);
        take_line(read, buffer).await?;
        if size == 0 {
            return Ok(body);
        }
    }
}

/// A line, without its end.
async fn take_line(read: &mut OwnedReadHalf, buffer: &mut Vec<u8>) -> io::Result<String> {
    let mut searched = 0;
    loop {
        if let Some(end) = buffer[searched..].windows(2).position(|two| two == b"\r\n") {
            let line: Vec<u8> = buffer.drain(..searched + end + 2).collect();
            return Ok(String::from_utf8_lossy(&line[..line.len() - 2]).into_owned());
        }
        searched = buffer.len().saturating_sub(1);
        read_more(read, buffer).await?;
    }
}

async fn take(read: &mut OwnedReadHalf, buffer: &mut Vec<u8>, size: usize) -> io::Result<Vec<u8>> {
    while buffer.len() < size {
        read_more(read, buffer).await?;
    }
    Ok(buffer.drain(..size).collect())
}

async fn read_more(read: &mut OwnedReadHalf, buffer: &mut Vec<u8>) -> io::Result<()> {
    if read.read_buf(buffer).await? == 0 {
        let so_far = String::from_utf8_lossy(buffer);
        let text = format!("the server closed the connection after {so_far:?}");
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
    }
    Ok(())
}
