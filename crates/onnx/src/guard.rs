//! Checks in front of kernels that would otherwise end the process.
//!
//! A check is one or a few nodes that either return their input unchanged or fail like a kernel that refuses
//! its input. Most are a `Reshape` to the shape that the tensor already has: the sign 0 keeps a size and
//! fails if the tensor lacks that dimension; the sign -1 computes a size and fails if another is 0. It copies
//! nothing. Properties that are known to hold are not checked.
//!
//! Kernels that return wrong results are replaced here, too (`replaced`).
//!
//! Not here: the requirements of each kernel (`kernel_limits`).

mod checks;
mod kernels_since;
mod loop_condition;
mod nodes;
#[cfg(all(test, feature = "onnxruntime"))]
mod opsets;
mod replaced;
#[cfg(all(test, feature = "onnxruntime"))]
mod results;
#[cfg(test)]
mod tests;
mod without_arithmetic;
mod written;

use std::collections::{BTreeSet, HashSet};

use self::checks::Guard;
use self::kernels_since::{kernel_since, too_old};
use super::kernel_limits::{self, Check};
use super::pooling_window::Window;
use super::visit::{NodeContext, Replaced};
use super::window_proof::Proofs;
use super::{OnnxModel, kernel_attributes, traverse};
use base::error::{Result, ServingError};
use proto::onnx::NodeProto;

impl OnnxModel {
    /// Puts checks in front of the kernels that need them, and replaces those that return wrong results.
    /// `ranked` are the graph's inputs whose declared rank is enforced.
    ///
    /// # Errors
    ///
    /// `UNIMPLEMENTED` for an operator or an attribute that no check can make safe, and for a check or a
    /// replacement that cannot be made in the model's opset.
    pub fn guard_kernels(&mut self, ranked: &HashSet<String>) -> Result<()> {
        self.guard(ranked, &mut |_| {})?;
        self.replace_wrong_kernels(ranked)
    }

    /// The operators whose kernels get checks if no rank is known.
    pub fn checked_operators(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut add = |node: &NodeProto| {
            names.insert(node.op_type().to_owned());
        };
        // Operators that cannot be checked do not matter here.
        let _ = self.clone().guard(&HashSet::new(), &mut add);
        names
    }

    /// Refuses functions with a loop body as the default of an attribute: its condition cannot be checked.
    fn refuse_default_bodies(&self) -> Result<()> {
        let functions = self.proto.functions.iter();
        let mut defaults = functions.flat_map(|it| &it.attribute_proto);
        let refused =
            defaults.find(|it| it.g.as_ref().is_some_and(loop_condition::looks_like_body));
        match refused {
            Some(attribute) => Err(ServingError::unimplemented(format!(
                "{}: a function with a loop body as the default of its attribute '{}' is not served: some \
                 inputs can make its kernel end the process (found on ONNX Runtime {})",
                self.origin,
                attribute.name(),
                kernel_limits::FOUND_ON
            ))),
            None => Ok(()),
        }
    }

    /// Puts checks in front of kernels, and calls `tell` for each node that got some.
    fn guard(&mut self, ranked: &HashSet<String>, tell: &mut dyn FnMut(&NodeProto)) -> Result<()> {
        let origin = self.origin.clone();
        self.refuse_default_bodies()?;
        let proofs = Proofs::of(self.graph(), &self.proto.functions);
        self.replace_everywhere(ranked, &mut |node, context| {
            let replaced = guarded(node, context, &proofs, &origin)?;
            if replaced.is_some() {
                tell(node);
            }
            Ok(replaced)
        })
    }
}

/// The node with the checks that it needs; `None` if it does not need any.
fn guarded(
    original: &NodeProto,
    context: &mut NodeContext<'_>,
    proofs: &Proofs,
    origin: &str,
) -> Replaced {
    if kernel_limits::is_refused(original) {
        return Err(ServingError::unimplemented(format!(
            "{origin}: the operator {} is not served: on some inputs its kernel ends the process \
             (found on ONNX Runtime {})",
            original.op_type(),
            kernel_limits::FOUND_ON
        )));
    }
    if ends_the_load(original, context) {
        return Err(ServingError::unimplemented(format!(
            "{origin}: the operator {} is not served in a function with opset {}: ONNX Runtime {} ends the \
             process while it loads",
            original.op_type(),
            context.opset,
            kernel_limits::FOUND_ON
        )));
    }
    if let Some(attribute) = kernel_attributes::fatal(original) {
        return Err(refused_attribute(original, attribute, origin));
    }
    let mut nodes = Vec::new();
    let mut changed = original.clone();
    if let Some(sizes) = proofs.required_by(original) {
        let mut guard = Guard {
            node: original,
            input: 0,
            facts: context.known.input(original, 0),
            current: changed.input[0].clone(),
            context,
            nodes: &mut nodes,
        };
        guard.check(Check::Rank(sizes.len()));
        guard.holds(sizes);
        changed.input[0] = guard.current;
    }
    add_limits(original, &mut changed, &mut nodes, context, proofs, origin)?;
    let has_changed_body = loop_condition::add_checked(&mut changed, context, origin)?;
    written::add_checked(&mut nodes, changed, context);
    if nodes.len() == 1 && !has_changed_body {
        return Ok(None);
    }
    let mut checks = nodes.iter().filter(|it| it.op_type() != original.op_type());
    if checks.any(|it| kernel_since(it) > context.opset) {
        return Err(too_old(original, context.opset, origin));
    }
    Ok(Some(nodes))
}

/// Whether ONNX Runtime ends the process while it loads this node: here, or in a graph that is given to a
/// function.
fn ends_the_load(node: &NodeProto, context: &NodeContext<'_>) -> bool {
    let is_fatal = |it: &NodeProto| kernel_limits::is_refused_in_function(it, context.opset);
    let mut found = context.known.is_in_function() && is_fatal(node);
    if context.is_call {
        for graph in traverse::subgraphs(node) {
            traverse::for_each_node(&graph.node, &mut |it| found |= is_fatal(it));
        }
    }
    found
}

/// Adds the checks that the kernel's limits require, unless `proofs` make them unnecessary.
fn add_limits(
    original: &NodeProto,
    changed: &mut NodeProto,
    nodes: &mut Vec<NodeProto>,
    context: &mut NodeContext<'_>,
    proofs: &Proofs,
    origin: &str,
) -> Result<()> {
    let known = context.known;
    for limit in kernel_limits::limits(original, known) {
        if limit.checks.contains(&Check::HoldsWindow) && proofs.holds_for(original) {
            continue;
        }
        if limit.checks.contains(&Check::HoldsWindow) && Window::of(original).is_none() {
            return Err(refused_attribute(original, "kernel_shape", origin));
        }
        for index in limit.inputs(original) {
            let Some(input) = changed.input.get_mut(index).filter(|it| !it.is_empty()) else {
                continue;
            };
            let mut guard = Guard {
                node: original,
                input: index,
                facts: known.input(original, index),
                current: input.clone(),
                context,
                nodes: &mut *nodes,
            };
            for check in limit.checks {
                guard.check(*check);
            }
            *input = guard.current;
        }
    }
    Ok(())
}

fn refused_attribute(node: &NodeProto, attribute: &str, origin: &str) -> ServingError {
    ServingError::unimplemented(format!(
        "{origin}: the operator {} is not served with this attribute '{attribute}': its kernel can end \
         the process (found on ONNX Runtime {})",
        node.op_type(),
        kernel_limits::FOUND_ON
    ))
}
