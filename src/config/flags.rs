//! The serving flags: a typed struct and a table of definitions from one declaration, and one parser.
//!
//! `table` declares each flag once, and [`Flags`] has a field for each. `parse` and `usage` follow the
//! table; `validate` has the checks across flags.
//!
//! Not here: the files that flags name (`super::files`).

mod declare;
mod parse;
mod table;
mod threads;
mod usage;
mod validate;

pub use self::parse::{Note, ParsedFlags};
pub use self::table::Flags;
pub use self::threads::SessionThreads;

#[cfg(test)]
mod tests;
