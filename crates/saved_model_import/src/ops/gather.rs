//! Elements by their indices.

use super::Table;

pub(super) const TABLE: Table = &[];
