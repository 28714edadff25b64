//! The inputs of a loop or a scan: carried from round to round, or scanned.
//!
//! Not here: strings among them (`nested`, `unread`).

use crate::traverse;
use proto::onnx::NodeProto;

/// Which inputs of a loop or a scan are carried from round to round, and which are scanned.
pub(super) struct Plan {
    pub(super) carried: std::ops::Range<usize>,
    pub(super) scanned: std::ops::Range<usize>,
}

impl Plan {
    pub(super) fn of(node: &NodeProto) -> Option<Self> {
        let graph = traverse::subgraphs(node).next()?;
        let count = node.input.len();
        let (start, end) = match node.op_type() {
            "Loop" => (2, count),
            // In the first version, an input with lengths precedes the rest.
            _ => {
                let scanned =
                    usize::try_from(traverse::attribute(node, "num_scan_inputs")?.i()).ok()?;
                (0, count.checked_sub(scanned)?)
            }
        };
        let is_whole = start <= end
            && graph.input.len() == count
            && node.output.len() >= end - start
            && graph.output.len() >= end - start + start.min(1);
        is_whole.then_some(Self {
            carried: start..end,
            scanned: end..count,
        })
    }

    /// The output of the body that becomes the carried input at `index`. The first output of a loop's body is
    /// its condition.
    pub(super) fn result_of(&self, index: usize) -> usize {
        index - self.carried.start + self.carried.start.min(1)
    }
}
