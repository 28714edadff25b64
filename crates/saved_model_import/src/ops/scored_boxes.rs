//! The boxes among which a suppression chooses, with its limits.
//!
//! Not here: reading them from a node (`boxes`), choosing (`boxes`, `soft_boxes`).

use crate::value::Tensor;

/// The inputs that all versions have, in the dtypes of ONNX.
pub(super) struct Boxes {
    /// `[boxes, 4]`, floats.
    pub(super) boxes: Tensor,
    /// `[boxes]`, floats.
    pub(super) scores: Tensor,
    /// At most this many are chosen: an int64 vector with one element, not negative.
    pub(super) max: Tensor,
    /// Float vectors with one element.
    pub(super) overlap: Tensor,
    pub(super) score: Option<Tensor>,
}
