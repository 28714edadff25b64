//! Fills a dynamic message from tokens, following its descriptor.
//!
//! The rules, the texts of the errors and the token each error points at are those of protobuf's
//! C++ `TextFormat::Parser` with its default options: unknown fields, repeated singular fields and
//! two members of one oneof are errors.
//!
//! Not here: single values (`scalars`).

use std::borrow::Cow;

use prost::Message;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind as FieldKind, MessageDescriptor, ReflectMessage, Value,
};

use super::lexer::{Fault, Lexer, Token, TokenKind};

/// The deepest nesting of messages; below the 100 at which prost stops decoding.
pub(super) const MAX_DEPTH: usize = 64;

/// The longest part of the text that an error quotes.
const MAX_QUOTED: usize = 100;

const ANY: &str = "google.protobuf.Any";
/// The start of the error for an `Any` of an unknown type.
pub(super) const UNKNOWN_TYPE: &str = "Could not find type";
const ANY_PREFIXES: [&str; 2] = ["type.googleapis.com/", "type.googleprod.com/"];
const ANY_TYPE_URL: u32 = 1;
const ANY_VALUE: u32 = 2;
const MAP_KEY: u32 = 1;
const MAP_VALUE: u32 = 2;

pub(super) struct Parser<'a> {
    lexer: Lexer<'a>,
    /// One token of look-ahead.
    pub(super) current: Token<'a>,
    depth: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a [u8]) -> Result<Self, Fault> {
        let mut lexer = Lexer::new(text);
        let current = lexer.next()?;
        Ok(Self {
            lexer,
            current,
            depth: 0,
        })
    }

    /// Reads the whole text as one message.
    pub(super) fn parse(mut self, descriptor: MessageDescriptor) -> Result<DynamicMessage, Fault> {
        let mut message = DynamicMessage::new(descriptor);
        while self.current.kind != TokenKind::End {
            self.field(&mut message)?;
        }
        Ok(message)
    }

    fn field(&mut self, message: &mut DynamicMessage) -> Result<(), Fault> {
        if self.try_symbol(b'[')? {
            self.bracketed_field(message)?;
        } else {
            let field = self.field_name(message)?;
            self.check_unset(message, &field)?;
            self.field_values(message, &field)?;
        }
        // Separators between fields are allowed, for historical reasons.
        if !self.try_symbol(b';')? {
            self.try_symbol(b',')?;
        }
        Ok(())
    }

    fn field_name(&mut self, message: &DynamicMessage) -> Result<FieldDescriptor, Fault> {
        let name = self.identifier()?;
        let descriptor = message.descriptor();
        descriptor.get_field_by_name(&name).ok_or_else(|| {
            self.fault(format!(
                "Message type \"{}\" has no field named \"{}\".",
                descriptor.full_name(),
                shortened(&name)
            ))
        })
    }

    fn check_unset(&self, message: &DynamicMessage, field: &FieldDescriptor) -> Result<(), Fault> {
        let name = field.name();
        if is_repeated(field) {
            return Ok(());
        }
        if message.has_field(field) {
            return Err(self.fault(format!(
                "Non-repeated field \"{name}\" is specified multiple times."
            )));
        }
        let Some(oneof) = field.containing_oneof() else {
            return Ok(());
        };
        match oneof.fields().find(|other| message.has_field(other)) {
            None => Ok(()),
            Some(other) => Err(self.fault(format!(
                "Field \"{name}\" is specified along with field \"{}\", another member of oneof \
                 \"{}\".",
                other.name(),
                oneof.name()
            ))),
        }
    }

    /// Reads the part after a field's name: one value, or a list in brackets.
    fn field_values(
        &mut self,
        message: &mut DynamicMessage,
        field: &FieldDescriptor,
    ) -> Result<(), Fault> {
        if matches!(field.kind(), FieldKind::Message(_)) {
            self.try_symbol(b':')?;
        } else {
            self.symbol(b':')?;
        }
        if !is_repeated(field) || !self.try_symbol(b'[')? {
            return self.field_value(message, field);
        }
        if self.try_symbol(b']')? {
            return Ok(());
        }
        loop {
            self.field_value(message, field)?;
            if self.try_symbol(b']')? {
                return Ok(());
            }
            self.symbol(b',')?;
        }
    }

    fn field_value(
        &mut self,
        message: &mut DynamicMessage,
        field: &FieldDescriptor,
    ) -> Result<(), Fault> {
        let value = self.value(field)?;
        if field.is_map() {
            self.insert_entry(message, field, value)?;
        } else if let Some(list) = field
            .is_list()
            .then(|| message.get_field_mut(field))
            .and_then(Value::as_list_mut)
        {
            list.push(value);
        } else {
            message.set_field(field, value);
        }
        Ok(())
    }

    /// Adds a map entry, which the text writes as a message with `key` and `value`.
    fn insert_entry(
        &self,
        message: &mut DynamicMessage,
        field: &FieldDescriptor,
        entry: Value,
    ) -> Result<(), Fault> {
        let part = |number| {
            Some(
                entry
                    .as_message()?
                    .get_field_by_number(number)?
                    .into_owned(),
            )
        };
        let key = part(MAP_KEY).and_then(Value::into_map_key);
        let value = part(MAP_VALUE);
        match (key, value, message.get_field_mut(field).as_map_mut()) {
            (Some(key), Some(value), Some(map)) => {
                map.insert(key, value);
                Ok(())
            }
            _ => Err(self.fault(format!("\"{}\" is not a map.", field.name()))),
        }
    }

    /// Reads a message within braces or angle brackets.
    pub(super) fn message(
        &mut self,
        descriptor: MessageDescriptor,
    ) -> Result<DynamicMessage, Fault> {
        let end = if self.try_symbol(b'<')? {
            b'>'
        } else {
            self.symbol(b'{')?;
            b'}'
        };
        if self.depth == MAX_DEPTH {
            return Err(self.fault(format!(
                "Message is too deep, the parser exceeded the configured recursion limit of \
                 {MAX_DEPTH}."
            )));
        }
        self.depth += 1;
        let mut message = DynamicMessage::new(descriptor);
        while !self.is_symbol(b'>') && !self.is_symbol(b'}') {
            self.field(&mut message)?;
        }
        self.symbol(end)?;
        self.depth -= 1;
        Ok(message)
    }

    /// A field named in brackets: the content of an `Any` by type URL, elsewhere an extension. This
    /// server knows no extensions.
    fn bracketed_field(&mut self, message: &mut DynamicMessage) -> Result<(), Fault> {
        let descriptor = message.descriptor();
        let mut name = self.dotted_name()?;
        if descriptor.full_name() != ANY {
            self.symbol(b']')?;
            return Err(self.fault(format!(
                "Extension \"{}\" is not defined or is not an extension of \"{}\".",
                shortened(&name),
                descriptor.full_name()
            )));
        }
        self.symbol(b'/')?;
        name.push('/');
        name.push_str(&self.dotted_name()?);
        self.symbol(b']')?;
        self.try_symbol(b':')?;

        let content = ANY_PREFIXES
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix))
            .and_then(|name| descriptor.parent_pool().get_message_by_name(name))
            .ok_or_else(|| {
                self.fault(format!(
                    "{UNKNOWN_TYPE} \"{}\" stored in {ANY}.",
                    shortened(&name)
                ))
            })?;
        let content = self.message(content)?.encode_to_vec();

        if message.has_field_by_number(ANY_TYPE_URL) || message.has_field_by_number(ANY_VALUE) {
            return Err(self.fault("Non-repeated Any specified multiple times."));
        }
        message.set_field_by_number(ANY_TYPE_URL, Value::String(name));
        message.set_field_by_number(ANY_VALUE, Value::Bytes(content.into()));
        Ok(())
    }

    fn dotted_name(&mut self) -> Result<String, Fault> {
        let mut name = self.identifier()?.into_owned();
        while self.try_symbol(b'.')? {
            name.push('.');
            name.push_str(&self.identifier()?);
        }
        Ok(name)
    }

    pub(super) fn identifier(&mut self) -> Result<Cow<'a, str>, Fault> {
        if self.current.kind != TokenKind::Identifier {
            return Err(self.expected("Expected identifier"));
        }
        let text = self.current_text();
        self.advance()?;
        Ok(text)
    }

    fn symbol(&mut self, symbol: u8) -> Result<(), Fault> {
        if self.try_symbol(symbol)? {
            return Ok(());
        }
        let found = self.current_text();
        Err(self.fault(format!(
            "Expected \"{}\", found \"{}\".",
            char::from(symbol),
            shortened(&found)
        )))
    }

    pub(super) fn try_symbol(&mut self, symbol: u8) -> Result<bool, Fault> {
        let found = self.is_symbol(symbol);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    pub(super) fn is_symbol(&self, symbol: u8) -> bool {
        self.current.kind == TokenKind::Symbol && self.current.text == [symbol]
    }

    pub(super) fn advance(&mut self) -> Result<(), Fault> {
        self.current = self.lexer.next()?;
        Ok(())
    }

    pub(super) fn current_text(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.current.text)
    }

    pub(super) fn expected(&self, wanted: &str) -> Fault {
        let found = self.current_text();
        self.fault(format!("{wanted}, got: {}", shortened(&found)))
    }

    /// A fault at the current token.
    pub(super) fn fault(&self, reason: impl Into<String>) -> Fault {
        Fault {
            offset: self.current.offset,
            reason: reason.into(),
        }
    }
}

fn is_repeated(field: &FieldDescriptor) -> bool {
    field.is_list() || field.is_map()
}

pub(super) fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => Cow::Owned(format!("{}...", &text[..end])),
        None => Cow::Borrowed(text),
    }
}
