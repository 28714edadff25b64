//! Estimates how much memory decoding a request needs, before it is decoded. A few bytes of a body can
//! encode a string, an example or a key, each of which needs very much more, or a shape with any number of
//! values.
//!
//! The costs were measured: peak memory, including the answer, for bodies of 16 MB that contain nothing
//! else.
//!
//! Not here: limits (`net::limit`), decoding (the other modules).

use codec::proto_wire::{Fields, Value};
use codec::tensor_proto;
use codec::tensor_proto::STRING_BYTES;

/// Requests up to this size need little memory, unless a shape demands more.
const SMALL: usize = 1 << 10;

/// An entry of a map: its key, and a tensor or a feature.
const ENTRY: usize = 144;
/// A message that is not decoded until it is used, or a name.
const MESSAGE: usize = 64;

/// A JSON object that is an example.
const JSON_EXAMPLE: usize = 75;
/// A JSON object that is a row of a tensor.
const JSON_ROW: usize = 8;
/// A number in JSON, with its element in the answer.
const JSON_NUMBER: usize = 12;
/// A byte of JSON that is not ASCII: error messages show it as an escape.
const JSON_NOT_ASCII: usize = 8;

/// The memory that a JSON body of `:predict` needs in addition to itself.
pub fn of_json_predict(body: &[u8]) -> usize {
    let counts = JsonCounts::of(body);
    // A key is stored once, however many objects have it.
    let values = counts.quotes.saturating_sub(2 * counts.keys);
    counts.others() + values * (STRING_BYTES / 2) + counts.objects * JSON_ROW
}

/// The memory that a JSON body of `:classify` or `:regress` needs in addition to itself. Its strings become
/// parts of a message.
pub fn of_json_examples(body: &[u8]) -> usize {
    let counts = JsonCounts::of(body);
    counts.others() + counts.objects * JSON_EXAMPLE + counts.members * ENTRY
}

/// The numbers of certain bytes in a body.
#[derive(Default)]
struct JsonCounts {
    objects: usize,
    quotes: usize,
    /// Colons: each member of an object has one.
    members: usize,
    /// Colons that follow a quote. In a string the quote would be escaped, which counts as a quote as well.
    keys: usize,
    /// Commas, which separate elements.
    elements: usize,
    not_ascii: usize,
}

impl JsonCounts {
    fn of(body: &[u8]) -> Self {
        let mut counts = Self::default();
        if body.len() <= SMALL {
            return counts;
        }
        /// Counts of up to this many bytes fit into a byte, so the compiler can vectorise the counting.
        const PIECE: usize = 240;
        for (index, piece) in body.chunks(PIECE).enumerate() {
            let mut of_piece = [0u8; 6];
            let before = (index * PIECE).checked_sub(1).map_or(b' ', |it| body[it]);
            of_piece[3] += u8::from(before == b'"' && piece[0] == b':');
            for (&byte, &next) in piece.iter().zip(&piece[1..]) {
                of_piece[3] += u8::from(byte == b'"') & u8::from(next == b':');
            }
            for &byte in piece {
                of_piece[0] += u8::from(byte == b'{');
                of_piece[1] += u8::from(byte == b'"');
                of_piece[2] += u8::from(byte == b':');
                of_piece[4] += u8::from(byte == b',');
                of_piece[5] += u8::from(byte >= 0x80);
            }
            let [objects, quotes, members, keys, elements, not_ascii] = of_piece.map(usize::from);
            counts.objects += objects;
            counts.quotes += quotes;
            counts.members += members;
            counts.keys += keys;
            counts.elements += elements;
            counts.not_ascii += not_ascii;
        }
        counts
    }

    /// Numbers, and bytes that messages show as escapes.
    fn others(&self) -> usize {
        self.elements * JSON_NUMBER + self.not_ascii * JSON_NOT_ASCII
    }
}

/// The memory that a serialized `PredictRequest` needs in addition to itself.
pub fn of_predict(message: &[u8]) -> usize {
    const INPUTS: u32 = 2;
    let of_field = |(number, value): (u32, Value<'_>)| match (number, value) {
        (INPUTS, Value::Delimited(entry)) => ENTRY + sum(entry, &of_input),
        (_, Value::Delimited(_)) => MESSAGE,
        _ => 0,
    };
    sum(message, &of_field)
}

fn of_input((number, value): (u32, Value<'_>)) -> usize {
    match (number, value) {
        (2, Value::Delimited(tensor)) => tensor_proto::decoded_bytes(tensor),
        _ => 0,
    }
}

/// The memory that a serialized `ClassificationRequest`, `RegressionRequest` or `MultiInferenceRequest`
/// needs in addition to itself.
pub fn of_examples(message: &[u8]) -> usize {
    const INPUT: u32 = 2;
    if message.len() <= SMALL {
        return 0;
    }
    // Each example is a message of its own, and so is the context.
    let of_list = |(_, example): (u32, Value<'_>)| match example {
        Value::Delimited(example) => MESSAGE + sum(example, &of_example),
        _ => 0,
    };
    let of_kind = |(_, list): (u32, Value<'_>)| delimited(list, &of_list);
    let of_field = |(number, value): (u32, Value<'_>)| match (number, value) {
        (INPUT, input) => delimited(input, &of_kind),
        (_, Value::Delimited(_)) => 4 * MESSAGE,
        _ => 0,
    };
    sum(message, &of_field)
}

fn of_example((_, features): (u32, Value<'_>)) -> usize {
    const FEATURE: u32 = 2;
    const STRINGS: u32 = 1;
    const FLOATS: u32 = 2;
    let of_list = |value: (u32, Value<'_>)| match value.1 {
        Value::Delimited(_) => STRING_BYTES,
        _ => 0,
    };
    // Integers of one byte each.
    let of_feature = |(number, list): (u32, Value<'_>)| match (number, list) {
        (STRINGS, list) => delimited(list, &of_list),
        (FLOATS, _) => 0,
        (_, Value::Delimited(integers)) => integers.len() * size_of::<i64>(),
        _ => 0,
    };
    let of_entry = |(number, feature): (u32, Value<'_>)| match number {
        FEATURE => delimited(feature, &of_feature),
        _ => 0,
    };
    delimited(features, &|(_, entry)| delimited(entry, &of_entry))
}

/// The memory that any other message needs in addition to itself. Each field that could be a message is
/// counted as one.
pub fn of_message(message: &[u8]) -> usize {
    /// Beyond this depth, our messages have single fields.
    const MAX_DEPTH: usize = 5;
    fn of_fields(message: &[u8], depth: usize) -> usize {
        sum(message, &|(_, value)| match value {
            Value::Delimited(inner) if depth < MAX_DEPTH => ENTRY + of_fields(inner, depth + 1),
            _ => 8,
        })
    }
    if message.len() <= SMALL {
        return 0;
    }
    of_fields(message, 1)
}

type OfField<'a> = &'a dyn Fn((u32, Value<'_>)) -> usize;

/// The sum over all fields; for a truncated message, over those that can be decoded.
fn sum(message: &[u8], of_field: OfField<'_>) -> usize {
    let mut total = 0usize;
    let mut fields = Fields::new(message);
    while let Ok(Some(field)) = fields.next() {
        total = total.saturating_add(of_field(field));
    }
    total
}

fn delimited(value: Value<'_>, of_field: OfField<'_>) -> usize {
    match value {
        Value::Delimited(message) => sum(message, of_field),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 100_000;

    fn filled(unit: &[u8]) -> Vec<u8> {
        unit.iter().copied().cycle().take(LEN).collect()
    }

    /// A field of this number with this content.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2];
        codec::proto_wire::put_varint(&mut field, content.len() as u64);
        field.extend(content);
        field
    }

    /// The measured factor for each kind of content: peak memory over the size of the body.
    #[test]
    fn what_grows_in_json_counts_as_what_it_takes() {
        let check = |of: fn(&[u8]) -> usize, unit: &str, factor: usize| {
            let counted = of(&filled(unit.as_bytes())) / LEN;
            let allowed = factor..=factor * 3 / 2 + 2;
            assert!(allowed.contains(&counted), "{unit}: {counted}");
        };
        for (unit, factor) in [
            ("\"\",", 45),
            ("\u{fffd}", 8),
            ("1,", 5),
            ("{\"x\":1.0,\"y\":2.0},", 1),
            ("{\"b64\":\"\"},", 12),
            // Colons and escaped quotes in a string are not keys.
            ("\"\\\":\",", 12),
            ("0.12345678901234567,", 0),
            ("[", 0),
            ("word ", 0),
        ] {
            check(of_json_predict, unit, factor);
        }
        for (unit, factor) in [
            ("{},", 24),
            ("\"0000001\":1,", 11),
            ("\"\",", 2),
            ("\u{fffd}", 8),
        ] {
            check(of_json_examples, unit, factor);
        }
    }

    #[test]
    fn tensors_count_as_what_they_become() {
        let request = |tensor: &[u8]| field(2, &field(2, tensor));
        let shape = |size: &[u8]| field(2, &field(2, &[&[0x08], size].concat()));
        // 100,000 as a varint.
        let shape = shape(&[0xa0, 0x8d, 0x06]);
        let tensor = |dtype: u8, values: &[u8]| [&[0x08, dtype], &shape[..], values].concat();
        let counted = |dtype, values: &[u8]| of_predict(&request(&tensor(dtype, values))) - ENTRY;
        // Floats, one of which is repeated.
        assert_eq!(counted(1, &field(5, &[0, 0, 128, 63])), 400_000);
        // Integers of one byte each.
        assert_eq!(counted(9, &field(10, &filled(&[1]))), 800_000);
        assert_eq!(counted(7, &filled(&[0x42, 0])), LEN * STRING_BYTES);
        // An image is not copied, even if its bytes look like something else.
        assert_eq!(counted(4, &field(4, &filled(&[0x0a, 0]))), 0);
        // This is not decoded at all.
        let endless = field(2, &field(2, &[0x08, 255, 255, 255, 255, 255, 255, 127]));
        let tensor = [&[0x08, 1], &endless[..]].concat();
        assert_eq!(of_predict(&request(&tensor)), ENTRY);
    }

    #[test]
    fn examples_count_with_their_strings() {
        let request = |examples: &[u8]| field(2, &field(1, examples));
        assert_eq!(
            of_examples(&request(&filled(&[0x0a, 0]))),
            LEN / 2 * MESSAGE
        );
        let example = |kind, values: &[u8]| {
            let feature = field(2, &field(kind, values));
            of_examples(&request(&field(1, &field(1, &field(1, &feature))))) - MESSAGE
        };
        assert_eq!(example(1, &filled(&[0x0a, 0])), LEN / 2 * STRING_BYTES);
        assert_eq!(example(2, &field(1, &filled(&[0x0a, 0]))), 0);
        assert!(example(3, &field(1, &filled(&[1]))) >= 8 * LEN);
    }
}
