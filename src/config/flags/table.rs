//! The table of flags: parsing, usage text and notes all follow it.
//!
//! First come TensorFlow Serving's flags, then our own, with the same syntax. This file defines the
//! form of a row; the rows are in `original` and `own`.

mod original;
mod own;

use super::Flags;

/// All flags, in the order of the usage text.
pub(super) fn flags() -> impl Iterator<Item = &'static Definition> {
    original::FLAGS.iter().chain(own::FLAGS)
}

/// One flag.
pub(super) struct Definition {
    pub(super) name: &'static str,
    /// The field with the value; also determines its type.
    pub(super) slot: for<'a> fn(&'a mut Flags) -> Slot<'a>,
    pub(super) effect: Effect,
    pub(super) help: &'static str,
}

/// A flag's field in [`Flags`], with TensorFlow Serving's names of types.
pub(super) enum Slot<'a> {
    Int32(&'a mut i32),
    Int64(&'a mut i64),
    Bool(&'a mut bool),
    String(&'a mut String),
    Float(&'a mut f32),
}

/// The effect of a flag in this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// The same as in TensorFlow Serving.
    Real,
    /// None, which does no harm: the reason is logged once.
    None(&'static str),
    /// The server cannot honour the flag and refuses to start; the reason is the error.
    Refused(&'static str),
}

/// A row of the table, in a child module: the flag's name is its field's name.
macro_rules! row {
    ($name:ident, $slot:ident, $effect:expr, $help:literal) => {
        super::Definition {
            name: stringify!($name),
            slot: |flags| super::Slot::$slot(&mut flags.$name),
            effect: $effect,
            help: $help,
        }
    };
}
use row;
