//! Diagonals and bands of matrices.

use super::Table;

pub(super) const TABLE: Table = &[];
