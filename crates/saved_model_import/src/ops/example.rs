//! Parsing tf.Example.

use super::Table;

pub(super) const TABLE: Table = &[];
