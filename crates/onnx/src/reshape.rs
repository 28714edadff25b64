//! Shapes that a graph computes from the sizes of the reshaped tensor itself.
//!
//! Flattening keeps the first size, and converters write it as several steps: take the shape, pick the first
//! size, put it before the others. That is half a dozen operators on a few numbers in every run, although
//! `Reshape` has a sign for "keep this size": 0.
//!
//! Not here: reshapes that stand for transposes (`layout`).

use std::collections::HashMap;

use super::constant::from_tensor;
use super::{OnnxModel, is_op, traverse};
use base::tensor::Tensor;
use proto::onnx::{NodeProto, tensor_proto::DataType as OnnxType};

/// The maximum number of operators examined for one shape.
const MAX_STEPS: usize = 64;
/// Longer shapes are skipped.
const MAX_RANK: usize = 16;

impl OnnxModel {
    /// Replaces shapes that consist of constants and of sizes of the reshaped tensor in the same places with
    /// constants. The nodes that computed them become unused. Returns whether it replaced any.
    pub(super) fn settle_shapes(&mut self) -> bool {
        let mut makers = HashMap::new();
        for node in &self.graph().node {
            makers.extend(node.output.iter().map(|name| (name.as_str(), node)));
        }
        let nodes = self.graph().node.iter().enumerate();
        let settled =
            nodes.filter_map(|(index, node)| Some((index, self.settled_shape(&makers, node)?)));
        let settled: Vec<(usize, Tensor)> = settled.collect();
        if settled.is_empty() {
            return false;
        }
        let mut names = self.names();
        for (index, shape) in settled {
            let graph = self.graph_mut();
            let reshape = &mut graph.node[index];
            let name = names.take(&format!("{}/settled_shape", reshape.output[0]));
            if let Some(shape) = from_tensor(&name, &shape) {
                reshape.input[1] = name;
                graph.initializer.push(shape);
            }
        }
        true
    }

    fn settled_shape(
        &self,
        makers: &HashMap<&str, &NodeProto>,
        reshape: &NodeProto,
    ) -> Option<Tensor> {
        let ([data, shape], [_]) = (reshape.input.as_slice(), reshape.output.as_slice()) else {
            return None;
        };
        let zero_is_zero = traverse::attribute(reshape, "allowzero").is_some_and(|it| it.i() != 0);
        if !is_op(reshape, "Reshape") || zero_is_zero || !makers.contains_key(shape.as_str()) {
            return None;
        }
        let mut reader = Reader {
            model: self,
            makers,
            steps: 0,
        };
        let shape = reader.read(shape)?;
        let dims: Vec<i64> = shape
            .dims
            .iter()
            .enumerate()
            .map(|(axis, dim)| match *dim {
                Dim::Is(size) => Some(size),
                Dim::Of(tensor, its_axis) => {
                    reader.is_size_of(data, axis, tensor, its_axis).then_some(0)
                }
            })
            .collect::<Option<_>>()?;
        Tensor::from_vec(&[dims.len()], dims)
    }
}

/// One number of a shape.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Dim<'a> {
    Is(i64),
    /// The size of a tensor along an axis.
    Of(&'a str, usize),
}

/// A vector of sizes, or a scalar.
#[derive(Debug)]
struct Sizes<'a> {
    dims: Vec<Dim<'a>>,
    is_scalar: bool,
}

impl<'a> Sizes<'a> {
    fn vector(dims: Vec<Dim<'a>>) -> Option<Self> {
        (dims.len() <= MAX_RANK).then_some(Self {
            dims,
            is_scalar: false,
        })
    }
}

struct Reader<'a> {
    model: &'a OnnxModel,
    makers: &'a HashMap<&'a str, &'a NodeProto>,
    steps: usize,
}

impl<'a> Reader<'a> {
    /// The values of a tensor; `None` if it is not made of constants and sizes alone.
    fn read(&mut self, name: &str) -> Option<Sizes<'a>> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return None;
        }
        if let Some(constant) = self.integers(name) {
            return Some(constant);
        }
        let node = *self.makers.get(name)?;
        let input = node.input.first()?;
        if is_op(node, "Cast") {
            let to = traverse::attribute(node, "to")?.i();
            // Types wide enough for sizes.
            let is_wide = [OnnxType::Int32, OnnxType::Int64]
                .contains(&OnnxType::try_from(i32::try_from(to).ok()?).ok()?);
            self.read(input).filter(|_| is_wide)
        } else if is_op(node, "Unsqueeze") {
            let scalar = self.read(input)?;
            scalar.is_scalar.then_some(Sizes {
                is_scalar: false,
                ..scalar
            })
        } else if is_op(node, "Gather") {
            self.gathered(node)
        } else if is_op(node, "Slice") {
            self.slice(node)
        } else if is_op(node, "Concat") {
            let mut dims = Vec::new();
            for part in &node.input {
                let part = self.read(part)?;
                if part.is_scalar {
                    return None;
                }
                dims.extend(part.dims);
            }
            Sizes::vector(dims)
        } else {
            None
        }
    }

    /// A constant of integers.
    fn integers(&self, name: &str) -> Option<Sizes<'a>> {
        let constant = self.model.constant(name)?;
        let dims = match (constant.as_slice::<i64>(), constant.as_slice::<i32>()) {
            (Some(values), _) => values.iter().map(|&it| Dim::Is(it)).collect(),
            (_, Some(values)) => values.iter().map(|&it| Dim::Is(it.into())).collect(),
            _ => return None,
        };
        match constant.shape().len() {
            0 => Some(Sizes {
                dims,
                is_scalar: true,
            }),
            1 => Sizes::vector(dims),
            _ => None,
        }
    }

    /// Elements of a vector, or of a tensor's shape.
    fn gathered(&mut self, node: &NodeProto) -> Option<Sizes<'a>> {
        let [from, indices] = node.input.as_slice() else {
            return None;
        };
        let indices = self.integers(indices)?;
        let maker = self.makers.get(from.as_str()).copied();
        let shape = maker.filter(|it| is_op(it, "Shape") && it.attribute.is_empty());
        let from = match shape {
            Some(_) => None,
            None => Some(self.read(from)?).filter(|it| !it.is_scalar),
        };
        let pick = |index: &Dim<'a>| {
            let Dim::Is(index) = *index else { return None };
            let index = usize::try_from(index).ok()?;
            match (shape, &from) {
                (Some(shape), _) => Some(Dim::Of(shape.input.first()?, index)),
                (None, Some(from)) => from.dims.get(index).copied(),
                (None, None) => None,
            }
        };
        Some(Sizes {
            dims: indices.dims.iter().map(pick).collect::<Option<_>>()?,
            ..indices
        })
    }

    /// A part of a vector, step by step.
    fn slice(&mut self, node: &NodeProto) -> Option<Sizes<'a>> {
        let [from, start, end, others @ ..] = node.input.as_slice() else {
            return None;
        };
        let from = self.read(from).filter(|it| !it.is_scalar)?;
        let one = |name: &String| match self.integers(name)?.dims.as_slice() {
            &[Dim::Is(number)] => Some(number),
            _ => None,
        };
        let (start, end) = (one(start)?, one(end)?);
        // Along axis 0, with step 1.
        let usual = [0, 1];
        if others.len() > usual.len() {
            return None;
        }
        for (name, usual) in others.iter().zip(usual) {
            if one(name)? != usual {
                return None;
            }
        }
        let len = i64::try_from(from.dims.len()).ok()?;
        let place = |index: i64| {
            let from_start = if index < 0 {
                index.checked_add(len)?
            } else {
                index
            };
            usize::try_from(from_start.clamp(0, len)).ok()
        };
        let part = from.dims.get(place(start)?..place(end)?)?;
        Sizes::vector(part.to_vec())
    }

    /// Whether the size of `data` along `axis` is that of `tensor` along `its_axis`.
    fn is_size_of(&mut self, data: &str, axis: usize, tensor: &str, its_axis: usize) -> bool {
        if data == tensor {
            return axis == its_axis;
        }
        self.steps += 1;
        let maker = self.makers.get(data).copied();
        let Some(transpose) = maker.filter(|it| is_op(it, "Transpose")) else {
            return false;
        };
        let from = traverse::attribute(transpose, "perm").and_then(|it| it.ints.get(axis));
        let from = from.and_then(|&from| usize::try_from(from).ok());
        match (from, transpose.input.first()) {
            (Some(from), Some(input)) if self.steps <= MAX_STEPS => {
                self.is_size_of(input, from, tensor, its_axis)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::io_transforms::{int_attribute, ints_attribute};
    use super::super::node;
    use super::*;
    use proto::onnx::{GraphProto, ModelProto, TensorProto};

    fn vector(name: &str, values: &[i64]) -> TensorProto {
        let tensor = Tensor::from_vec(&[values.len()], values.to_vec()).unwrap();
        from_tensor(name, &tensor).unwrap()
    }

    fn scalar(name: &str, value: i64) -> TensorProto {
        from_tensor(name, &Tensor::from_vec(&[], vec![value]).unwrap()).unwrap()
    }

    fn transpose(data: &str, perm: &[i64], output: &str) -> NodeProto {
        let mut transpose = node("Transpose", &[data], output);
        transpose.attribute.push(ints_attribute("perm", perm));
        transpose
    }

    /// The shape of the last node, a reshape; `None` if it is still computed.
    fn settled(nodes: Vec<NodeProto>, constants: Vec<TensorProto>) -> Option<Vec<i64>> {
        let graph = GraphProto {
            node: nodes,
            initializer: constants,
            ..GraphProto::default()
        };
        let proto = ModelProto {
            graph: Some(graph),
            ..ModelProto::default()
        };
        let mut model = OnnxModel::parse("test.onnx", &proto.encode_to_vec()).unwrap();
        model.settle_shapes();
        let shape = &model.graph().node.last().unwrap().input[1];
        let constant = model.constant(shape)?;
        constant.as_slice::<i64>().map(<[i64]>::to_vec)
    }

    /// As tf2onnx flattens: with the shape of the image in its original layout, `perm`.
    fn flattened(perm: &[i64], slice: [i64; 2]) -> Option<Vec<i64>> {
        flattened_by_way_of(OnnxType::Int32, perm, slice)
    }

    fn flattened_by_way_of(ty: OnnxType, perm: &[i64], slice: [i64; 2]) -> Option<Vec<i64>> {
        let mut narrow = node("Cast", &["original"], "narrow");
        narrow.attribute.push(int_attribute("to", ty as i64));
        let nodes = vec![
            node("Shape", &["x"], "shape"),
            node("Gather", &["shape", "order"], "original"),
            narrow,
            node("Slice", &["narrow", "start", "end", "zero"], "rows"),
            node("Concat", &["rows", "rest"], "flat"),
            transpose("x", perm, "nhwc"),
            node("Reshape", &["nhwc", "flat"], "y"),
        ];
        let constants = vec![
            vector("order", &[0, 2, 3, 1]),
            vector("start", &slice[..1]),
            vector("end", &slice[1..]),
            vector("zero", &[0]),
            vector("rest", &[1024]),
        ];
        settled(nodes, constants)
    }

    #[test]
    fn first_size_of_a_transposed_tensor_stays() {
        assert_eq!(flattened(&[0, 2, 3, 1], [0, 1]), Some(vec![0, 1024]));
        assert_eq!(flattened(&[0, 2, 3, 1], [-4, -3]), Some(vec![0, 1024]));
    }

    #[test]
    fn size_that_may_not_fit_its_type_is_computed() {
        let perm = [0, 2, 3, 1];
        assert_eq!(flattened_by_way_of(OnnxType::Uint8, &perm, [0, 1]), None);
        assert_eq!(flattened_by_way_of(OnnxType::Float16, &perm, [0, 1]), None);
    }

    #[test]
    fn size_that_has_another_place_is_computed() {
        assert_eq!(flattened(&[2, 0, 3, 1], [0, 1]), None);
        assert_eq!(flattened(&[0, 2, 3, 1], [1, 2]), None);
    }

    #[test]
    fn several_sizes_may_stay() {
        assert_eq!(flattened(&[0, 2, 3, 1], [0, 2]), Some(vec![0, 0, 1024]));
    }

    /// As PyTorch writes `x.view(x.size(0), -1)`, with the first size of `shaped`.
    fn viewed(shaped: &str, allowzero: i64) -> Option<Vec<i64>> {
        let mut reshape = node("Reshape", &["x", "view"], "y");
        reshape
            .attribute
            .push(int_attribute("allowzero", allowzero));
        let nodes = vec![
            node("Shape", &[shaped], "shape"),
            node("Gather", &["shape", "first"], "size"),
            node("Unsqueeze", &["size", "zero"], "rows"),
            node("Concat", &["rows", "rest"], "view"),
            reshape,
        ];
        let constants = vec![
            scalar("first", 0),
            vector("zero", &[0]),
            vector("rest", &[-1]),
        ];
        settled(nodes, constants)
    }

    #[test]
    fn first_size_of_the_tensor_itself_stays() {
        assert_eq!(viewed("x", 0), Some(vec![0, -1]));
    }

    #[test]
    fn size_of_another_tensor_and_a_true_zero_are_computed() {
        assert_eq!(viewed("z", 0), None);
        assert_eq!(viewed("x", 1), None);
    }

    #[test]
    fn shape_of_many_parts_is_left_alone() {
        let mut nodes = vec![node("Concat", &["none", "none"], "c0")];
        for level in 1..60 {
            let (input, output) = (format!("c{}", level - 1), format!("c{level}"));
            nodes.push(node("Concat", &[&input, &input], &output));
        }
        nodes.push(node("Reshape", &["x", "c59"], "y"));
        assert_eq!(settled(nodes, vec![vector("none", &[])]), None);
    }
}
