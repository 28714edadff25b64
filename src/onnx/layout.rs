//! Transposes that tf2onnx wrote as reshapes.
//!
//! Where an image has one channel, moving that dimension to the front and reshaping give the same,
//! and tf2onnx writes the cheaper one. But a reshape also takes images of other sizes, which the
//! original refused, and returns nonsense for them.

use super::border::ints_attribute;
use super::interface::value_info;
use super::{OnnxModel, is_op, node};
use crate::proto::onnx::NodeProto;

/// How tf2onnx calls the shape that it reshapes to in the place of a transpose.
const NEW_SHAPE_PREFIX: &str = "new_shape__";

impl OnnxModel {
    /// Makes transposes again of the reshapes of the graph's inputs that stand for one.
    pub(super) fn restore_transposes(&mut self) {
        let found: Vec<(usize, Vec<i64>)> = self
            .graph()
            .node
            .iter()
            .enumerate()
            .filter_map(|(index, reshape)| Some((index, self.permutation(reshape)?)))
            .collect();
        for (index, permutation) in found {
            let original = &mut self.graph_mut().node[index];
            let mut transpose = node("Transpose", &[&original.input[0]], &original.output[0]);
            transpose
                .attribute
                .push(ints_attribute("perm", &permutation));
            *original = transpose;
        }
    }

    /// The permutation that a reshape stands for.
    fn permutation(&self, reshape: &NodeProto) -> Option<Vec<i64>> {
        let [data, shape] = reshape.input.as_slice() else {
            return None;
        };
        if !is_op(reshape, "Reshape") || !shape.starts_with(NEW_SHAPE_PREFIX) {
            return None;
        }
        let input = self.graph().input.iter().find(|it| it.name() == data)?;
        let declared = value_info(input).shape?;
        let target = self.constant(shape)?;
        let target = target.as_slice::<i64>()?;
        let rank = i64::try_from(declared.len()).ok()?;
        if declared.len() != target.len() || rank < 3 {
            return None;
        }
        let to_front: Vec<i64> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
        let to_back: Vec<i64> = [0].into_iter().chain(2..rank).chain([1]).collect();
        let makes_target = |permutation: &Vec<i64>| {
            let mut dims = permutation.iter().zip(target);
            // Both -1 and 0 leave a dim as it is here: at most one dim is not known.
            dims.all(|(&from, &to)| {
                let size = declared[usize::try_from(from).unwrap_or_default()];
                size == to || (size < 0 && to <= 0)
            })
        };
        let mut fitting = [to_front, to_back].into_iter().filter(makes_target);
        let permutation = fitting.next()?;
        fitting.next().is_none().then_some(permutation)
    }
}
