//! Batch normalization written as a multiplication and an addition with one number per channel.
//!
//! ONNX Runtime merges both into a convolution directly before them, but not after an activation or a pool.
//! There it keeps images in blocks of channels (NCHWc), so the addition makes it convert each image to the
//! ordinary layout and back. It computes `BatchNormalization` on the blocks themselves.

use std::collections::HashMap;

use super::constant::{MAX_HOPS, from_tensor};
use super::visit::Names;
use super::{OnnxModel, is_op, node, traverse};
use base::tensor::Tensor;
use proto::onnx::{AttributeProto, NodeProto, TensorProto, attribute_proto::AttributeType};

/// The first opset in which the operator has the meaning used here.
const SINCE: i64 = 9;

/// Operators that ONNX Runtime computes on blocks of channels and that do not mix channels.
const ON_BLOCKS: &[&str] = &[
    "AveragePool",
    "Clip",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "LeakyRelu",
    "MaxPool",
    "Relu",
    "Sigmoid",
    "Tanh",
];

impl OnnxModel {
    /// Replaces a multiplication and an addition after a convolution's activation or pool with one operator.
    /// Returns whether it replaced any.
    pub(super) fn join_batch_norms(&mut self) -> bool {
        if self.opset() < SINCE {
            return false;
        }
        let found = self.batch_norms();
        if found.is_empty() {
            return false;
        }
        let graph = self.graph_mut();
        for it in &found {
            graph.node[it.sum] = it.node.clone();
        }
        let products: Vec<usize> = found.iter().map(|it| it.product).collect();
        let mut index = 0..;
        graph
            .node
            .retain(|_| index.next().is_none_or(|index| !products.contains(&index)));
        graph
            .initializer
            .extend(found.into_iter().flat_map(|it| it.parameters));
        true
    }

    fn batch_norms(&self) -> Vec<BatchNorm> {
        let graph = self.graph();
        let mut values = Values::default();
        for (index, node) in graph.node.iter().enumerate() {
            let outputs = node.output.iter().map(|name| (name.as_str(), node));
            values.makers.extend(outputs);
            traverse::for_each_name_read(node, &mut |name| {
                values.readers.entry(name).or_default().push(index);
            });
        }
        for output in &graph.output {
            // Also read from outside.
            values.readers.remove(output.name());
        }
        let products = graph.node.iter().enumerate();
        let products = products.filter(|(_, node)| is_op(node, "Mul"));
        let mut names = self.names();
        products
            .filter_map(|(index, node)| self.batch_norm(&values, &mut names, index, node))
            .collect()
    }

    fn batch_norm(
        &self,
        values: &Values<'_>,
        names: &mut Names,
        index: usize,
        product: &NodeProto,
    ) -> Option<BatchNorm> {
        let [multiplied] = product.output.as_slice() else {
            return None;
        };
        let &[sum_index] = values.readers.get(multiplied.as_str())?.as_slice() else {
            return None;
        };
        let sum = &self.graph().node[sum_index];
        if !is_op(sum, "Add") {
            return None;
        }
        let ((data, scale), channels) = operands(product).find_map(|(data, constant)| {
            let channels = self.channels_on_blocks(values, data)?;
            Some(((data, constant), channels))
        })?;
        let scale = self.per_channel(scale, channels)?;
        let mut offsets = operands(sum).filter(|(data, _)| *data == multiplied);
        let offset = self.per_channel(offsets.next()?.1, channels)?;
        let [output] = sum.output.as_slice() else {
            return None;
        };
        BatchNorm::new(names, data, output, [scale, offset], [index, sum_index])
    }

    /// The number of channels of a tensor that comes from a convolution of images through at least one other
    /// operator.
    fn channels_on_blocks(&self, values: &Values<'_>, name: &str) -> Option<usize> {
        let mut name = name;
        for hop in 0..MAX_HOPS {
            let maker = values.makers.get(name)?;
            if is_op(maker, "Conv") {
                let weights = self.constant_initializer(maker.input.get(1)?)?;
                let &[channels, _, _, _] = weights.dims.as_slice() else {
                    return None;
                };
                return usize::try_from(channels).ok().filter(|_| hop > 0);
            }
            if !ON_BLOCKS.iter().any(|op_type| is_op(maker, op_type)) {
                return None;
            }
            name = maker.input.first()?;
        }
        None
    }

    /// The values of a constant that holds one per channel of an image. `None` if any is not finite: the
    /// operator's formula treats those differently from a multiplication and an addition.
    fn per_channel(&self, name: &str, channels: usize) -> Option<Vec<f32>> {
        let constant = self.constant(name)?;
        let fits =
            matches!(constant.shape(), [1, count, 1, 1] | [count, 1, 1] if *count == channels);
        let numbers = constant.as_slice::<f32>().filter(|_| fits)?;
        let are_finite = numbers.iter().all(|number| number.is_finite());
        are_finite.then(|| numbers.to_vec())
    }
}

/// Both ways to assign an operator's two inputs.
fn operands(node: &NodeProto) -> impl Iterator<Item = (&str, &str)> {
    let ways = match node.input.as_slice() {
        [a, b] => vec![(a.as_str(), b.as_str()), (b.as_str(), a.as_str())],
        _ => Vec::new(),
    };
    ways.into_iter()
}

/// The nodes that write and read each tensor.
#[derive(Default)]
struct Values<'a> {
    makers: HashMap<&'a str, &'a NodeProto>,
    /// Indices of nodes; no entry for the graph's outputs.
    readers: HashMap<&'a str, Vec<usize>>,
}

struct BatchNorm {
    /// Indices of nodes.
    product: usize,
    sum: usize,
    /// The node that replaces both.
    node: NodeProto,
    parameters: [TensorProto; 4],
}

impl BatchNorm {
    fn new(
        names: &mut Names,
        data: &str,
        output: &str,
        [scale, offset]: [Vec<f32>; 2],
        [product, sum]: [usize; 2],
    ) -> Option<Self> {
        let channels = scale.len();
        let mut parameter = |part: &str, values: Vec<f32>| {
            let name = names.take(&format!("{output}/batch_norm/{part}"));
            from_tensor(&name, &Tensor::from_vec(&[channels], values)?)
        };
        // With a mean of 0 and a variance of 1, only the multiplication and the addition remain.
        let parameters = [
            parameter("scale", scale)?,
            parameter("offset", offset)?,
            parameter("mean", vec![0.0; channels])?,
            parameter("variance", vec![1.0; channels])?,
        ];
        let inputs: Vec<&str> = [data]
            .into_iter()
            .chain(parameters.iter().map(|it| it.name()))
            .collect();
        let mut node = node("BatchNormalization", &inputs, output);
        node.attribute.push(AttributeProto {
            name: Some("epsilon".to_owned()),
            r#type: Some(AttributeType::Float as i32),
            f: Some(0.0),
            ..AttributeProto::default()
        });
        Some(Self {
            product,
            sum,
            node,
            parameters,
        })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use proto::onnx::{GraphProto, ModelProto, OperatorSetIdProto, ValueInfoProto};

    const CHANNELS: usize = 3;

    fn floats(name: &str, shape: &[usize]) -> TensorProto {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|it: usize| it as f32).collect();
        from_tensor(name, &Tensor::from_vec(shape, values).unwrap()).unwrap()
    }

    struct Case {
        opset: i64,
        nodes: Vec<NodeProto>,
        weights: Vec<usize>,
        parameters: Vec<usize>,
        returned: &'static str,
    }

    impl Default for Case {
        fn default() -> Self {
            Self {
                opset: 13,
                nodes: vec![
                    node("Conv", &["x", "w"], "conv"),
                    node("Relu", &["conv"], "relu"),
                    node("MaxPool", &["relu"], "pool"),
                    node("Mul", &["scale", "pool"], "product"),
                    node("Add", &["product", "offset"], "sum"),
                    node("Neg", &["sum"], "y"),
                ],
                weights: vec![CHANNELS, 1, 3, 3],
                parameters: vec![1, CHANNELS, 1, 1],
                returned: "y",
            }
        }
    }

    impl Case {
        fn joined(self) -> OnnxModel {
            let returned = ValueInfoProto {
                name: Some(self.returned.to_owned()),
                ..ValueInfoProto::default()
            };
            let graph = GraphProto {
                node: self.nodes,
                initializer: vec![
                    floats("w", &self.weights),
                    floats("scale", &self.parameters),
                    floats("offset", &self.parameters),
                ],
                output: vec![returned],
                ..GraphProto::default()
            };
            let proto = ModelProto {
                graph: Some(graph),
                opset_import: vec![OperatorSetIdProto {
                    domain: None,
                    version: Some(self.opset),
                }],
                ..ModelProto::default()
            };
            let mut model = OnnxModel::parse("test.onnx", &proto.encode_to_vec()).unwrap();
            model.join_batch_norms();
            model
        }

        #[track_caller]
        fn stays_as_it_is(self) {
            let before = self.nodes.clone();
            assert_eq!(self.joined().graph().node, before);
        }
    }

    #[test]
    fn product_and_sum_become_one_operator() {
        let model = Case::default().joined();
        let nodes = &model.graph().node;
        let names: Vec<&str> = nodes.iter().map(|it| it.op_type()).collect();
        assert_eq!(
            names,
            ["Conv", "Relu", "MaxPool", "BatchNormalization", "Neg"]
        );
        let joined = &nodes[3];
        assert_eq!(
            (joined.input[0].as_str(), joined.output[0].as_str()),
            ("pool", "sum")
        );
        let parameters = joined.input[1..].iter().map(|name| {
            let tensor = model.constant(name).unwrap();
            tensor.as_slice::<f32>().unwrap().to_vec()
        });
        let parameters: Vec<Vec<f32>> = parameters.collect();
        let counted = vec![0.0, 1.0, 2.0];
        let expected = [counted.clone(), counted, vec![0.0; 3], vec![1.0; 3]];
        assert_eq!(parameters, expected);
    }

    #[test]
    fn right_after_a_convolution_both_are_left_alone() {
        let mut case = Case::default();
        case.nodes.drain(1..3);
        case.nodes[1] = node("Mul", &["conv", "scale"], "product");
        case.stays_as_it_is();
    }

    #[test]
    fn product_that_others_see_stays_as_it_is() {
        let mut read_twice = Case::default();
        read_twice.nodes[5] = node("Sub", &["sum", "product"], "y");
        read_twice.stays_as_it_is();
        let returned = Case {
            returned: "product",
            ..Case::default()
        };
        returned.stays_as_it_is();
    }

    #[test]
    fn parameters_have_to_be_one_for_each_channel_of_an_image() {
        for parameters in [vec![1, 1, 1, 1], vec![CHANNELS], vec![1, 1, CHANNELS, 1]] {
            let case = Case {
                parameters,
                ..Case::default()
            };
            case.stays_as_it_is();
        }
        let row = Case {
            weights: vec![CHANNELS, 1, 3],
            ..Case::default()
        };
        row.stays_as_it_is();
    }

    #[test]
    fn other_definition_of_the_operator_is_not_used() {
        let old = Case {
            opset: 8,
            ..Case::default()
        };
        old.stays_as_it_is();
    }
}
