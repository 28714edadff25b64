//! Conversions between dtypes.

use super::Table;

pub(super) const TABLE: Table = &[];
