//! Reads the values of variables from a checkpoint: an index, and shards with the elements.
//!
//! Not here: which entry belongs to which variable (`restore`).

mod bundle;
mod messages;
#[cfg(any(fuzzing, feature = "testing"))]
pub(crate) mod properties;
mod slice;
mod strings;
mod table;
#[cfg(any(test, fuzzing, feature = "testing"))]
mod testing;

pub(crate) use self::bundle::Bundle;
pub(crate) use self::slice::Slice;
