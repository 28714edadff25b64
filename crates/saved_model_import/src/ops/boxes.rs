//! Non-maximum suppression.

use super::Table;

pub(super) const TABLE: Table = &[];
