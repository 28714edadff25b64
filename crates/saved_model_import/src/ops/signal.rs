//! Fourier transforms and complex numbers.

use super::Table;

pub(super) const TABLE: Table = &[];
