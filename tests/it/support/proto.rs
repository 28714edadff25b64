//! Protobuf messages by descriptor: read, written as text, compared by the rules of the recordings.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage as _, Value,
};
use proto::SERVED_DESCRIPTORS;

use super::json::Tolerance;

/// Everything that the server sends or reads.
pub(crate) static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(SERVED_DESCRIPTORS).expect("descriptors"));

/// The response type of `/package.Service/Method`.
pub(crate) fn response_type(method: &str) -> Option<MessageDescriptor> {
    let (service, method) = method.strip_prefix('/')?.split_once('/')?;
    let service = POOL.get_service_by_name(service)?;
    let method = service.methods().find(|it| it.name() == method)?;
    Some(method.output())
}

/// A message of `tensorflow.serving`, read from text.
pub(crate) fn from_text(message_type: &str, text: &str) -> Result<DynamicMessage, String> {
    let name = format!("tensorflow.serving.{message_type}");
    let descriptor = POOL
        .get_message_by_name(&name)
        .ok_or_else(|| format!("no message {name}"))?;
    DynamicMessage::parse_text_format(descriptor, text).map_err(|error| error.to_string())
}

/// Equality of messages: presence of sub-messages counts, order in maps does not, an `Any` counts
/// by its content, NaN equals NaN.
pub(crate) struct Comparison<'a> {
    pub(crate) tolerance: Tolerance,
    /// Fields left out, wherever they occur.
    pub(crate) ignored_fields: &'a BTreeSet<String>,
}

impl Comparison<'_> {
    /// Where two serialized messages differ; `Ok` if they do not.
    pub(crate) fn check_bytes(
        &self,
        descriptor: MessageDescriptor,
        expected: &[u8],
        actual: &[u8],
    ) -> Result<(), String> {
        let path = descriptor.name().to_owned();
        let decode = |bytes: &[u8]| {
            DynamicMessage::decode(descriptor.clone(), bytes).map_err(|error| error.to_string())
        };
        self.check_message(&decode(expected)?, &decode(actual)?, &path)
    }

    fn check_message(
        &self,
        expected: &DynamicMessage,
        actual: &DynamicMessage,
        path: &str,
    ) -> Result<(), String> {
        if expected.descriptor().full_name() == "google.protobuf.Any" {
            return self.check_any(expected, actual, path);
        }
        for field in expected.descriptor().fields() {
            let path = format!("{path}.{}", field.name());
            if self.ignored_fields.contains(field.name()) {
                continue;
            }
            match (expected.has_field(&field), actual.has_field(&field)) {
                (false, false) => {}
                (true, true) => {
                    let (expected, actual) = (expected.get_field(&field), actual.get_field(&field));
                    self.check_value(&expected, &actual, &path)?;
                }
                (true, false) => {
                    return Err(format!("{path} is missing: {}", expected.get_field(&field)));
                }
                (false, true) => {
                    return Err(format!("{path} is too much: {}", actual.get_field(&field)));
                }
            }
        }
        match (
            expected.unknown_fields().count(),
            actual.unknown_fields().count(),
        ) {
            (expected, actual) if expected == actual => Ok(()),
            (expected, actual) => Err(format!("{path}: {actual} unknown fields, not {expected}")),
        }
    }

    fn check_any(
        &self,
        expected: &DynamicMessage,
        actual: &DynamicMessage,
        path: &str,
    ) -> Result<(), String> {
        let content = |any: &DynamicMessage| -> Option<DynamicMessage> {
            let (url, value) = (
                any.get_field_by_name("type_url")?,
                any.get_field_by_name("value")?,
            );
            let descriptor = POOL.get_message_by_name(url.as_str()?.rsplit('/').next()?)?;
            DynamicMessage::decode(descriptor, value.as_bytes()?.clone()).ok()
        };
        match (content(expected), content(actual)) {
            (Some(expected), Some(actual)) if expected.descriptor() == actual.descriptor() => {
                self.check_message(&expected, &actual, path)
            }
            (expected, actual) => Err(format!("{path}: {expected:?} is not {actual:?}")),
        }
    }

    /// Where two values differ; `path` is their name in the message.
    pub(crate) fn check_value(
        &self,
        expected: &Value,
        actual: &Value,
        path: &str,
    ) -> Result<(), String> {
        let equal = match (expected, actual) {
            (Value::Message(a), Value::Message(b)) => return self.check_message(a, b, path),
            (Value::F32(a), Value::F32(b)) => self.tolerance.accepts((*a).into(), (*b).into()),
            (Value::F64(a), Value::F64(b)) => self.tolerance.accepts(*a, *b),
            (Value::List(a), Value::List(b)) if a.len() == b.len() => {
                for (index, (a, b)) in a.iter().zip(b).enumerate() {
                    self.check_value(a, b, &format!("{path}[{index}]"))?;
                }
                true
            }
            (Value::Map(a), Value::Map(b)) if a.len() == b.len() => {
                for (key, value) in a {
                    let path = format!("{path}[{key:?}]");
                    let other = b.get(key).ok_or_else(|| format!("{path} is missing"))?;
                    self.check_value(value, other, &path)?;
                }
                true
            }
            (a, b) => a == b,
        };
        if equal {
            Ok(())
        } else {
            Err(format!("at {path}: expected {expected}, got {actual}"))
        }
    }
}
