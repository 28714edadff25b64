//! Resizing and cropping images.

use super::Table;

pub(super) const TABLE: Table = &[];
