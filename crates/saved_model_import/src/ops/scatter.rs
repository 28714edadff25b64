//! Tensors from elements and their indices.

use super::Table;

pub(super) const TABLE: Table = &[];
