//! Checks in the bodies of loops, of the conditions that they return for the next round.
//!
//! ONNX Runtime reads the first element of a condition without looking at its size. If a node returned a
//! condition without elements, there is no memory to read, which ends the process.
//!
//! Not here: the condition before the first round, an ordinary input (`kernel_limits`).

use super::checks::Guard;
use super::kernels_since::{kernel_since, too_old};
use crate::kernel_limits::Check;
use crate::known::Facts;
use crate::visit::NodeContext;
use crate::{is_op, node, traverse};
use base::error::Result;
use proto::onnx::{GraphProto, NodeProto, TypeProto, tensor_proto::DataType, type_proto};

/// Adds the check to the body of a loop, and to graphs that a function could use as one. Returns whether it
/// changed something.
pub(super) fn add_checked(
    node: &mut NodeProto,
    context: &mut NodeContext<'_>,
    origin: &str,
) -> Result<bool> {
    let is_loop = is_op(node, "Loop");
    if !is_loop && !context.is_call {
        return Ok(false);
    }
    let bodies = context.bodies;
    let mut is_changed = false;
    for (body, facts) in traverse::subgraphs_mut(node).zip(bodies) {
        let condition = facts.first().copied().unwrap_or_default();
        let may_be_body = is_loop || looks_like_body(body);
        if may_be_body && !condition.is_filled {
            is_changed |= check(body, condition, context, origin)?;
        }
    }
    Ok(is_changed)
}

/// Whether a graph takes the number of a round and a condition.
pub(super) fn looks_like_body(graph: &GraphProto) -> bool {
    let is_condition = |ty: &TypeProto| match &ty.value {
        Some(type_proto::Value::TensorType(tensor)) => tensor.elem_type() == DataType::Bool as i32,
        _ => true,
    };
    let input = graph.input.get(1);
    input.is_some_and(|it| it.r#type.as_ref().is_none_or(is_condition))
}

fn check(
    body: &mut GraphProto,
    facts: Facts,
    context: &mut NodeContext<'_>,
    origin: &str,
) -> Result<bool> {
    let Some(output) = body.output.first_mut() else {
        return Ok(false);
    };
    // It is the condition of the next round, which is the second input of a loop.
    let next = node("Loop", &["", output.name()], "next");
    let mut nodes = Vec::new();
    let mut guard = Guard {
        node: &next,
        input: 1,
        facts,
        current: output.name().to_owned(),
        context,
        nodes: &mut nodes,
    };
    // As ONNX Runtime requires of the condition before the first round.
    guard.check(Check::OneElement);
    output.name = Some(guard.current);
    if let Some(type_proto::Value::TensorType(declared)) =
        output.r#type.as_mut().and_then(|it| it.value.as_mut())
    {
        declared.shape = None;
    }
    if nodes.iter().any(|it| kernel_since(it) > context.opset) {
        return Err(too_old(&next, context.opset, origin));
    }
    body.node.extend(nodes);
    Ok(true)
}
