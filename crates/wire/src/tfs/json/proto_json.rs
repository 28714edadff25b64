//! Prints messages like protobuf's own JSON printer (one space per level, field names as in the `.proto`
//! file, fields without presence always printed).
//!
//! Works on descriptors, for the documents that TensorFlow Serving passes to that printer. Of the types
//! with a JSON form of their own only the wrappers (`google.protobuf.Int64Value`) occur.
//!
//! `prost_reflect`'s own serializer is not enough: it writes map entries in another order each time, whole
//! floats with `.0`, and does not escape markup.

use std::collections::HashMap;

use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage, Value,
};

use codec::json::base64;

/// The indentation of list elements and fields.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    depth: usize,
}

impl Layout {
    pub(super) fn new(depth: usize) -> Self {
        Self { depth }
    }

    fn deeper(self) -> Self {
        Self::new(self.depth + 1)
    }

    /// Begins the line of element number `index`.
    pub(super) fn separate(self, index: usize, out: &mut Vec<u8>) {
        if index > 0 {
            out.push(b',');
        }
        self.new_line(out);
    }

    fn new_line(self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.resize(out.len() + self.depth, b' ');
    }

    /// Writes `open`, the items one per line, and `close`.
    fn write_all<T>(
        self,
        brackets: [u8; 2],
        items: impl IntoIterator<Item = T>,
        out: &mut Vec<u8>,
        mut write: impl FnMut(T, Self, &mut Vec<u8>),
    ) {
        let inside = self.deeper();
        out.push(brackets[0]);
        let mut any = false;
        for (index, item) in items.into_iter().enumerate() {
            inside.separate(index, out);
            write(item, inside, out);
            any = true;
        }
        if any {
            self.new_line(out);
        }
        out.push(brackets[1]);
    }
}

/// Appends a message, inside `layout`. Recurses as deep as the message, which its decoder limits.
pub(super) fn write_message(message: &DynamicMessage, layout: Layout, out: &mut Vec<u8>) {
    let descriptor = message.descriptor();
    if let Some(wrapped) = wrapped_field(&descriptor) {
        return write_value(&message.get_field(&wrapped), &wrapped.kind(), layout, out);
    }
    let mut fields: Vec<FieldDescriptor> = descriptor.fields().collect();
    fields.retain(|field| !field.supports_presence() || message.has_field(field));
    fields.sort_by_key(FieldDescriptor::number);
    layout.write_all([b'{', b'}'], fields, out, |field, inside, out| {
        write_string(field.name(), out);
        out.extend_from_slice(b": ");
        write_value(&message.get_field(&field), &field.kind(), inside, out);
    });
}

/// The only field of a wrapper message, which represents an optional scalar.
fn wrapped_field(descriptor: &MessageDescriptor) -> Option<FieldDescriptor> {
    let name = descriptor.full_name().strip_prefix("google.protobuf.")?;
    let wrapper = name.ends_with("Value") && name != "ListValue" && name != "Value";
    wrapper.then(|| descriptor.get_field_by_name("value"))?
}

fn write_value(value: &Value, kind: &Kind, layout: Layout, out: &mut Vec<u8>) {
    match value {
        Value::Message(message) => write_message(message, layout, out),
        Value::List(list) => {
            layout.write_all([b'[', b']'], list, out, |element, inside, out| {
                write_value(element, kind, inside, out);
            });
        }
        Value::Map(map) => write_map(map, kind, layout, out),
        Value::String(text) => write_string(text, out),
        Value::Bytes(bytes) => {
            out.push(b'"');
            base64::encode(bytes, out);
            out.push(b'"');
        }
        Value::EnumNumber(number) => write_enum(*number, kind, out),
        Value::Bool(value) => text(value.to_string(), out),
        Value::I32(value) => text(value.to_string(), out),
        Value::U32(value) => text(value.to_string(), out),
        Value::I64(value) => text(format!("\"{value}\""), out),
        Value::U64(value) => text(format!("\"{value}\""), out),
        Value::F32(value) => write_float((*value).into(), value.to_string(), out),
        Value::F64(value) => write_float(*value, value.to_string(), out),
    }
}

/// The entries are sorted by key; TensorFlow Serving's are in no order.
fn write_map(map: &HashMap<MapKey, Value>, kind: &Kind, layout: Layout, out: &mut Vec<u8>) {
    let Kind::Message(entry) = kind else { return };
    let value_kind = entry.map_entry_value_field().kind();
    let mut entries: Vec<(String, &Value)> =
        map.iter().map(|(key, v)| (key_text(key), v)).collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    layout.write_all([b'{', b'}'], entries, out, |(key, value), inside, out| {
        write_string(&key, out);
        out.extend_from_slice(b": ");
        write_value(value, &value_kind, inside, out);
    });
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::String(text) => text.clone(),
        MapKey::Bool(value) => value.to_string(),
        MapKey::I32(value) => value.to_string(),
        MapKey::I64(value) => value.to_string(),
        MapKey::U32(value) => value.to_string(),
        MapKey::U64(value) => value.to_string(),
    }
}

fn write_enum(number: i32, kind: &Kind, out: &mut Vec<u8>) {
    let name = |descriptor: &EnumDescriptor| Some(descriptor.get_value(number)?.name().to_owned());
    match kind.as_enum().and_then(name) {
        Some(name) => write_string(&name, out),
        None => text(number.to_string(), out),
    }
}

fn write_float(value: f64, shortest: String, out: &mut Vec<u8>) {
    let quoted = match value {
        f64::INFINITY => "\"Infinity\"",
        f64::NEG_INFINITY => "\"-Infinity\"",
        _ if value.is_nan() => "\"NaN\"",
        _ => return text(shortest, out),
    };
    text(quoted, out);
}

fn text(text: impl AsRef<str>, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_ref().as_bytes());
}

/// Appends a string with its quotes, escaped as by protobuf's printer, which also escapes characters that
/// could be mistaken for markup and invisible ones.
pub(super) fn write_string(string: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for char in string.chars() {
        match char {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            char if is_escaped(char) => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    text(format!("\\u{unit:04x}"), out);
                }
            }
            char => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

fn is_escaped(char: char) -> bool {
    matches!(
        char,
        '\0'..='\u{1f}' | '<' | '>' | '\u{7f}'..='\u{9f}'
            // Soft hyphen; invisible Arabic, Syriac and Khmer marks.
            | '\u{ad}' | '\u{600}'..='\u{603}' | '\u{6dd}' | '\u{70f}' | '\u{17b4}' | '\u{17b5}'
            // Zero widths, separators, directions, shapes, byte order mark, annotations.
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2064}'
            | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            // Music formatting and language tags.
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_string_escapes_markup_and_unseen() {
        let mut out = Vec::new();
        // The escapes of protobuf's `json/internal/writer.cc`.
        write_string("a<b>\"\\/\n\u{1}\u{7f}\u{feff}\u{1d173}é", &mut out);
        let expected = r#""a\u003cb\u003e\"\\/\n\u0001\u007f\ufeff\ud834\udd73é""#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
