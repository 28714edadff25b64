//! Refuses operands whose sizes do not fit each other.
//!
//! tract assumes that any two sizes might turn out to be equal, even if both are numbers. An addition
//! with wrong sizes fails when it is run, and a product is computed from a part of the larger operand.

use tract_onnx::prelude::{TDim, TractResult, TypedModel, TypedNode};
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_hir::internal::ensure;

/// Checks the operators of `model` whose sizes are known.
///
/// # Errors
///
/// Those that do not fit, with the operator's name.
pub(super) fn check_sizes(model: &TypedModel) -> TractResult<()> {
    for node in &model.nodes {
        for output in &node.outputs {
            for dim in output.fact.shape.iter() {
                if let TDim::Broadcast(sizes) = dim {
                    check_equal(node, sizes, true)?;
                }
            }
        }
        if let Some(product) = node.op_as::<EinSum>() {
            for axis in product.axes.iter_all_axes() {
                let mut sizes = Vec::new();
                for (&outlet, positions) in node.inputs.iter().zip(&axis.inputs) {
                    let shape = &model.outlet_fact(outlet)?.shape;
                    sizes.extend(positions.iter().filter_map(|&it| shape.get(it)));
                }
                // A summed axis is not broadcast: 1 matches only 1 there.
                let is_summed = axis.outputs.iter().all(|it| it.is_empty());
                check_equal(node, sizes, !is_summed)?;
            }
        }
    }
    Ok(())
}

/// Whether the known sizes among these are the same, except for 1 if it `may_repeat`.
fn check_equal<'a>(
    node: &TypedNode,
    sizes: impl IntoIterator<Item = &'a TDim>,
    may_repeat: bool,
) -> TractResult<()> {
    let known = sizes.into_iter().filter_map(|size| size.to_i64().ok());
    let mut known = known.filter(|&size| size != 1 || !may_repeat);
    let Some(first) = known.next() else {
        return Ok(());
    };
    let other = known.find(|&size| size != first);
    ensure!(
        other.is_none(),
        "{} ({}): its operands do not fit, sizes {first} and {}",
        node.name,
        node.op.name(),
        other.unwrap_or(first)
    );
    Ok(())
}
