//! Conditions and loops.

use super::Table;

pub(super) const TABLE: Table = &[];
