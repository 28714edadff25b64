//! Reads arguments into [`Flags`], by the rules of TensorFlow's `command_line_flags.cc`.
//!
//! Those rules are unusual: only `--name=value` counts, the last one wins, and an unknown argument is
//! reported but does not stop the server.

use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;

use super::declare::{Effect, Slot};
use super::table::{FLAGS, Flags};

/// The action that the arguments ask for.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)]
pub enum ParsedFlags {
    /// Start serving.
    Run {
        /// The values.
        flags: Flags,
        /// `unknown argument: <first unknown>` and the usage text, for stdout.
        unknown: Option<String>,
        /// One line about each unknown argument. The log repeats them below the usage text.
        ignored: Vec<String>,
        /// Notes for the operator about the flags that were set.
        notes: Vec<Note>,
    },
    /// Print `text` on stdout, `errors` below it on stderr, and exit with [`ParsedFlags::USAGE_STATUS`].
    Usage {
        /// The usage text.
        text: String,
        /// One line for each value that could not be read.
        errors: Vec<String>,
    },
    /// Print the version lines and exit with 0.
    Version(Flags),
}

impl ParsedFlags {
    /// The exit status for [`ParsedFlags::Usage`]: TensorFlow Serving returns -1 from `main`.
    pub const USAGE_STATUS: u8 = 255;
}

/// A flag was set that has no effect in this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The flag's name.
    pub flag: &'static str,
    /// Why it has no effect.
    pub reason: &'static str,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--{} has no effect: {}", self.flag, self.reason)
    }
}

impl Flags {
    /// Reads a process's arguments, its own name first. Bytes that are not UTF-8 become U+FFFD.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> ParsedFlags {
        let mut arguments = arguments
            .into_iter()
            .map(|argument| argument.to_string_lossy().into_owned());
        let program = arguments.next().unwrap_or_default();

        let mut flags = Self::default();
        let mut errors = Vec::new();
        let mut first_unknown = None;
        let mut ignored = Vec::new();
        for argument in arguments {
            // This and all following arguments count as unknown.
            let end = argument == "--";
            match if end {
                None
            } else {
                assign(&mut flags, &argument)
            } {
                Some(Ok(())) => {}
                Some(Err(error)) => errors.push(error),
                None => {
                    ignored.push(unknown(&argument));
                    first_unknown.get_or_insert(argument);
                }
            }
            if end {
                break;
            }
        }

        let usage = || Self::usage(&program);
        if !errors.is_empty() || first_unknown.as_deref() == Some("--help") {
            return ParsedFlags::Usage {
                text: usage(),
                errors,
            };
        }
        if flags.version {
            return ParsedFlags::Version(flags);
        }
        let notes = notes(&mut flags);
        ParsedFlags::Run {
            flags,
            unknown: first_unknown.map(|first| format!("unknown argument: {first}\n{}", usage())),
            ignored,
            notes,
        }
    }
}

/// The line about an unknown argument.
fn unknown(argument: &str) -> String {
    let name = argument.trim_start_matches('-');
    let name = name.split_once('=').map_or(name, |(name, _)| name);
    let is_flag = argument.starts_with('-') && FLAGS.iter().any(|flag| flag.name == name);
    let why = match is_flag {
        _ if argument == "--" => "it and all arguments after it are ignored",
        true => "a flag is written --name=value, in one word",
        false => "--help lists the flags",
    };
    format!("ignoring the unknown argument {argument}: {why}")
}

/// Applies one argument. `None` if it is not a known flag, an error if its value cannot be read.
fn assign(flags: &mut Flags, argument: &str) -> Option<Result<(), String>> {
    let argument = argument.strip_prefix("--")?;
    let (name, value) = match argument.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (argument, None),
    };
    let definition = FLAGS.iter().find(|flag| flag.name == name)?;
    let done = match ((definition.slot)(flags), value) {
        (Slot::Bool(slot), None) => store(slot, Some(true)),
        (_, None) => return None,
        (Slot::Bool(slot), Some(value)) => store(slot, boolean(value)),
        (Slot::Int32(slot), Some(value)) => store(slot, number(value)),
        (Slot::Int64(slot), Some(value)) => store(slot, number(value)),
        (Slot::Float(slot), Some(value)) => store(slot, number(value)),
        (Slot::String(slot), Some(value)) => store(slot, Some(value.to_owned())),
    };
    flags.given.insert(definition.name);
    Some(done.ok_or_else(|| {
        let value = value.unwrap_or_default();
        format!("Couldn't interpret value {value} for flag {name}.")
    }))
}

fn store<T>(slot: &mut T, value: Option<T>) -> Option<()> {
    *slot = value?;
    Some(())
}

fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// Parses as `scanf` does: leading blanks are allowed, trailing characters are not.
fn number<T: FromStr>(value: &str) -> Option<T> {
    value
        .trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r'])
        .parse()
        .ok()
}

/// One note for each flag without effect whose value is not the default.
fn notes(flags: &mut Flags) -> Vec<Note> {
    let mut defaults = Flags::default();
    FLAGS
        .iter()
        .filter_map(|definition| {
            let Effect::None(reason) = definition.effect else {
                return None;
            };
            definition.differs(flags, &mut defaults).then_some(Note {
                flag: definition.name,
                reason,
            })
        })
        .collect()
}
