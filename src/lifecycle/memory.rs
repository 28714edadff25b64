//! Memory that loads and unloads leave behind: a load works with copies of the weights that it frees
//! again.

pub(super) use crate::allocator::release_freed;
