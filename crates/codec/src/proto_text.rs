//! Reads and writes protobuf's text format, the form of every configuration file of TensorFlow Serving.
//!
//! This module owns the language and its error lines. They follow the C++ parser with which
//! TensorFlow Serving reads its files, word for word, because people grep logs for them. It turns a
//! text into a generated message, or into a dynamic one if no code is generated.
//! `prost_reflect` supplies descriptors and dynamic messages. Its own text parser is not used: it
//! does not say where an error is, recurses without bound and refuses a file with one Latin-1 letter
//! in a comment.
//!
//! Not here: which files are read and their meaning (`config`, `signature`).

mod lexer;
mod parser;
mod scalars;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::text_format::FormatOptions;
use prost_reflect::{DescriptorPool, DynamicMessage};

use base::error::{Code, Result, ServingError};
use proto;

use self::lexer::Fault;
use self::parser::Parser;

/// The size of the largest text file that is read. A list of 100,000 models has about 16 MiB.
const MAX_FILE_BYTES: u64 = 64 << 20;

static SERVED: LazyLock<DescriptorPool> = LazyLock::new(|| pool(proto::SERVED_DESCRIPTORS));
static DESCRIBED: LazyLock<DescriptorPool> = LazyLock::new(|| pool(proto::DESCRIBED_DESCRIPTORS));

fn pool(descriptors: &'static [u8]) -> DescriptorPool {
    DescriptorPool::decode(descriptors).expect("build.rs wrote these descriptors")
}

/// Why a text is not a message of its type. Displayed as protobuf's own log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    message_type: String,
    /// Counted from 1.
    line: usize,
    /// Counted from 1, in bytes; a tab advances to the next multiple of 8.
    column: usize,
    reason: String,
}

impl ParseError {
    fn new(message_type: &str, text: &[u8], fault: Fault) -> Self {
        let (line, column) = position(text, fault.offset);
        Self {
            message_type: message_type.to_owned(),
            line,
            column,
            reason: fault.reason,
        }
    }
}

impl ParseError {
    /// Whether the text has an `Any` of a type without a compiled-in descriptor.
    fn is_unknown_type(&self) -> bool {
        self.reason.starts_with(parser::UNKNOWN_TYPE)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Error parsing text-format {}: {}:{}: {}",
            self.message_type, self.line, self.column, self.reason
        )
    }
}

impl std::error::Error for ParseError {}

/// Parses `text` into a message that has generated code.
///
/// # Errors
///
/// The first error in the text, unknown fields included. Messages nested deeper than
/// `parser::MAX_DEPTH` and strings that are not UTF-8 are errors.
pub fn parse<M: Message + Name + Default>(text: &[u8]) -> Result<M, ParseError> {
    let name = M::full_name();
    let message = parse_dynamic(&SERVED, &name, text)?;
    M::decode(message.encode_to_vec().as_slice()).map_err(|error| {
        let reason = error.to_string();
        ParseError::new(&name, text, Fault { offset: 0, reason })
    })
}

/// The text of a message that has generated code, with a field in each line.
pub fn print<M: Message + Name>(message: &M) -> String {
    let descriptor = SERVED.get_message_by_name(&M::full_name());
    let bytes = message.encode_to_vec();
    let dynamic = descriptor.and_then(|it| DynamicMessage::decode(it, bytes.as_slice()).ok());
    let options = FormatOptions::new().pretty(true);
    let text = dynamic.map(|it| it.to_text_format_with_options(&options));
    text.map_or_else(String::new, |it| it + "\n")
}

/// Parses `text` into a message of type `name` that has only a compiled-in descriptor.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_described(name: &str, text: &[u8]) -> Result<DynamicMessage, ParseError> {
    parse_dynamic(&DESCRIBED, name, text)
}

fn parse_dynamic(
    pool: &DescriptorPool,
    name: &str,
    text: &[u8],
) -> Result<DynamicMessage, ParseError> {
    let in_text = |fault| ParseError::new(name, text, fault);
    let descriptor = pool.get_message_by_name(name).ok_or_else(|| {
        in_text(Fault {
            offset: 0,
            reason: format!("no descriptor of {name} is compiled in"),
        })
    })?;
    Parser::new(text)
        .and_then(|parser| parser.parse(descriptor))
        .map_err(in_text)
}

/// Reads a text file into a generated message. An empty file is an empty message.
///
/// # Errors
///
/// As [`read_bytes`] for a file that cannot be read. `INVALID_ARGUMENT` `Invalid protobuf file:
/// '<path>'` for a file that does not parse, after logging protobuf's line (`ParseProtoTextFile`,
/// `util/proto_util.h`).
pub fn read_file<M: Message + Name + Default>(path: &Path) -> Result<M> {
    parse_file(path, &read_bytes(path)?)
}

/// Parses the contents of a text file.
///
/// # Errors
///
/// As [`read_file`] for a file that does not parse.
pub fn parse_file<M: Message + Name + Default>(path: &Path, text: &[u8]) -> Result<M> {
    parse(text).map_err(|error| invalid_file(path, &error))
}

/// Checks that a file is the text of a message, if none of its contents are used. Only the program that
/// the file was written for knows the types of its `Any` messages.
///
/// # Errors
///
/// As [`read_file`], except for an `Any` of a type that this server does not have.
pub fn check_file<M: Message + Name + Default>(path: &Path) -> Result<()> {
    match parse::<M>(&read_bytes(path)?) {
        Err(error) if !error.is_unknown_type() => Err(invalid_file(path, &error)),
        _ => Ok(()),
    }
}

/// As [`read_file`], for a file whose text must not appear in a log: an error gives only its line
/// and column.
///
/// # Errors
///
/// As [`read_file`].
pub fn read_secret_file<M: Message + Name + Default>(path: &Path) -> Result<M> {
    let text = read_bytes(path)?;
    parse(&text).map_err(|mut error| {
        error.reason = "this text is not expected here".to_owned();
        invalid_file(path, &error)
    })
}

/// As [`read_file`], for a type that has only a compiled-in descriptor.
///
/// # Errors
///
/// As [`read_file`].
pub fn read_described_file(path: &Path, name: &str) -> Result<DynamicMessage> {
    let text = read_bytes(path)?;
    parse_described(name, &text).map_err(|error| invalid_file(path, &error))
}

fn invalid_file(path: &Path, error: &ParseError) -> ServingError {
    tracing::error!("{error}");
    ServingError::invalid_argument(format!("Invalid protobuf file: '{}'", path.display()))
}

/// Reads a whole file, up to `MAX_FILE_BYTES`.
///
/// # Errors
///
/// TensorFlow's file-system statuses, `<path>; <reason>`: `NOT_FOUND` for a missing file,
/// `PERMISSION_DENIED`, `FAILED_PRECONDITION` for a directory; `INVALID_ARGUMENT` for a file that
/// is too large.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let refused = |error: io::Error| file_system_error(path, error);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(refused)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ServingError::invalid_argument(format!(
            "{}; larger than {MAX_FILE_BYTES} bytes",
            path.display()
        )));
    }
    Ok(bytes)
}

fn file_system_error(path: &Path, error: io::Error) -> ServingError {
    let code = match error.kind() {
        io::ErrorKind::NotFound => Code::NotFound,
        io::ErrorKind::PermissionDenied => Code::PermissionDenied,
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => Code::FailedPrecondition,
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => Code::InvalidArgument,
        _ => Code::Unknown,
    };
    let text = error.to_string();
    let reason = text.split(" (os error").next().unwrap_or(&text);
    ServingError::new(code, format!("{}; {reason}", path.display())).caused_by(error)
}

/// Line and column of a byte, as protobuf's tokenizer counts them.
fn position(text: &[u8], offset: usize) -> (usize, usize) {
    const TAB: usize = 8;
    let before = &text[..offset.min(text.len())];
    let line_start = before
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|&&byte| byte == b'\n').count();
    let column = before[line_start..].iter().fold(0, |column, &byte| {
        if byte == b'\t' {
            column + TAB - column % TAB
        } else {
            column + 1
        }
    });
    (line + 1, column + 1)
}

#[cfg(test)]
mod tests;
