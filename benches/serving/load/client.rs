//! A connection of our own: HTTP/2 for gRPC, HTTP/1.1 for REST, one call at a time.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{Call, Protocol, Target};
use crate::Result;

/// The flow-control window, larger than any answer, so that the round trips of window updates are not
/// measured.
const WINDOW: u32 = 32 << 20;
/// The frame of a gRPC message: a flag and its length.
const FRAME_BYTES: usize = 5;

pub(crate) struct Connection {
    sender: Sender,
    call: Call,
    authority: String,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    pub(crate) async fn open(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        let stream = TokioIo::new(stream);
        let sender = match target.call.protocol {
            Protocol::Rest => {
                let (sender, connection) = http1::handshake(stream).await?;
                tokio::spawn(connection);
                Sender::Http1(sender)
            }
            Protocol::Grpc => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                let (sender, connection) = builder
                    .initial_stream_window_size(WINDOW)
                    .initial_connection_window_size(WINDOW)
                    .handshake(stream)
                    .await?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        Ok(Self {
            sender,
            call: target.call.clone(),
            authority: target.address.to_string(),
        })
    }

    /// The whole answer.
    pub(crate) async fn call(&mut self) -> Result<Bytes> {
        let body = self.send().await?.collect().await?;
        self.check_trailers(body.trailers())?;
        let bytes = body.to_bytes();
        let start = match self.call.protocol {
            Protocol::Rest => 0,
            Protocol::Grpc => FRAME_BYTES.min(bytes.len()),
        };
        Ok(bytes.slice(start..))
    }

    /// The length of the answer, whose content is not checked.
    pub(crate) async fn call_and_count(&mut self) -> Result<usize> {
        let mut body = self.send().await?;
        let mut len = 0;
        let mut trailers = None;
        while let Some(frame) = body.frame().await {
            match frame?.into_data() {
                Ok(data) => len += data.len(),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        self.check_trailers(trailers.as_ref())?;
        match self.call.protocol {
            Protocol::Rest => Ok(len),
            Protocol::Grpc => Ok(len.saturating_sub(FRAME_BYTES)),
        }
    }

    async fn send(&mut self) -> Result<Incoming> {
        let body = Full::new(self.call.body.clone());
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                let request = Request::post(&self.call.path)
                    .header("host", &self.authority)
                    .header("content-type", "application/json");
                sender.ready().await?;
                sender.send_request(request.body(body)?).await?
            }
            Sender::Http2(sender) => {
                let uri = format!("http://{}{}", self.authority, self.call.path);
                let request = Request::post(uri)
                    .header("content-type", "application/grpc")
                    .header("te", "trailers");
                sender.ready().await?;
                sender.send_request(request.body(body)?).await?
            }
        };
        if response.status() != 200 {
            let status = response.status();
            let text = response.into_body().collect().await?.to_bytes();
            return Err(format!("{status}: {}", String::from_utf8_lossy(&text)).into());
        }
        // An error without a message has its status in the headers.
        if response.body().is_end_stream() && self.call.protocol == Protocol::Grpc {
            self.check_trailers(Some(response.headers()))?;
        }
        Ok(response.into_body())
    }

    fn check_trailers(&self, trailers: Option<&HeaderMap>) -> Result<()> {
        if self.call.protocol == Protocol::Rest {
            return Ok(());
        }
        let status = trailers.and_then(|it| it.get("grpc-status"));
        match status.map(|it| it.as_bytes()) {
            // The status came with the headers, which were checked.
            None | Some(b"0") => Ok(()),
            Some(code) => {
                let message = trailers.and_then(|it| it.get("grpc-message"));
                let code = String::from_utf8_lossy(code);
                Err(format!("gRPC status {code}: {message:?}").into())
            }
        }
    }
}
