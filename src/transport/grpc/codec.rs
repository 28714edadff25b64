//! tonic's view of [`wire::predict`](crate::wire::predict): no generated message in between.

use bytes::{Buf, Bytes};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::status::to_status;
use crate::transport::blocking::off_worker;
use crate::wire::predict::{PredictCall, PredictReply};

/// The codec of `PredictionService.Predict`.
#[derive(Debug, Default)]
pub struct PredictCodec;

impl Codec for PredictCodec {
    type Encode = PredictReply;
    type Decode = PredictCall;
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
    type Item = PredictReply;
    type Error = Status;

    fn encode(&mut self, item: PredictReply, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let outputs = item.response.outputs.iter();
        let bytes = outputs
            .filter_map(|(_, tensor)| tensor.bytes())
            .map(Bytes::len)
            .sum();
        off_worker(bytes, || item.encode(dst, |dst, len| dst.reserve(len)));
        Ok(())
    }
}

impl Decoder for PredictCodec {
    type Item = PredictCall;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<PredictCall>, Status> {
        let message = src.copy_to_bytes(src.remaining());
        off_worker(message.len(), || PredictCall::decode(&message))
            .map(Some)
            .map_err(|error| to_status(&error))
    }
}
