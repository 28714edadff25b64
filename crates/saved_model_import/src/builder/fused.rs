//! Which nodes stand for patterns of several operators: for the log.
//!
//! Not here: the patterns (`fused`, `ops::control`).

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use proto::onnx::GraphProto;

use super::Builder;
use crate::value::Tensor;

/// The results of such nodes, by name.
#[derive(Default)]
pub(crate) struct Fused(HashSet<Rc<str>>);

impl Fused {
    /// Adds the number of such nodes in a graph and the graphs in it, by operator.
    pub(crate) fn count(&self, graph: &GraphProto, counts: &mut BTreeMap<String, usize>) {
        for node in &graph.node {
            if node.output.iter().any(|it| self.0.contains(it.as_str())) {
                *counts.entry(node.op_type().to_owned()).or_default() += 1;
            }
            for nested in node.attribute.iter().filter_map(|it| it.g.as_ref()) {
                self.count(nested, counts);
            }
        }
    }
}

impl Builder {
    /// Notes that the node that computes a tensor stands for several operators.
    pub(crate) fn note_fused(&mut self, result: &Tensor) {
        if let Ok(name) = result.name() {
            self.fused.0.insert(Rc::clone(name));
        }
    }

    /// The noted nodes. Some of them can be missing in the finished graph.
    pub(crate) fn take_fused(&mut self) -> Fused {
        std::mem::take(&mut self.fused)
    }
}
