//! Reductions along axes, cumulative sums and products, and the places of the largest elements.

use super::Table;

pub(super) const TABLE: Table = &[];
