//! Sums over segments, and counts.

use super::Table;

pub(super) const TABLE: Table = &[];
