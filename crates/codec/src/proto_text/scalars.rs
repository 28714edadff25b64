//! Reads single values: numbers, booleans, enums, strings.
//!
//! Not here: fields, lists and messages (`parser`).

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind as FieldKind, Value};

use super::lexer::{Fault, TokenKind};
use super::parser::{Parser, shortened};

impl Parser<'_> {
    /// One value of a field's type.
    pub(super) fn value(&mut self, field: &FieldDescriptor) -> Result<Value, Fault> {
        Ok(match field.kind() {
            FieldKind::Int32 | FieldKind::Sint32 | FieldKind::Sfixed32 => {
                Value::I32(self.signed_32()?)
            }
            FieldKind::Int64 | FieldKind::Sint64 | FieldKind::Sfixed64 => {
                Value::I64(self.signed(i64::MAX as u64)?)
            }
            FieldKind::Uint32 | FieldKind::Fixed32 => {
                Value::U32(self.unsigned(u64::from(u32::MAX))? as u32)
            }
            FieldKind::Uint64 | FieldKind::Fixed64 => Value::U64(self.unsigned(u64::MAX)?),
            FieldKind::Float => Value::F32(self.double()? as f32),
            FieldKind::Double => Value::F64(self.double()?),
            FieldKind::Bool => Value::Bool(self.boolean(field)?),
            FieldKind::Enum(descriptor) => Value::EnumNumber(self.enum_value(field, &descriptor)?),
            FieldKind::Bytes => Value::Bytes(self.string()?.into()),
            FieldKind::String => Value::String(self.utf8_string(field)?),
            FieldKind::Message(descriptor) => Value::Message(self.message(descriptor)?),
        })
    }

    fn signed_32(&mut self) -> Result<i32, Fault> {
        Ok(self.signed(i32::MAX as u64)? as i32)
    }

    /// An integer from `-max - 1` to `max`.
    fn signed(&mut self, max: u64) -> Result<i64, Fault> {
        if self.try_symbol(b'-')? {
            Ok(0i64.wrapping_sub_unsigned(self.unsigned(max + 1)?))
        } else {
            Ok(self.unsigned(max)? as i64)
        }
    }

    fn unsigned(&mut self, max: u64) -> Result<u64, Fault> {
        if self.current.kind != TokenKind::Integer {
            return Err(self.expected("Expected integer"));
        }
        let text = self.current_text();
        let parsed = match text.as_bytes() {
            [b'0', b'x' | b'X', ..] => u64::from_str_radix(&text[2..], 16),
            [b'0', _, ..] => u64::from_str_radix(&text, 8),
            _ => text.parse(),
        };
        match parsed {
            Ok(value) if value <= max => {
                self.advance()?;
                Ok(value)
            }
            _ => Err(self.fault(format!("Integer out of range ({})", shortened(&text)))),
        }
    }

    fn double(&mut self) -> Result<f64, Fault> {
        let negative = self.try_symbol(b'-')?;
        let mut text = self.current_text();
        if self.current.kind == TokenKind::Identifier {
            text = text.to_ascii_lowercase().into();
        }
        let value = match self.current.kind {
            TokenKind::Integer if text.len() > 1 && text.starts_with('0') => {
                return Err(self.expected("Expect a decimal number"));
            }
            TokenKind::Integer => text.parse().ok(),
            TokenKind::Float => text.trim_end_matches(['f', 'F']).parse().ok(),
            TokenKind::Identifier if text == "inf" || text == "infinity" => Some(f64::INFINITY),
            TokenKind::Identifier if text == "nan" => Some(f64::NAN),
            _ => None,
        };
        let value: f64 = value.ok_or_else(|| {
            let reason = format!("Expected double, got: {}", shortened(&text));
            self.fault(reason)
        })?;
        self.advance()?;
        Ok(if negative { -value } else { value })
    }

    fn boolean(&mut self, field: &FieldDescriptor) -> Result<bool, Fault> {
        if self.current.kind == TokenKind::Integer {
            return Ok(self.unsigned(1)? == 1);
        }
        let word = self.identifier()?;
        match word.as_ref() {
            "true" | "True" | "t" => Ok(true),
            "false" | "False" | "f" => Ok(false),
            _ => Err(self.fault(format!(
                "Invalid value for boolean field \"{}\". Value: \"{}\".",
                field.name(),
                shortened(&word)
            ))),
        }
    }

    /// A value by name, or by any number, because proto3's enums are open.
    fn enum_value(
        &mut self,
        field: &FieldDescriptor,
        descriptor: &EnumDescriptor,
    ) -> Result<i32, Fault> {
        if self.is_symbol(b'-') || self.current.kind == TokenKind::Integer {
            return self.signed_32();
        }
        if self.current.kind != TokenKind::Identifier {
            return Err(self.expected("Expected integer or identifier"));
        }
        let name = self.identifier()?;
        match descriptor.get_value_by_name(&name) {
            Some(value) => Ok(value.number()),
            None => Err(self.fault(format!(
                "Unknown enumeration value of \"{}\" for field \"{}\".",
                shortened(&name),
                field.name()
            ))),
        }
    }

    fn utf8_string(&mut self, field: &FieldDescriptor) -> Result<String, Fault> {
        String::from_utf8(self.string()?).map_err(|_| {
            self.fault(format!(
                "String field \"{}\" contains invalid UTF-8.",
                field.name()
            ))
        })
    }

    /// One literal or several in a row, joined.
    fn string(&mut self) -> Result<Vec<u8>, Fault> {
        if self.current.kind != TokenKind::String {
            return Err(self.expected("Expected string"));
        }
        let mut joined = Vec::new();
        while self.current.kind == TokenKind::String {
            joined.append(&mut self.current.string);
            self.advance()?;
        }
        Ok(joined)
    }
}
