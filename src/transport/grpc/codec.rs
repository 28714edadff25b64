//! tonic's view of [`wire::predict`](crate::wire::predict): no generated message in between. Decoding
//! and encoding are measured here, since tonic does them before and after the handler.

use std::time::Instant;

use bytes::{Buf, Bytes};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::status::to_status;
use crate::inference::InferenceService;
use crate::monitoring::Direction;
use crate::transport::blocking::off_worker;
use crate::wire::predict::{PredictCall, PredictReply};

/// A `PredictRequest`, and from when to when it was decoded.
#[derive(Debug)]
pub struct ReceivedPredict {
    pub(super) call: PredictCall,
    pub(super) decoding: (Instant, Instant),
}

/// A `PredictResponse`, and where the time to encode it is recorded.
pub struct PredictAnswer {
    pub(super) reply: PredictReply,
    pub(super) inference: InferenceService,
}

/// The codec of `PredictionService.Predict`.
#[derive(Debug, Default)]
pub struct PredictCodec;

impl Codec for PredictCodec {
    type Encode = PredictAnswer;
    type Decode = ReceivedPredict;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for PredictCodec {
    type Item = PredictAnswer;
    type Error = Status;

    fn encode(&mut self, item: PredictAnswer, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let PredictAnswer { reply, inference } = item;
        let started = Instant::now();
        let outputs = reply.response.outputs.iter();
        let bytes = outputs
            .filter_map(|(_, tensor)| tensor.bytes())
            .map(Bytes::len)
            .sum();
        off_worker(bytes, || reply.encode(dst, |dst, len| dst.reserve(len)));
        let encoding = (started, Instant::now());
        let response = &reply.response;
        let (id, signature_name) = (&response.servable, &response.signature_name);
        inference.record_codec(id, signature_name, Direction::Encode, encoding);
        Ok(())
    }
}

impl Decoder for PredictCodec {
    type Item = ReceivedPredict;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<ReceivedPredict>, Status> {
        let started = Instant::now();
        let message = src.copy_to_bytes(src.remaining());
        let call = off_worker(message.len(), || PredictCall::decode(&message))
            .map_err(|error| to_status(&error))?;
        let decoding = (started, Instant::now());
        Ok(Some(ReceivedPredict { call, decoding }))
    }
}
