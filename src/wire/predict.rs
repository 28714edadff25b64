//! `PredictRequest` and `PredictResponse`, straight between the socket's bytes and tensors.

use bytes::{BufMut, Bytes};

use super::tensor_proto::{self, Encoder, ExpansionBudget, Form};
use crate::error::{Result, ServingError};
use crate::id::{ModelSpec, VersionChoice};
use crate::inference::PredictResponse;
use crate::proto_wire::{
    Fields, Malformed, Value, delimited_len, put_delimited, put_varint_field, read_string,
    varint_len,
};
use crate::signature::{RequestInputs, RequestTensor};

/// A `PredictRequest` off the wire.
#[derive(Debug, Default)]
pub struct PredictCall {
    /// `None` where the message has no `model_spec`.
    spec: Option<(ModelSpec, String)>,
    /// By alias; of entries with the same alias the last counts.
    pub inputs: RequestInputs,
    /// Aliases of the wanted outputs.
    pub output_filter: Vec<String>,
}

impl PredictCall {
    /// Reads a serialized `PredictRequest`. Tensors share the message's memory.
    ///
    /// # Errors
    ///
    /// `INTERNAL`, as gRPC has it, for bytes that are no such message. A tensor that does not
    /// decode is kept as [`RequestTensor::Malformed`]: other errors come first.
    pub fn decode(message: &Bytes) -> Result<Self> {
        decode(message).map_err(|Malformed| {
            ServingError::internal("failed to decode the request: not a PredictRequest")
        })
    }

    /// Which model is asked, and the name of the signature (may be empty).
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` where there is no model spec.
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
            _ => {}
        }
    }
    Ok(call)
}

/// Merges a `ModelSpec` into what is known of it.
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

/// `google.protobuf.Int64Value`: absent means 0.
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
    check_wire(&tensor)?;
    let tensor = match tensor_proto::decode(&tensor, budget) {
        Some(tensor) => RequestTensor::Valid(tensor),
        None => RequestTensor::Malformed,
    };
    Ok((alias, tensor))
}

/// A tensor that is no protobuf message makes the whole request undecodable.
fn check_wire(message: &[u8]) -> Result<(), Malformed> {
    let mut fields = Fields::new(message);
    while fields.next()?.is_some() {}
    Ok(())
}

/// A `PredictResponse` about to go on the wire.
#[derive(Debug)]
pub struct PredictReply {
    /// What was computed.
    pub response: PredictResponse,
    /// `--enable_serialization_as_tensor_content`: values go to `tensor_content` instead of the
    /// typed fields.
    pub as_tensor_content: bool,
}

impl PredictReply {
    /// Writes the serialized `PredictResponse`, each value copied once. `reserve` is called with
    /// the length before the first byte.
    pub fn encode<B: BufMut>(&self, buf: &mut B, reserve: impl FnOnce(&mut B, usize)) {
        let form = if self.as_tensor_content {
            Form::TensorContent
        } else {
            Form::TypedField
        };
        let outputs: Vec<(&str, Encoder<'_>)> = self
            .response
            .outputs
            .iter()
            .map(|(alias, tensor)| (alias.as_str(), Encoder::new(tensor, form)))
            .collect();
        let entry_len = |(alias, tensor): &(&str, Encoder<'_>)| {
            delimited_len(1, alias.len()) + delimited_len(2, tensor.len())
        };
        let spec_len = self.spec_len();
        let outputs_len: usize = outputs
            .iter()
            .map(|output| delimited_len(1, entry_len(output)))
            .sum();
        reserve(buf, outputs_len + delimited_len(2, spec_len));

        for output in &outputs {
            put_delimited(buf, 1, entry_len(output));
            put_delimited(buf, 1, output.0.len());
            buf.put_slice(output.0.as_bytes());
            put_delimited(buf, 2, output.1.len());
            output.1.write(buf);
        }
        put_delimited(buf, 2, spec_len);
        self.write_spec(buf);
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

    /// `ModelSpec` with name, resolved version and the signature in effect.
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
