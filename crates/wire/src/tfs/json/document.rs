//! The top level of a request body: checked JSON, an object, and its known members.

use base::error::{Result, ServingError};
use codec::json::cursor::{Cursor, JsonKind};
use codec::json::debug_text::debug_text;
use codec::json::syntax;
use codec::json::text::skip_byte_order_mark;

/// A body that is valid JSON with an object at the top level.
pub(super) struct Document<'a> {
    root: Cursor<'a>,
}

impl<'a> Document<'a> {
    /// Checks the whole body (`ParseJson`, `json_tensor.cc`).
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` with the parser's text and offset, or with the value that is not an object.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self> {
        if body.is_empty() {
            return Err(ServingError::invalid_argument(
                "JSON Parse error: The document is empty",
            ));
        }
        let start = skip_byte_order_mark(body);
        syntax::check_value(body, start)?;
        let document = Self {
            root: Cursor::new(body, start),
        };
        if document.root.kind() == JsonKind::Object {
            Ok(document)
        } else {
            Err(document.error("Is not object"))
        }
    }

    /// The values of the first members with these names.
    pub(super) fn members<const N: usize>(&self, names: [&str; N]) -> [Option<Cursor<'a>>; N] {
        let mut found = [None; N];
        for (key, value) in self.root.members() {
            let known = names.iter().position(|name| name.as_bytes() == key);
            if let Some(index) = known {
                found[index].get_or_insert(value);
            }
        }
        found
    }

    /// The signature's name, empty if absent (`FillSignature`). Bytes that are not UTF-8 become U+FFFD: no
    /// signature has such a name.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if it is not a string.
    pub(super) fn signature_name(&self, member: Option<Cursor<'a>>) -> Result<String> {
        match member {
            None => Ok(String::new()),
            Some(value) if value.kind() == JsonKind::String => Ok(text(&value.string())),
            Some(_) => {
                Err(self
                    .error("not formatted correctly. 'signature_name' key must be a string value."))
            }
        }
    }

    /// An error that shows the whole document.
    pub(super) fn error(&self, reason: &str) -> ServingError {
        let shown = debug_text(self.root);
        ServingError::invalid_argument(format!("JSON Value: {shown} {reason}"))
    }
}

/// Converts bytes to text for names and messages.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A key as TensorFlow Serving reads it when it iterates over keys: as a C string, which ends at a zero
/// byte.
pub(super) fn c_string(key: &[u8]) -> &[u8] {
    key.split(|&byte| byte == 0).next().unwrap_or_default()
}
