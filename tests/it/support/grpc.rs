//! A gRPC client for unary calls whose messages are bytes: a test's bytes are sent unchanged.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{MetadataKey, MetadataMap};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// The longest wait for an answer to a call without a deadline of its own.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The response.
#[derive(Debug)]
pub(crate) struct GrpcReply {
    pub(crate) code: Code,
    /// The status's text; empty for OK.
    pub(crate) details: String,
    /// The response message; empty for an error.
    pub(crate) message: Bytes,
}

/// A connection to a server's gRPC port.
#[derive(Clone)]
pub(crate) struct GrpcClient {
    grpc: Grpc<Channel>,
}

impl GrpcClient {
    /// A client that connects with its first call.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let grpc = Grpc::new(endpoint.connect_lazy())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        Self { grpc }
    }

    /// A client that compresses its messages.
    pub(crate) fn compressed(&self, encoding: CompressionEncoding) -> Self {
        Self {
            grpc: self.grpc.clone().send_compressed(encoding),
        }
    }

    /// Calls `/package.Service/Method`.
    pub(crate) async fn call(&self, method: &str, message: impl Into<Bytes>) -> GrpcReply {
        self.call_with(method, message, None, &[]).await
    }

    /// As [`GrpcClient::call`], with a deadline and metadata.
    pub(crate) async fn call_with(
        &self,
        method: &str,
        message: impl Into<Bytes>,
        timeout: Option<Duration>,
        metadata: &[(String, String)],
    ) -> GrpcReply {
        let mut request = Request::new(message.into());
        add_metadata(request.metadata_mut(), metadata);
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        let call = self.unary(method, request);
        // As a client library does, it does not wait for a server that ignores the deadline.
        let status = match tokio::time::timeout(timeout.unwrap_or(TIMEOUT), call).await {
            Ok(Ok(message)) => {
                return GrpcReply {
                    code: Code::Ok,
                    details: String::new(),
                    message,
                };
            }
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded("Deadline Exceeded"),
        };
        GrpcReply {
            code: status.code(),
            details: status.message().to_owned(),
            message: Bytes::new(),
        }
    }

    /// A call with typed messages.
    pub(crate) async fn call_as<Response: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> Result<Response, Status> {
        let reply = self.call(method, request.encode_to_vec()).await;
        match reply.code {
            Code::Ok => Ok(Response::decode(reply.message).expect("a response that decodes")),
            code => Err(Status::new(code, reply.details)),
        }
    }

    async fn unary(&self, method: &str, request: Request<Bytes>) -> Result<Bytes, Status> {
        let mut grpc = self.grpc.clone();
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(format!("{error:?}")))?;
        let path = method.parse().expect("a path");
        Ok(grpc.unary(request, path, BytesCodec).await?.into_inner())
    }
}

fn add_metadata(map: &mut MetadataMap, metadata: &[(String, String)]) {
    for (key, value) in metadata {
        let key = MetadataKey::from_bytes(key.as_bytes()).expect("a metadata key");
        map.insert(key, value.parse().expect("a metadata value"));
    }
}

/// Messages as they are on the wire.
#[derive(Clone, Copy)]
struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
