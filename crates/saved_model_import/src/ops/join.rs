//! Joining, splitting, repeating and filling.

use super::Table;

pub(super) const TABLE: Table = &[];
