//! `PredictionService.Predict`: converts directly between the socket's bytes and tensors, and does not copy
//! large values in either direction.
//!
//! Not here: receiving the message (`message`), the other calls (`prediction_service`).

use std::time::Instant;

use bytes::Bytes;

use super::message;
use super::prediction_service::PredictionHandlers;
use super::reply::{Pieces, too_large};
use crate::access::{AnsweredBy, CallContext};
use base::error::Result;
use net::blocking::off_worker;
use serving::inference::{InferenceService, PredictRequest};
use serving::monitoring::Direction;
use wire::tfs::predict::{PredictCall, PredictReply};

/// The start and the end of decoding or encoding.
type Span = (Instant, Instant);

impl PredictionHandlers {
    /// Answers a call with the encoded response.
    pub(super) async fn predict(
        &self,
        context: &mut CallContext,
        message: Bytes,
    ) -> Result<Pieces> {
        let started = Instant::now();
        let call = off_worker(message.len(), || PredictCall::decode(&message))?;
        drop(message);
        let decoding = (started, Instant::now());
        let model = call.spec().map_or("", |(spec, _)| spec.name.as_str());
        context.authorize([model])?;
        context.begin(model);
        let outcome = self.run_predict(context, call, decoding).await;
        context.end(outcome.as_ref().map(|it| {
            let response = &it.response;
            AnsweredBy {
                servable: &response.servable,
                signature: Some(&response.signature_name),
            }
        }));
        encode(&outcome?, self.inference())
    }

    async fn run_predict(
        &self,
        context: &mut CallContext,
        call: PredictCall,
        decoding: Span,
    ) -> Result<PredictReply> {
        let _turn = self.turn(context).await?;
        let (spec, signature_name) = call.spec()?;
        let servable = self.inference().resolve(spec)?;
        context.reached(&servable, Some(signature_name));
        let request = PredictRequest {
            signature_name: signature_name.to_owned(),
            inputs: call.inputs,
            output_filter: call.output_filter,
            deadline: context.deadline,
        };
        let response = self.inference().predict(&servable, request).await?;
        let (id, signature_name) = (&response.servable, &response.signature_name);
        self.inference()
            .record_codec(id, signature_name, Direction::Decode, decoding);
        Ok(PredictReply {
            response,
            as_tensor_content: self.serializes_as_tensor_content(),
        })
    }
}

fn encode(reply: &PredictReply, inference: &InferenceService) -> Result<Pieces> {
    let started = Instant::now();
    let response = &reply.response;
    let outputs = response.outputs.iter();
    let bytes = outputs
        .filter_map(|(_, tensor)| tensor.bytes())
        .map(Bytes::len)
        .sum();
    let pieces = off_worker(bytes, || reply.encode_in_pieces(message::prefix));
    let encoding = (started, Instant::now());
    let (id, signature_name) = (&response.servable, &response.signature_name);
    inference.record_codec(id, signature_name, Direction::Encode, encoding);
    pieces.ok_or_else(too_large)
}
