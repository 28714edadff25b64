//! The conditions under which a kernel needs its checks, by attributes and known facts.
//!
//! Not here: the kernels and their checks (`kernel_limits`).

use crate::known::{Elem, Origin, Scopes};
use crate::traverse;
use proto::onnx::{NodeProto, tensor_proto::DataType as OnnxType};

pub(super) fn convolves_volumes(node: &NodeProto, known: &Scopes) -> bool {
    !matches!(known.input(node, 1).rank, Some(3 | 4))
}

pub(super) fn counts_in_a_loop(node: &NodeProto, known: &Scopes) -> bool {
    use OnnxType::{Double, Float, Int16, Int32, Int64};
    let mut elems = (0..3).map(|index| known.input(node, index).elem);
    let has_kernel = |elem: Elem| match elem {
        Elem::Is(number) => [Double, Float, Int16, Int32, Int64]
            .iter()
            .any(|it| *it as i32 == number),
        Elem::Unknown | Elem::Other => false,
    };
    !elems.any(has_kernel)
}

pub(super) fn has_scales_at(index: usize, node: &NodeProto) -> bool {
    let is_given = |index: usize| node.input.get(index).is_some_and(|it| !it.is_empty());
    let has_axes = traverse::attribute(node, "axes").is_some();
    let place = if node.input.len() == 2 { 1 } else { 2 };
    place == index && is_given(index) && !is_given(3) && !has_axes
}

/// Whether a `Resize` crops a box out of the image.
pub(super) fn crops(node: &NodeProto, _: &Scopes) -> bool {
    let mode = traverse::attribute(node, "coordinate_transformation_mode");
    // In a function, the caller can set it.
    let crops =
        mode.is_some_and(|it| !it.ref_attr_name().is_empty() || it.s() == b"tf_crop_and_resize");
    crops && node.input.len() > 2 && traverse::attribute(node, "axes").is_none()
}

/// Whether ONNX Runtime might choose an integer kernel instead.
pub(super) fn may_be_of_integers(node: &NodeProto, known: &Scopes) -> bool {
    // `Other` can be any float.
    let is_float = |index| match known.input(node, index).elem {
        Elem::Unknown | Elem::Other => true,
        Elem::Is(number) => number == OnnxType::Float as i32 || number == OnnxType::Float16 as i32,
    };
    known.quantizes && is_float(0) && is_float(1)
}

/// Whether ONNX Runtime might use a product of integers instead, with sums of no elements.
pub(super) fn multiplies_integers(node: &NodeProto, known: &Scopes, inputs: [usize; 2]) -> bool {
    known.quantizes && sums_may_be_empty(node, known, inputs)
}

/// Whether a product of two matrices can have sums of no elements: if one matrix has elements, it cannot.
pub(super) fn sums_may_be_empty(node: &NodeProto, known: &Scopes, inputs: [usize; 2]) -> bool {
    inputs
        .iter()
        .all(|index| !known.input(node, *index).is_filled)
}

pub(super) fn has_sizes(node: &NodeProto, known: &Scopes) -> bool {
    known.input(node, 0).has_sizes
}

pub(super) fn scales_product(node: &NodeProto, known: &Scopes, product: usize) -> bool {
    known.input(node, product).origin == Origin::IntegerProduct
}

pub(super) fn is_freely_dequantized(node: &NodeProto, known: &Scopes, index: usize) -> bool {
    known.input(node, index).origin == Origin::FreelyDequantized
}

pub(super) fn samples_by_area(node: &NodeProto, _: &Scopes) -> bool {
    traverse::attribute(node, "sampling_ratio").is_none_or(|it| it.i() <= 0)
}

pub(super) fn scans_along_other_axes(node: &NodeProto, _: &Scopes) -> bool {
    let axes = traverse::attribute(node, "scan_input_axes");
    axes.is_some_and(|it| !it.ref_attr_name().is_empty() || it.ints.iter().any(|&axis| axis != 0))
}

/// Whether a `Scan` is of the first version, which has one more dimension for the batch.
pub(super) fn scans_batches(_: &NodeProto, known: &Scopes) -> bool {
    known.opset < 9
}

/// Whether an `Attention` has a cache and a version for which ONNX Runtime does not have a kernel.
pub(super) fn joins_cache(node: &NodeProto, known: &Scopes) -> bool {
    known.opset >= 25 && node.input.len() > 4
}

/// Whether the last cell state of an `LSTM` is an output.
pub(super) fn returns_cell_state(node: &NodeProto, _: &Scopes) -> bool {
    node.output.get(2).is_some_and(|it| !it.is_empty())
}

pub(super) fn has_axis(node: &NodeProto, _: &Scopes) -> bool {
    traverse::attribute(node, "axis").is_some()
}
