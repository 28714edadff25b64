//! Padding, blocks and shifts.

use super::Table;

pub(super) const TABLE: Table = &[];
