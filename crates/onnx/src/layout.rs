//! Transposes that tf2onnx wrote as reshapes.
//!
//! If an image has one channel, moving that dimension to the front and reshaping give the same result, and
//! tf2onnx writes the cheaper one. But a reshape also accepts images of other sizes, which the TensorFlow
//! model refused, and returns nonsense for them.
//!
//! The name of the shape only says who wrote the reshape. That it is a transpose follows from the declared
//! sizes: the dimensions that change places must have size 1, otherwise the two differ.

use super::interface::value_info;
use super::io_transforms::ints_attribute;
use super::{OnnxModel, is_op, node, traverse};
use proto::onnx::NodeProto;

/// The prefix of the name of the shape that tf2onnx reshapes to instead of transposing. Other reshapes keep
/// accepting images of all sizes.
const NEW_SHAPE_PREFIX: &str = "new_shape__";

impl OnnxModel {
    /// Turns reshapes of the graph's inputs that stand for a transpose back into transposes. Returns whether
    /// there were any.
    pub(super) fn restore_transposes(&mut self) -> bool {
        let found: Vec<(usize, Vec<i64>)> = self
            .graph()
            .node
            .iter()
            .enumerate()
            .filter_map(|(index, reshape)| Some((index, self.permutation(reshape)?)))
            .collect();
        let is_changed = !found.is_empty();
        for (index, permutation) in found {
            let original = &mut self.graph_mut().node[index];
            let mut transpose = node("Transpose", &[&original.input[0]], &original.output[0]);
            transpose
                .attribute
                .push(ints_attribute("perm", &permutation));
            *original = transpose;
        }
        is_changed
    }

    /// The permutation that a reshape stands for.
    fn permutation(&self, reshape: &NodeProto) -> Option<Vec<i64>> {
        let ([data, shape], [_]) = (reshape.input.as_slice(), reshape.output.as_slice()) else {
            return None;
        };
        if !is_op(reshape, "Reshape") || !shape.starts_with(NEW_SHAPE_PREFIX) {
            return None;
        }
        let input = self.graph().input.iter().find(|it| it.name() == data)?;
        let declared = value_info(input).shape?;
        let target = self.constant(shape)?;
        let zero_is_zero = traverse::attribute(reshape, "allowzero").is_some_and(|it| it.i() != 0);
        let target = Target {
            dims: target.as_slice::<i64>()?,
            zero_is_zero,
        };
        let rank = i64::try_from(declared.len()).ok()?;
        if rank < 3 {
            return None;
        }
        let to_front: Vec<i64> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
        let to_back: Vec<i64> = [0].into_iter().chain(2..rank).chain([1]).collect();
        let mut permutations = [to_front, to_back].into_iter();
        permutations.find(|it| target.is_transposed(&declared, it) == Some(true))
    }
}

/// The shape that a tensor is reshaped to.
struct Target<'a> {
    dims: &'a [i64],
    /// Zero means a size of zero rather than the existing size.
    zero_is_zero: bool,
}

impl Target<'_> {
    /// Whether reshaping a tensor of the declared sizes is the same as permuting it; -1 is an unknown size.
    fn is_transposed(&self, declared: &[i64], permutation: &[i64]) -> Option<bool> {
        if declared.len() != self.dims.len() {
            return Some(false);
        }
        let mut computed = 0;
        let mut last = 0;
        for (axis, (&from, &to)) in permutation.iter().zip(self.dims).enumerate() {
            let from = usize::try_from(from).ok()?;
            let size = *declared.get(from)?;
            let is_same = match to {
                // It is the remaining size, which is right if all others are.
                -1 => {
                    computed += 1;
                    true
                }
                0 if !self.zero_is_zero => from == axis || size == *declared.get(axis)? && size > 0,
                _ => size == to,
            };
            // A dimension of size 1 can be anywhere; the others stay in order.
            let stays_in_order = size == 1 || from >= last;
            if !is_same || !stays_in_order {
                return Some(false);
            }
            if size != 1 {
                last = from;
            }
        }
        Some(computed <= 1)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::interface::tensor_value;
    use super::super::io_transforms::int_attribute;
    use super::*;
    use crate::constant::from_tensor;
    use base::tensor::Tensor;
    use proto::onnx::tensor_shape_proto::{Dimension, dimension};
    use proto::onnx::{
        GraphProto, ModelProto, TensorShapeProto, ValueInfoProto,
        tensor_proto::DataType as OnnxType, type_proto,
    };

    fn float_value(name: &str, dims: &[i64]) -> ValueInfoProto {
        let mut value = tensor_value(name, OnnxType::Float as i32);
        let dim = |&size| Dimension {
            value: Some(dimension::Value::DimValue(size)),
            ..Dimension::default()
        };
        if let Some(ty) = &mut value.r#type
            && let Some(type_proto::Value::TensorType(tensor)) = &mut ty.value
        {
            let dim = dims.iter().map(dim).collect();
            tensor.shape = Some(TensorShapeProto { dim });
        }
        value
    }

    /// The result for a reshape of `x` with these sizes, -1 for any.
    fn rewritten(sizes: &[i64], target: &[i64], outputs: &[&str], allowzero: bool) -> NodeProto {
        let mut reshape = node("Reshape", &["x", "new_shape__1"], "y");
        reshape.output = outputs.iter().map(|&name| name.to_owned()).collect();
        if allowzero {
            reshape.attribute.push(int_attribute("allowzero", 1));
        }
        let shape = Tensor::from_vec(&[target.len()], target.to_vec()).unwrap();
        let graph = GraphProto {
            node: vec![reshape],
            input: vec![float_value("x", sizes)],
            initializer: vec![from_tensor("new_shape__1", &shape).unwrap()],
            ..GraphProto::default()
        };
        let proto = ModelProto {
            graph: Some(graph),
            ..ModelProto::default()
        };
        let mut model = OnnxModel::parse("test.onnx", &proto.encode_to_vec()).unwrap();
        model.restore_transposes();
        model.graph().node[0].clone()
    }

    /// The permutation that a reshape becomes; `None` if it stays.
    fn permuted(sizes: &[i64], target: &[i64]) -> Option<Vec<i64>> {
        let node = rewritten(sizes, target, &["y"], false);
        let permutation = traverse::attribute(&node, "perm").map(|it| it.ints.clone());
        assert_eq!(permutation.is_some(), node.op_type() == "Transpose");
        permutation
    }

    #[test]
    fn reshape_that_moves_one_channel_is_a_transpose() {
        let to_front = Some(vec![0, 3, 1, 2]);
        assert_eq!(permuted(&[2, 5, 5, 1], &[2, 1, 5, 5]), to_front);
        assert_eq!(permuted(&[-1, 5, 4, 1], &[-1, 1, 5, 4]), to_front);
        assert_eq!(permuted(&[-1, 5, 4, 1], &[0, 1, 5, 4]), to_front);
        let to_back = Some(vec![0, 2, 3, 1]);
        assert_eq!(permuted(&[-1, 1, 5, 4], &[-1, 5, 4, 1]), to_back);
    }

    #[test]
    fn reshape_that_mixes_what_it_moves_stays() {
        for (sizes, target) in [
            // The same shape as after a transpose, but with the elements in other places.
            ([-1, 3, 4, 5], [-1, 5, 3, 4]),
            ([-1, 3, 4, 5], [-1, 4, 5, 3]),
            ([2, 3, 3, 3], [2, 3, 3, 3]),
            ([-1, 5, 4, 2], [-1, 2, 5, 4]),
            // Sizes that a transpose would not give.
            ([-1, 5, 4, 1], [-1, 1, 4, 5]),
            // A channel count known only from the request.
            ([-1, 5, 4, -1], [-1, 1, 5, 4]),
            ([2, 5, 4, -1], [2, -1, 5, 4]),
            // Another size at that place.
            ([2, -1, 4, 1], [2, 1, 0, 4]),
        ] {
            assert_eq!(permuted(&sizes, &target), None, "{sizes:?} {target:?}");
        }
    }

    #[test]
    fn zero_that_is_a_size_stays() {
        let node = rewritten(&[-1, 5, 4, 1], &[0, 1, 5, 4], &["y"], true);
        assert_eq!(node.op_type(), "Reshape");
    }

    #[test]
    fn reshape_that_returns_nothing_is_left_alone() {
        let node = rewritten(&[2, 5, 5, 1], &[2, 1, 5, 5], &[], false);
        assert_eq!(node.op_type(), "Reshape");
    }
}
