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
        let ([data, shape], [_]) = (reshape.input.as_slice(), reshape.output.as_slice()) else {
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

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::interface::tensor_value;
    use super::*;
    use crate::onnx::constant::from_tensor;
    use crate::proto::onnx::tensor_shape_proto::{Dimension, dimension};
    use crate::proto::onnx::{
        GraphProto, ModelProto, TensorShapeProto, ValueInfoProto,
        tensor_proto::DataType as OnnxType, type_proto,
    };
    use crate::tensor::Tensor;

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

    /// What becomes of a reshape of `x: float[2, 5, 5, 1]` to [2, 1, 5, 5] with these outputs.
    fn rewritten(outputs: &[&str]) -> String {
        let mut reshape = node("Reshape", &["x", "new_shape__1"], "y");
        reshape.output = outputs.iter().map(|&name| name.to_owned()).collect();
        let shape = Tensor::from_vec(&[4], vec![2i64, 1, 5, 5]).unwrap();
        let graph = GraphProto {
            node: vec![reshape],
            input: vec![float_value("x", &[2, 5, 5, 1])],
            initializer: vec![from_tensor("new_shape__1", &shape).unwrap()],
            ..GraphProto::default()
        };
        let proto = ModelProto {
            graph: Some(graph),
            ..ModelProto::default()
        };
        let mut model = OnnxModel::parse("test.onnx", &proto.encode_to_vec()).unwrap();
        model.rewrite_operators().unwrap();
        model.graph().node[0].op_type().to_owned()
    }

    #[test]
    fn reshape_that_moves_one_channel_is_a_transpose() {
        assert_eq!(rewritten(&["y"]), "Transpose");
    }

    #[test]
    fn reshape_that_returns_nothing_is_left_alone() {
        assert_eq!(rewritten(&[]), "Reshape");
    }
}
