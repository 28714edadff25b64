//! The form of JSON values inside messages: RapidJSON's pretty writer with lists on one line, with
//! a soft limit of 256 bytes, and of 64 KiB within a string.

use super::cursor::{Cursor, JsonKind};
use super::number::Number;
use super::string;

/// After this many bytes no further token is begun. A token that was begun is written in full,
/// unless it is a string longer than [`MAX_STRING_BYTES`].
const LIMIT: usize = 256;

/// A longer string is cut to this many bytes. TensorFlow Serving writes strings of any length.
const MAX_STRING_BYTES: usize = 64 << 10;

/// The text of the value at `cursor`.
///
/// A message is text, so bytes that are not UTF-8 become U+FFFD (TensorFlow Serving passes them on).
pub fn debug_text(cursor: Cursor<'_>) -> String {
    let mut writer = Writer { out: Vec::new() };
    // It makes no difference whether the whole value fitted.
    let _ = writer.value(cursor, "", 0);
    String::from_utf8(writer.out)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Writes `separator` and one value inside `depth` open lists and objects. `None` means stop:
    /// the limit is reached, or something cannot be written.
    ///
    /// Recurses at most `LIMIT` times, because every level has written a bracket.
    fn value(&mut self, cursor: Cursor<'_>, separator: &str, depth: usize) -> Option<()> {
        self.begin(separator)?;
        match cursor.kind() {
            JsonKind::Null => self.text("null"),
            JsonKind::False => self.text("false"),
            JsonKind::True => self.text("true"),
            JsonKind::String => self.string(&cursor.string()),
            JsonKind::Number => self.number(cursor.number())?,
            JsonKind::Array => self.array(cursor, depth)?,
            JsonKind::Object => self.object(cursor, depth)?,
        }
        Some(())
    }

    fn array(&mut self, cursor: Cursor<'_>, depth: usize) -> Option<()> {
        self.text("[");
        let mut separator = "";
        for element in cursor.elements() {
            self.value(element, separator, depth + 1)?;
            separator = ", ";
        }
        self.begin("]")
    }

    fn object(&mut self, cursor: Cursor<'_>, depth: usize) -> Option<()> {
        self.text("{");
        let mut empty = true;
        for (name, value) in cursor.members() {
            self.begin(if empty { "" } else { "," })?;
            self.new_line(depth + 1);
            self.string(&name);
            self.value(value, ": ", depth + 1)?;
            empty = false;
        }
        self.begin("")?;
        if !empty {
            self.new_line(depth);
        }
        self.text("}");
        Some(())
    }

    fn string(&mut self, bytes: &[u8]) {
        let shown = &bytes[..bytes.len().min(MAX_STRING_BYTES)];
        string::write(shown, &mut self.out);
    }

    /// NaN and infinities have no text: writing ends there.
    fn number(&mut self, number: Number) -> Option<()> {
        match number {
            Number::Negative(value) => self.text(&value.to_string()),
            Number::Unsigned(value) => self.text(&value.to_string()),
            Number::Double(value) if value.is_finite() => self.double(value),
            Number::Double(_) => return None,
        }
        Some(())
    }

    /// Writes a double with Grisu2, as RapidJSON does. Its digits are not always the shortest or the nearest
    /// ones, so the standard library's text would be another.
    fn double(&mut self, value: f64) {
        self.text(dtoa::Buffer::new().format_finite(value));
    }

    /// Begins a token with its separator, if the limit is not reached.
    fn begin(&mut self, separator: &str) -> Option<()> {
        if self.out.len() >= LIMIT {
            return None;
        }
        self.text(separator);
        Some(())
    }

    fn new_line(&mut self, depth: usize) {
        self.text("\n");
        self.out.resize(self.out.len() + 4 * depth, b' ');
    }

    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: &str) {
        assert_eq!(debug_text(Cursor::new(json.as_bytes(), 0)), expected);
    }

    #[test]
    fn debug_text_keeps_lists_on_one_line() {
        // Spec section 3.1, E19, E20, E96.
        check("[1,2]", "[1, 2]");
        check("\"str\"", "\"str\"");
        check("null", "null");
        check("{}", "{}");
        check(
            r#"{"signature_name":["hello"],"examples":[{"a":1}]}"#,
            "{\n    \"signature_name\": [\"hello\"],\n    \"examples\": [{\n            \"a\": 1\n        }]\n}",
        );
    }

    #[test]
    fn doubles_have_the_digits_that_rapidjson_gives_them() {
        // Recorded: val_u64_over, val_i32_float, val_i32_float_whole, val_i32_exp; spec section 3.1.
        check("18446744073709551616", "18446744073709553000.0");
        check("1.5", "1.5");
        check("1.0", "1.0");
        check("1e2", "100.0");
        check("1e30", "1e30");
        check("-0.0", "-0.0");
    }

    #[test]
    fn debug_text_stops_at_non_finite_numbers() {
        // Recorded: val_f16_nan, val_i32_nan.
        check("NaN", "");
        check("[1,NaN,2]", "[1, ");
    }

    #[test]
    fn debug_text_is_cut_softly() {
        // E77.
        let list: Vec<String> = (1..=80).map(|number| number.to_string()).collect();
        let json = format!(r#"{{"instances":[{}],"inputs":[1]}}"#, list.join(","));
        let text = debug_text(Cursor::new(json.as_bytes(), 0));
        assert!(text.starts_with("{\n    \"instances\": [1, 2"), "{text}");
        assert!(text.ends_with(" 61, 62"), "{text}");
        let quoted = |length| format!("\"{}\"", "x".repeat(length));
        let long = quoted(MAX_STRING_BYTES);
        check(&long, &long);
        check(&quoted(MAX_STRING_BYTES + 1), &long);
    }
}
