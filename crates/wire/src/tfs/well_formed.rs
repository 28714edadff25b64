//! Checks bytes that are never decoded as a whole: they have to be well-formed messages of their type. gRPC
//! refuses a request with a malformed message anywhere inside, before a handler sees it.
//!
//! Not here: the meaning of the messages (`tensor_proto`, `codec::example`).

use codec::proto_wire::{Fields, Malformed, Value, read_varint};

/// The default of `CodedInputStream::SetRecursionLimit` in C++.
const MAX_DEPTH: usize = 100;

/// The content of a field with a length.
#[derive(Clone, Copy)]
enum FieldForm {
    /// Unchecked: an unknown field, one of another wire type, or bytes.
    Any,
    Text,
    /// Packed numbers of 4 bytes.
    Fixed32,
    /// Packed numbers of 8 bytes.
    Fixed64,
    /// Packed numbers of variable length.
    Varints,
    Message(&'static Schema),
}

/// The fields of a message type, by number.
pub(crate) struct Schema(&'static [FieldForm]);

use FieldForm::{Any, Fixed32, Fixed64, Message, Text, Varints};

static DIM: Schema = Schema(&[Any, Any, Text]);
static SHAPE: Schema = Schema(&[Any, Any, Message(&DIM), Any]);
static DTYPE_AND_SHAPE: Schema = Schema(&[Any, Any, Message(&SHAPE)]);
static RESOURCE_HANDLE: Schema =
    Schema(&[Any, Text, Text, Text, Any, Text, Message(&DTYPE_AND_SHAPE)]);
static VARIANT: Schema = Schema(&[Any, Text, Any, Message(&TENSOR)]);
/// `tensorflow.TensorProto`.
pub(crate) static TENSOR: Schema = Schema(&[
    Any,
    Any,
    Message(&SHAPE),
    Any,
    Any,
    Fixed32,
    Fixed64,
    Varints,
    Any,
    Fixed32,
    Varints,
    Varints,
    Fixed64,
    Varints,
    Message(&RESOURCE_HANDLE),
    Message(&VARIANT),
    Varints,
    Varints,
]);

static BYTES_LIST: Schema = Schema(&[]);
static FLOAT_LIST: Schema = Schema(&[Any, Fixed32]);
static INT64_LIST: Schema = Schema(&[Any, Varints]);
static FEATURE: Schema = Schema(&[
    Any,
    Message(&BYTES_LIST),
    Message(&FLOAT_LIST),
    Message(&INT64_LIST),
]);
static FEATURE_ENTRY: Schema = Schema(&[Any, Text, Message(&FEATURE)]);
static FEATURES: Schema = Schema(&[Any, Message(&FEATURE_ENTRY)]);
/// `tensorflow.Example`.
pub(crate) static EXAMPLE: Schema = Schema(&[Any, Message(&FEATURES)]);

/// Checks that `message` is well-formed. The packed numbers of the field `checked` are skipped, because
/// they have been read already.
pub(crate) fn check(
    message: &[u8],
    schema: &Schema,
    checked: Option<u32>,
) -> Result<(), Malformed> {
    check_at(message, schema, checked, 1)
}

fn check_at(
    message: &[u8],
    schema: &Schema,
    checked: Option<u32>,
    depth: usize,
) -> Result<(), Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed);
    }
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        let Value::Delimited(value) = value else {
            continue;
        };
        let kind = schema.0.get(number as usize).copied().unwrap_or(Any);
        let is_well_formed = match kind {
            Any => true,
            Text => std::str::from_utf8(value).is_ok(),
            Fixed32 => value.len().is_multiple_of(4),
            Fixed64 => value.len().is_multiple_of(8),
            Varints => checked == Some(number) || are_varints(value),
            Message(schema) => {
                check_at(value, schema, None, depth + 1)?;
                true
            }
        };
        if !is_well_formed {
            return Err(Malformed);
        }
    }
    Ok(())
}

fn are_varints(mut packed: &[u8]) -> bool {
    while !packed.is_empty() {
        if read_varint(&mut packed).is_err() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use proto::tensorflow::{Example, TensorProto};

    /// A length-delimited field.
    fn delimited(number: u8, content: &[u8]) -> Vec<u8> {
        let head = [number << 3 | 2, u8::try_from(content.len()).unwrap()];
        [&head, content].concat()
    }

    // The generated code reads every field, and refuses the same messages as C++.
    #[test]
    fn tensors_are_checked_as_generated_code_does() {
        for number in 1..=18 {
            for content in [
                &b""[..],
                b"\x20\x01",
                b"\x0a\x01a",
                b"\x80",
                b"\xff\xff\xff",
                b"12345678",
            ] {
                let message = delimited(number, content);
                let expected = TensorProto::decode(&message[..]).is_ok();
                // C++ treats a number in place of a length-delimited value as an unknown field.
                let is_number = matches!(number, 1 | 3);
                let checked = check(&message, &TENSOR, None).is_ok();
                assert_eq!(checked, expected || is_number, "{number} {content:?}");
            }
        }
    }

    #[test]
    fn examples_are_checked_down_to_their_lists() {
        let entry = |feature: &[u8]| {
            let entry = [delimited(1, b"x"), delimited(2, feature)].concat();
            delimited(1, &delimited(1, &entry))
        };
        for (message, is_example) in [
            (entry(b""), true),
            (entry(&delimited(2, &delimited(1, &[0; 4]))), true),
            (entry(&delimited(2, &delimited(1, &[0; 5]))), false),
            (entry(&delimited(3, &delimited(1, b"\x80\x01"))), true),
            (entry(&delimited(3, &delimited(1, b"\x80"))), false),
            (entry(b"\x0a\x05a"), false),
            (delimited(1, &delimited(1, &delimited(1, b"\xff"))), false),
            (delimited(9, b"\xff"), true),
        ] {
            assert_eq!(
                check(&message, &EXAMPLE, None).is_ok(),
                is_example,
                "{message:?}"
            );
            assert_eq!(
                Example::decode(&message[..]).is_ok(),
                is_example,
                "{message:?}"
            );
        }
    }

    #[test]
    fn depth_is_bounded() {
        let mut tensor = Vec::new();
        for _ in 0..30 {
            tensor = delimited(15, &delimited(3, &tensor));
        }
        assert_eq!(check(&tensor, &TENSOR, None), Ok(()));
        let varint = |length: usize| [length as u8 & 0x7f | 0x80, (length >> 7) as u8];
        for _ in 0..30 {
            let tensors = [&[3 << 3 | 2], &varint(tensor.len())[..], &tensor].concat();
            tensor = [&[15 << 3 | 2], &varint(tensors.len())[..], &tensors].concat();
        }
        assert_eq!(check(&tensor, &TENSOR, None), Err(Malformed));
    }
}
