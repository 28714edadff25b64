//! Unique elements, and differences of lists.

use super::Table;

pub(super) const TABLE: Table = &[];
