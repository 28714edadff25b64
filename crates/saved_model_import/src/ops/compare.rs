//! Comparisons, logic, and choosing between two tensors.

use super::Table;

pub(super) const TABLE: Table = &[];
