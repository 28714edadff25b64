//! The table of flags: parsing, usage text and notes all follow it.
//!
//! The original's flags come first, flags of our own follow, with the same syntax. Here is what a row
//! says; the rows stand in `original` and `own`.

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
    /// Where the value lives; also tells its type.
    pub(super) slot: for<'a> fn(&'a mut Flags) -> Slot<'a>,
    pub(super) effect: Effect,
    pub(super) help: &'static str,
}

/// A flag's place in [`Flags`], by the original's names of types.
pub(super) enum Slot<'a> {
    Int32(&'a mut i32),
    Int64(&'a mut i64),
    Bool(&'a mut bool),
    String(&'a mut String),
    Float(&'a mut f32),
}

/// What setting a flag does in this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// What it does in the original.
    Real,
    /// Nothing, and nothing is missed: the reason is logged once.
    None(&'static str),
    /// Starting would pretend something that is not so; the reason is the error.
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
