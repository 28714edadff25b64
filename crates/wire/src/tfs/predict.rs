//! `PredictRequest` and `PredictResponse`, converted directly between the socket's bytes and tensors.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::well_formed;
use base::error::{Result, ServingError};
use base::id::{ModelSpec, VersionChoice};
use base::request::{RequestInputs, RequestTensor};
use codec::proto_wire::{
    Fields, Malformed, Value, delimited_len, put_delimited, put_varint_field, read_string,
    read_varint, varint_len,
};
use codec::tensor_proto;
use codec::tensor_proto::{Encoder, ExpansionBudget, Form};
use proto::tensorflow::serving as pb;
use serving::inference::PredictResponse;

/// A `PredictRequest` from the wire.
#[derive(Debug, Default)]
pub struct PredictCall {
    /// `None` if the message has no `model_spec`.
    spec: Option<(ModelSpec, String)>,
    /// By alias; of several entries with the same alias the last counts.
    pub inputs: RequestInputs,
    /// Aliases of the requested outputs.
    pub output_filter: Vec<String>,
}

impl PredictCall {
    /// Reads a serialized `PredictRequest`. Tensors share the message's memory.
    ///
    /// # Errors
    ///
    /// `INTERNAL`, as in gRPC, for bytes that are not such a message. A tensor that does not decode is kept
    /// as [`RequestTensor::Malformed`], because other errors take precedence.
    pub fn decode(message: &Bytes) -> Result<Self> {
        decode(message).map_err(|Malformed| {
            ServingError::internal("failed to decode the request: not a PredictRequest")
        })
    }

    /// The model spec, and the name of the signature, which can be empty.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if the request has no model spec.
    pub fn spec(&self) -> Result<(&ModelSpec, &str)> {
        match &self.spec {
            Some((spec, signature_name)) => Ok((spec, signature_name)),
            None => Err(ServingError::invalid_argument("Missing ModelSpec")),
        }
    }
}

fn decode(message: &Bytes) -> Result<PredictCall, Malformed> {
    const MODEL_SPEC: u32 = 1;
    const INPUTS: u32 = 2;
    const OUTPUT_FILTER: u32 = 3;
    const STREAMED_OPTIONS: u32 = 5;
    const REQUEST_OPTIONS: u32 = 7;
    let mut call = PredictCall::default();
    let mut budget = ExpansionBudget::default();
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        let Value::Delimited(value) = value else {
            continue;
        };
        match number {
            MODEL_SPEC => read_spec(
                value,
                call.spec.get_or_insert_with(|| {
                    (
                        ModelSpec {
                            name: String::new(),
                            version: None,
                        },
                        String::new(),
                    )
                }),
            )?,
            INPUTS => {
                let (alias, tensor) = read_input(message, value, &mut budget)?;
                call.inputs.insert(alias, tensor);
            }
            OUTPUT_FILTER => call.output_filter.push(read_string(value)?),
            STREAMED_OPTIONS => read::<pb::PredictStreamedOptions>(value)?,
            REQUEST_OPTIONS => read::<pb::predict_request::RequestOptions>(value)?,
            _ => {}
        }
    }
    Ok(call)
}

/// Checks that a message is well-formed.
fn read<M: Message + Default>(message: &[u8]) -> Result<(), Malformed> {
    M::decode(message).map(drop).map_err(|_| Malformed)
}

/// Merges a `ModelSpec` into the previous one.
fn read_spec(
    message: &[u8],
    (spec, signature_name): &mut (ModelSpec, String),
) -> Result<(), Malformed> {
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        let Value::Delimited(value) = value else {
            continue;
        };
        match number {
            1 => spec.name = read_string(value)?,
            2 => spec.version = Some(VersionChoice::Version(read_int64_value(value)?)),
            3 => *signature_name = read_string(value)?,
            4 => spec.version = Some(VersionChoice::Label(read_string(value)?)),
            _ => {}
        }
    }
    Ok(())
}

/// `google.protobuf.Int64Value`: an absent value means 0.
fn read_int64_value(message: &[u8]) -> Result<i64, Malformed> {
    let mut result = 0;
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        if let (1, Value::Varint(value)) = (number, value) {
            result = value as i64;
        }
    }
    Ok(result)
}

/// One entry of the map `inputs`.
fn read_input(
    message: &Bytes,
    entry: &[u8],
    budget: &mut ExpansionBudget,
) -> Result<(String, RequestTensor), Malformed> {
    let mut alias = String::new();
    let mut tensor = Bytes::new();
    let mut fields = Fields::new(entry);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Delimited(value)) => alias = read_string(value)?,
            (2, Value::Delimited(value)) => tensor = message.slice_ref(value),
            _ => {}
        }
    }
    let (decoded, read) = match tensor_proto::decode_and_check(&tensor, budget) {
        Some((tensor, read)) => (RequestTensor::Valid(tensor), read),
        None => match tensor_proto::decode_unserved(&tensor) {
            Some((dtype, shape)) => (RequestTensor::Unserved(dtype, shape), None),
            None => (RequestTensor::Malformed, None),
        },
    };
    // A malformed tensor makes the whole request undecodable.
    well_formed::check(&tensor, &well_formed::TENSOR, read)?;
    Ok((alias, decoded))
}

/// A `PredictResponse` that is about to be sent.
#[derive(Debug)]
pub struct PredictReply {
    /// The result of the inference.
    pub response: PredictResponse,
    /// `--enable_serialization_as_tensor_content`: values are written to `tensor_content` instead of the
    /// typed fields.
    pub as_tensor_content: bool,
}

/// Values of at least this size are not copied into the message.
const SHARED_BYTES: usize = 32 << 10;

impl PredictReply {
    /// Writes the serialized `PredictResponse`, copying each value once. `reserve` is called with the
    /// length before the first byte.
    pub fn encode<B: BufMut>(&self, buf: &mut B, reserve: impl FnOnce(&mut B, usize)) {
        let encoder = ReplyEncoder::new(self);
        reserve(buf, encoder.len);
        encoder.write(buf, |buf, values| buf.put_slice(values));
    }

    /// The serialized `PredictResponse` in pieces; large values are separate pieces, which share the
    /// tensors' memory. The first piece begins with the `prefix` for the length, if there is one.
    pub fn encode_in_pieces<const N: usize>(
        &self,
        prefix: impl FnOnce(usize) -> Option<[u8; N]>,
    ) -> Option<VecDeque<Bytes>> {
        let encoder = ReplyEncoder::new(self);
        let prefix = prefix(encoder.len)?;
        let values = encoder.outputs.iter().filter_map(|it| it.1.plain_values());
        let shared: usize = values.filter(is_shared).map(Bytes::len).sum();
        let mut buf = BytesMut::with_capacity(N + encoder.len - shared);
        let mut pieces = VecDeque::new();
        buf.put_slice(&prefix);
        encoder.write(&mut buf, |buf, values| {
            if is_shared(&values) {
                pieces.extend([buf.split().freeze(), values.clone()]);
            } else {
                buf.put_slice(values);
            }
        });
        pieces.push_back(buf.freeze());
        Some(pieces)
    }

    fn version_len(&self) -> usize {
        match self.response.servable.version {
            0 => 0,
            version => 1 + varint_len(version as u64),
        }
    }

    fn spec_len(&self) -> usize {
        delimited_len(1, self.response.servable.name.len())
            + delimited_len(2, self.version_len())
            + delimited_len(3, self.response.signature_name.len())
    }

    /// Writes a `ModelSpec` with the name, the resolved version and the signature in effect.
    fn write_spec(&self, buf: &mut impl BufMut) {
        let servable = &self.response.servable;
        put_delimited(buf, 1, servable.name.len());
        buf.put_slice(servable.name.as_bytes());
        put_delimited(buf, 2, self.version_len());
        if servable.version != 0 {
            put_varint_field(buf, 1, servable.version as u64);
        }
        put_delimited(buf, 3, self.response.signature_name.len());
        buf.put_slice(self.response.signature_name.as_bytes());
    }
}

fn is_shared(values: &&Bytes) -> bool {
    values.len() >= SHARED_BYTES
}

/// A reply with all sizes computed before the first byte is written.
struct ReplyEncoder<'a> {
    reply: &'a PredictReply,
    outputs: Vec<(&'a str, Encoder<'a>)>,
    spec_len: usize,
    /// The length of the whole message.
    len: usize,
}

impl<'a> ReplyEncoder<'a> {
    fn new(reply: &'a PredictReply) -> Self {
        let form = if reply.as_tensor_content {
            Form::TensorContent
        } else {
            Form::TypedField
        };
        let outputs = reply.response.outputs.iter();
        let outputs: Vec<(&str, Encoder<'_>)> = outputs
            .map(|(alias, tensor)| (alias.as_str(), Encoder::new(tensor, form)))
            .collect();
        let outputs_len: usize = outputs
            .iter()
            .map(|output| delimited_len(1, entry_len(output)))
            .sum();
        let spec_len = reply.spec_len();
        Self {
            reply,
            len: outputs_len + delimited_len(2, spec_len),
            outputs,
            spec_len,
        }
    }

    /// Writes the message; `put_values` writes the values of tensors that need no conversion.
    fn write<B: BufMut>(&self, buf: &mut B, mut put_values: impl FnMut(&mut B, &'a Bytes)) {
        for output in &self.outputs {
            put_delimited(buf, 1, entry_len(output));
            put_delimited(buf, 1, output.0.len());
            buf.put_slice(output.0.as_bytes());
            put_delimited(buf, 2, output.1.encoded_len());
            output.1.write_head(buf);
            if let Some(values) = output.1.plain_values() {
                put_values(buf, values);
            }
        }
        put_delimited(buf, 2, self.spec_len);
        self.reply.write_spec(buf);
    }
}

/// The length of an entry of the map `outputs`.
fn entry_len((alias, tensor): &(&str, Encoder<'_>)) -> usize {
    delimited_len(1, alias.len()) + delimited_len(2, tensor.encoded_len())
}

/// Finds the first values in a serialized `PredictRequest` that extend beyond its beginning, `head`. Returns
/// their offset; `None` if it cannot be determined.
pub fn first_values(head: &[u8]) -> Option<usize> {
    // The nested fields: of the request, of an entry of `inputs`, and of the tensor.
    let mut rest = head;
    for _ in 0..3 {
        rest = reaching_beyond(rest)?;
    }
    Some(head.len() - rest.len())
}

/// The available part of the first incomplete field.
fn reaching_beyond(mut message: &[u8]) -> Option<&[u8]> {
    loop {
        let mut rest = message;
        let tag = read_varint(&mut rest).ok()?;
        if tag & 7 == 2 {
            let len = read_varint(&mut rest).ok()?;
            if len > rest.len() as u64 {
                return Some(rest);
            }
        }
        let mut fields = Fields::new(message);
        fields.next().ok()??;
        message = fields.rest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::id::ServableId;
    use base::tensor::{DataType, Tensor};
    use proto::tensorflow::TensorProto;

    fn reply(as_tensor_content: bool) -> PredictReply {
        let large = (0..20_000_i16).map(f32::from).collect();
        let outputs = [
            ("ints", Tensor::from_vec(&[20_000], vec![-1_i64; 20_000])),
            ("large", Tensor::from_vec(&[100, 200], large)),
            ("none", Tensor::from_vec(&[0], Vec::<f32>::new())),
            ("small", Tensor::from_vec(&[2], vec![1.0_f32, 2.0])),
        ];
        let outputs = outputs.map(|(alias, tensor)| (alias.to_owned(), tensor.unwrap()));
        PredictReply {
            response: PredictResponse {
                servable: ServableId::new("m", 3),
                signature_name: "s".to_owned(),
                outputs: outputs.to_vec(),
            },
            as_tensor_content,
        }
    }

    #[test]
    fn pieces_are_the_message_and_share_what_is_large() {
        for as_tensor_content in [false, true] {
            let reply = reply(as_tensor_content);
            let mut whole = Vec::new();
            reply.encode(&mut whole, Vec::reserve);
            let pieces = reply.encode_in_pieces(|len| {
                assert_eq!(len, whole.len());
                Some(*b"front")
            });
            let pieces: Vec<Bytes> = pieces.unwrap().into();
            assert_eq!(pieces.concat(), [b"front", &whole[..]].concat());
            let large = reply.response.outputs[1].1.bytes().unwrap();
            assert!(pieces.iter().any(|it| it.as_ptr() == large.as_ptr()));
            pb::PredictResponse::decode(&whole[..]).unwrap();
        }
        assert!(reply(false).encode_in_pieces(|_| None::<[u8; 5]>).is_none());
    }

    fn request(content: Vec<u8>) -> Vec<u8> {
        let tensor = |content: Vec<u8>| TensorProto {
            dtype: DataType::UInt8.number(),
            tensor_content: content.into(),
            ..TensorProto::default()
        };
        let request = pb::PredictRequest {
            model_spec: Some(pb::ModelSpec {
                name: "m".to_owned(),
                ..pb::ModelSpec::default()
            }),
            inputs: [("a", vec![1, 2]), ("b", content)]
                .map(|(alias, content)| (alias.to_owned(), tensor(content)))
                .into(),
            output_filter: vec!["y".to_owned()],
            ..pb::PredictRequest::default()
        };
        request.encode_to_vec()
    }

    #[test]
    fn values_that_reach_beyond_the_head_are_found() {
        let message = request(vec![9; 1000]);
        let values = message.iter().position(|&byte| byte == 9).unwrap();
        for head in values..values + 1000 {
            assert_eq!(first_values(&message[..head]), Some(values), "{head}");
        }
        // Either no more than the model spec is available, or everything.
        for head in (0..=5).chain([message.len()]) {
            assert_eq!(first_values(&message[..head]), None, "{head}");
        }
        for odd in [
            &b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..],
            b"\x0f",
            b"\x00",
        ] {
            assert_eq!(first_values(odd), None, "{odd:?}");
        }
    }
}
