//! Converts `:classify` and `:regress` bodies to serialized `tensorflow.Example` messages
//! (`FillClassifyRegressRequestFromJson`, `json_tensor.cc`).
//!
//! Each example is written directly as protobuf, its features in order of appearance, without creating the
//! message first.

use std::collections::HashMap;

use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::column::undecodable;
use super::document::{Document, c_string, text};
use base::error::{Result, ServingError};
use codec::json::base64;
use codec::json::cursor::{Cursor, JsonKind};
use codec::json::number::Number;
use proto::tensorflow::serving::internal::serialized_input::Kind as InputKind;
use proto::tensorflow::serving::internal::{
    SerializedExampleList, SerializedExampleListWithContext, SerializedInput,
};

/// A decoded `:classify` or `:regress` body.
#[derive(Clone, Debug, PartialEq)]
pub struct ExamplesBody {
    /// As sent; empty if the client sent none.
    pub signature_name: String,
    /// With a context if the body has one.
    pub input: SerializedInput,
}

/// Decodes the body of a `:classify` or `:regress` request.
///
/// # Errors
///
/// `INVALID_ARGUMENT` for text that is not JSON, a top level that is not an object, a `signature_name` that
/// is not a string, missing examples, and features that mix types or have an unsupported one.
pub fn decode_examples(body: &[u8]) -> Result<ExamplesBody> {
    let document = Document::parse(body)?;
    let [name, context, examples] = document.members(["signature_name", "context", "examples"]);
    let signature_name = document.signature_name(name)?;
    let context = context.map(example).transpose()?;
    let examples = examples.ok_or_else(|| {
        document.error("When method is classify, key 'examples' is expected and was not found")
    })?;
    if examples.kind() != JsonKind::Array {
        return Err(document.error("Expecting 'examples' value to be an list/array"));
    }
    if examples.elements().next().is_none() {
        return Err(document.error("'examples' value is an empty array"));
    }
    let examples = examples.elements().map(example).collect::<Result<_>>()?;
    let kind = match context {
        None => InputKind::ExampleList(SerializedExampleList { examples }),
        Some(context) => InputKind::ExampleListWithContext(SerializedExampleListWithContext {
            examples,
            context,
        }),
    };
    Ok(ExamplesBody {
        signature_name,
        input: SerializedInput { kind: Some(kind) },
    })
}

/// One object as a serialized `tensorflow.Example`.
fn example(object: Cursor<'_>) -> Result<Bytes> {
    if object.kind() != JsonKind::Object {
        return Err(ServingError::invalid_argument(format!(
            "Example must be JSON object but got JSON {}",
            object.kind().name()
        )));
    }
    let mut features: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut index_by_name: HashMap<Vec<u8>, usize> = HashMap::new();
    for (key, value) in object.members() {
        let name = c_string(&key).to_vec();
        let bytes = feature(value, &name)?;
        // If several features have the same name, the last one counts.
        if let Some(&index) = index_by_name.get(&name) {
            features[index].1 = bytes;
        } else {
            index_by_name.insert(name.clone(), features.len());
            features.push((name, bytes));
        }
    }

    let mut map = Vec::new();
    for (name, feature) in features {
        let mut entry = Vec::with_capacity(name.len() + feature.len() + 8);
        length_delimited(1, &name, &mut entry);
        length_delimited(2, &feature, &mut entry);
        length_delimited(1, &entry, &mut map);
    }
    let mut example = Vec::with_capacity(map.len() + 8);
    if !map.is_empty() {
        length_delimited(1, &map, &mut example);
    }
    Ok(Bytes::from(example))
}

/// A single value, or a list of values, as a serialized `tensorflow.Feature`.
fn feature(value: Cursor<'_>, name: &[u8]) -> Result<Vec<u8>> {
    let mut values = Values::None;
    if value.kind() == JsonKind::Array {
        for element in value.elements() {
            values.push(element, name)?;
        }
    } else {
        values.push(value, name)?;
    }
    Ok(values.into_feature())
}

/// The values of a feature, as far as possible in their serialized form. The first value determines the
/// type.
enum Values {
    None,
    /// A whole `BytesList`.
    Bytes(Vec<u8>),
    /// Packed.
    Floats(Vec<u8>),
    /// Packed.
    Int64s(Vec<u8>),
}

impl Values {
    /// Appends one value (`AddValueToFeature`).
    fn push(&mut self, value: Cursor<'_>, name: &[u8]) -> Result<()> {
        match value.kind() {
            JsonKind::True => encode_varint(1, self.int64s(name)?),
            JsonKind::False => encode_varint(0, self.int64s(name)?),
            JsonKind::String => length_delimited(1, &value.string(), self.byte_strings(name)?),
            JsonKind::Object => {
                let Some(base64_text) = value.base64_text() else {
                    return Err(unexpected_type(value.kind(), name));
                };
                let list = self.byte_strings(name)?;
                let mut bytes = Vec::new();
                base64::decode(&base64_text, &mut bytes).ok_or_else(undecodable)?;
                length_delimited(1, &bytes, list);
            }
            JsonKind::Number => self.push_number(value.number(), name)?,
            JsonKind::Null | JsonKind::Array => return Err(unexpected_type(value.kind(), name)),
        }
        Ok(())
    }

    fn push_number(&mut self, number: Number, name: &[u8]) -> Result<()> {
        match number {
            Number::Double(value) => {
                let floats = self.floats(name)?;
                floats.extend_from_slice(&(value as f32).to_le_bytes());
            }
            Number::Negative(value) => encode_varint(value as u64, self.int64s(name)?),
            Number::Unsigned(value) => {
                let int64s = self.int64s(name)?;
                if i64::try_from(value).is_err() {
                    return Err(ServingError::invalid_argument(format!(
                        "Feature: {} has uint64_t element. Only int64_t is supported.",
                        text(name)
                    )));
                }
                encode_varint(value, int64s);
            }
        }
        Ok(())
    }

    fn byte_strings(&mut self, name: &[u8]) -> Result<&mut Vec<u8>> {
        if let Self::None = self {
            *self = Self::Bytes(Vec::new());
        }
        match self {
            Self::Bytes(list) => Ok(list),
            other => Err(other.mixed(name)),
        }
    }

    fn floats(&mut self, name: &[u8]) -> Result<&mut Vec<u8>> {
        if let Self::None = self {
            *self = Self::Floats(Vec::new());
        }
        match self {
            Self::Floats(packed) => Ok(packed),
            other => Err(other.mixed(name)),
        }
    }

    fn int64s(&mut self, name: &[u8]) -> Result<&mut Vec<u8>> {
        if let Self::None = self {
            *self = Self::Int64s(Vec::new());
        }
        match self {
            Self::Int64s(packed) => Ok(packed),
            other => Err(other.mixed(name)),
        }
    }

    /// The error for a value of a different type than those before it.
    fn mixed(&self, name: &[u8]) -> ServingError {
        let expected = match self {
            Self::None => "UNKNOWN",
            Self::Bytes(_) => "bytes",
            Self::Floats(_) => "float",
            Self::Int64s(_) => "int64",
        };
        ServingError::invalid_argument(format!(
            "Unexpected element type in feature: {} expecting type: {expected}",
            text(name)
        ))
    }

    fn into_feature(self) -> Vec<u8> {
        // The field number in `Feature.kind`, then `value` of the list.
        let (field, list) = match self {
            Self::None => return Vec::new(),
            Self::Bytes(list) => (1, list),
            Self::Floats(packed) => (2, packed_list(&packed)),
            Self::Int64s(packed) => (3, packed_list(&packed)),
        };
        let mut feature = Vec::with_capacity(list.len() + 8);
        length_delimited(field, &list, &mut feature);
        feature
    }
}

fn packed_list(packed: &[u8]) -> Vec<u8> {
    let mut list = Vec::with_capacity(packed.len() + 8);
    length_delimited(1, packed, &mut list);
    list
}

fn length_delimited(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn unexpected_type(kind: JsonKind, name: &[u8]) -> ServingError {
    ServingError::invalid_argument(format!(
        "Feature: {} has element with unexpected JSON type: {}",
        text(name),
        kind.name()
    ))
}
