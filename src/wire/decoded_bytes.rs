//! How much memory it takes to decode a request, from above and before it is decoded: a few bytes of a body
//! may stand for a string, an example or a key, each of which takes very much more.
//!
//! What each costs was measured: peak memory for bodies of 16 MB that hold nothing else, the answer included.
//! Numbers in packed fields and in `tensor_content` take no more than they have in the message, and are not
//! counted again.
//!
//! Not here: bounds (`transport::limit`), decoding (the other modules).

use crate::proto_wire::{Fields, Value};

/// Requests up to this size take little, whatever they hold, and are not looked through.
const SMALL: usize = 1 << 10;

/// A JSON object is an example, with a table of its features.
const JSON_OBJECT: usize = 96;
/// Half a string: an element of a tensor here and one in ONNX Runtime, or a name.
const JSON_QUOTE: usize = 64;
/// A member of an object, whose key is a string, too.
const JSON_MEMBER: usize = 64;
/// An element of a list, which is a number at least.
const JSON_ELEMENT: usize = 12;
/// A byte that messages show as an escape.
const JSON_NOT_ASCII: usize = 8;

/// A string, or a message inside of another one.
const DELIMITED_FIELD: usize = 136;
/// A number that is not packed.
const NUMBER_FIELD: usize = 8;
/// Deeper than any message that we decode: a string of an example in a request has nine levels.
const MAX_DEPTH: usize = 10;

/// What a JSON body takes beyond itself.
pub fn of_json(body: &[u8]) -> usize {
    if body.len() <= SMALL {
        return 0;
    }
    /// Counts of up to so many fit in a byte, so that the compiler counts many at a time.
    const PIECE: usize = 240;
    let mut total = 0;
    for piece in body.chunks(PIECE) {
        let mut counts = [0u8; 5];
        for &byte in piece {
            counts[0] += u8::from(byte == b'{');
            counts[1] += u8::from(byte == b'"');
            counts[2] += u8::from(byte == b':');
            counts[3] += u8::from(byte == b',');
            counts[4] += u8::from(byte >= 0x80);
        }
        let [objects, quotes, members, elements, others] = counts.map(usize::from);
        total += objects * JSON_OBJECT + quotes * JSON_QUOTE + members * JSON_MEMBER;
        total += elements * JSON_ELEMENT + others * JSON_NOT_ASCII;
    }
    total
}

/// What a serialized protobuf message takes beyond itself, whatever message it is: what could be a message
/// in it is taken for one.
pub fn of_message(message: &[u8]) -> usize {
    if message.len() <= SMALL {
        return 0;
    }
    of_fields(message, 1)
}

/// Of a message that breaks off, what has been decoded by then.
fn of_fields(message: &[u8], depth: usize) -> usize {
    let mut total = 0;
    let mut fields = Fields::new(message);
    while let Ok(Some((_, value))) = fields.next() {
        total += match value {
            Value::Delimited(inner) if depth < MAX_DEPTH => {
                DELIMITED_FIELD + of_fields(inner, depth + 1)
            }
            Value::Delimited(_) => DELIMITED_FIELD,
            Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => NUMBER_FIELD,
        };
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 100_000;

    fn filled(unit: &[u8]) -> Vec<u8> {
        unit.iter().copied().cycle().take(LEN).collect()
    }

    /// Of each kind of content its factor as measured: peak memory over the size of the body.
    #[test]
    fn what_grows_in_json_counts_as_what_it_takes() {
        for (unit, factor) in [
            ("{},", 24),
            ("\"0000001\":1,", 11),
            ("\"\",", 45),
            ("\u{fffd}", 8),
            ("1,", 5),
            ("0.12345678901234567,", 0),
            ("[", 0),
            ("word ", 0),
        ] {
            let counted = of_json(&filled(unit.as_bytes())) / LEN;
            assert!(
                (factor..=factor * 3 / 2 + 2).contains(&counted),
                "{unit}: {counted}"
            );
        }
    }

    #[test]
    fn what_grows_in_messages_counts_as_what_it_takes() {
        // Field 1: an empty string, a number, a tensor's content.
        let mut content = vec![0x0a, 0xa0, 0x8d, 0x06];
        content.extend([0, 0, 0x80, 0x3f].repeat(25_000));
        for (message, bytes_per_byte) in [
            (filled(&[0x0a, 0]), DELIMITED_FIELD / 2),
            (filled(&[0x08, 1]), NUMBER_FIELD / 2),
            (content.clone(), 0),
            // Within others.
            ([&[0x0a, 0xa4, 0x8d, 0x06], &content[..]].concat(), 0),
            (
                [vec![0x0a, 0xa0, 0x8d, 0x06], filled(&[0x12, 0])].concat(),
                DELIMITED_FIELD / 2,
            ),
        ] {
            assert_eq!(of_message(&message) / message.len(), bytes_per_byte);
        }
    }
}
