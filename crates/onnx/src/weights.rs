//! Large weights, which are kept out of the protobuf that a backend reads: a protobuf is limited to 2 GiB,
//! and separate bytes can be passed on and shared without a copy.
//!
//! Not here: weights that the file itself stores in other files (`external`).

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use prost::Message;

use super::constant::{from_tensor, to_tensor};
use super::{OnnxModel, is_onnx_domain, traverse};
use base::error::{Result, ServingError};
use proto::onnx::{
    GraphProto, StringStringEntryProto, TensorProto, tensor_proto::DataLocation,
    tensor_proto::DataType as OnnxType,
};
use runtime::{GraphSource, Weight, WeightSharing};

/// The maximum size of a protobuf; ONNX Runtime does not read larger ones.
const MAX_PROTOBUF_BYTES: usize = i32::MAX as usize;
/// Smaller weights stay in the protobuf: optimisations look at shapes and similar values.
const MIN_WEIGHT_BYTES: usize = 16 << 10;
/// ONNX Runtime stores values larger than this outside its graph.
const MAX_BYTES_IN_GRAPH: usize = 127;
/// Operators whose weights ONNX Runtime converts to a layout of its own, separately for each graph. Sharing
/// their weights would only add one more copy.
const TRANSFORM_WEIGHTS: &[&str] = &["Conv", "ConvTranspose"];

/// Operators that read single rows or elements of a weight. Backends derive nothing from such a weight.
const READING: &[&str] = &["Gather", "GatherElements", "GatherND"];
/// Smaller weights are copied unless they are shared: it does not matter.
const MIN_BYTES_IN_PLACE: usize = 1 << 20;
/// A weight is a large part of a model if it has more than the bytes of the weights divided by this.
const LARGE_PARTS: usize = 8;

impl OnnxModel {
    /// The model in the form that a backend takes. The weights in `sharing` are passed as shared ones.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if the model without its large weights is larger than a protobuf can be.
    pub fn into_source(mut self, sharing: Option<WeightSharing>) -> Result<GraphSource> {
        let work_follows_shapes = self.work_follows_shapes();
        let in_place = self.used_in_place(sharing.as_ref());
        let mut weights = Vec::new();
        for tensor in &mut self.graph_mut().initializer {
            let location = format!("weight_{}", weights.len());
            let in_place = in_place.contains(tensor.name());
            let weight = take_weight(tensor, location, 0);
            weights.extend(weight.map(|it| Weight { in_place, ..it }));
        }
        if self.proto.encoded_len() > MAX_PROTOBUF_BYTES {
            return Err(ServingError::invalid_argument(format!(
                "{}: the model takes more than 2 GiB without the weights of its main graph",
                self.origin
            )));
        }
        Ok(GraphSource {
            origin: self.origin,
            model: self.proto.encode_to_vec().into(),
            weights,
            sharing,
            declared_shapes: self.declared_shapes,
            work_follows_shapes,
        })
    }

    /// The large weights that several graphs of the model can share: the address of each, by name.
    pub fn shareable_weights(&self) -> HashMap<&str, usize> {
        let graph = self.graph();
        let transformed = transformed_weights(graph);
        let weights = graph.initializer.iter().filter_map(|tensor| {
            let data = weight_data(tensor)?;
            let name = tensor.name();
            (!transformed.contains(name)).then_some((name, data.as_ptr() as usize))
        });
        weights.collect()
    }

    /// The names of the weights that a backend should not copy: shared ones, those that kernels only read, and
    /// those that are a large part of the model, because a backend's copies of one weight exist at the same time.
    fn used_in_place(&self, sharing: Option<&WeightSharing>) -> HashSet<String> {
        let graph = self.graph();
        let users = users(graph);
        let transformed = transformed_weights(graph);
        let total = self.weight_bytes();
        let weights = graph.initializer.iter().filter(|tensor| {
            let name = tensor.name();
            let (Some(data), Some(users)) = (weight_data(tensor), users.get(name)) else {
                return false;
            };
            let is_only_read = users.iter().all(|it| READING.contains(it));
            let is_large_part = data.len() > total / LARGE_PARTS && !transformed.contains(name);
            sharing.is_some_and(|it| it.contains(name))
                || (data.len() >= MIN_BYTES_IN_PLACE && (is_only_read || is_large_part))
        });
        weights.map(|it| it.name().to_owned()).collect()
    }

    /// The bytes of the main graph's weights.
    pub fn weight_bytes(&self) -> usize {
        let weights = self.graph().initializer.iter();
        weights.filter_map(weight_data).map(Bytes::len).sum()
    }
}

/// If several values have one name, here or in a nested graph, keeps the one that ONNX Runtime uses: the
/// last, or the last but one for values that it stores outside the graph.
pub(super) fn drop_repeated(graph: &mut GraphProto) {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, tensor) in graph.initializer.iter().enumerate() {
        places.entry(tensor.name()).or_default().push(index);
    }
    if places.len() < graph.initializer.len() {
        let taken = places
            .values()
            .filter_map(|places| match places.as_slice() {
                [.., other, last] if is_kept_beside(&graph.initializer[*last]) => Some(*other),
                places => places.last().copied(),
            });
        let taken: HashSet<usize> = taken.collect();
        let mut index = 0..;
        graph
            .initializer
            .retain(|_| index.next().is_none_or(|index| taken.contains(&index)));
    }
    for nested in graph.node.iter_mut().flat_map(traverse::subgraphs_mut) {
        drop_repeated(nested);
    }
}

/// Whether ONNX Runtime stores the value outside the graph.
fn is_kept_beside(tensor: &TensorProto) -> bool {
    let bytes = element_bits(tensor.data_type()).and_then(|bits| byte_count(tensor, bits));
    bytes.is_some_and(|bytes| bytes > MAX_BYTES_IN_GRAPH)
}

fn byte_count(tensor: &TensorProto, bits: usize) -> Option<usize> {
    let mut count = 1usize;
    for &dim in &tensor.dims {
        count = count.checked_mul(usize::try_from(dim).ok()?)?;
    }
    Some(count.checked_mul(bits)?.div_ceil(8))
}

/// Converts large tensors whose elements are listed one by one to `raw_data`.
pub(super) fn make_raw(graph: &mut GraphProto) {
    for tensor in &mut graph.initializer {
        let is_large = tensor.encoded_len() >= MIN_WEIGHT_BYTES;
        if !is_large || tensor.raw_data.is_some() || !tensor.string_data.is_empty() {
            continue;
        }
        let raw = to_tensor(tensor).and_then(|it| from_tensor(tensor.name(), &it));
        if let Some(raw) = raw {
            tensor.raw_data = raw.raw_data;
            tensor.float_data = Vec::new();
            tensor.double_data = Vec::new();
            tensor.int32_data = Vec::new();
            tensor.int64_data = Vec::new();
            tensor.uint64_data = Vec::new();
        }
    }
}

/// For each name that nodes of the main graph or graphs nested in them read, the operators of the outer nodes.
fn users(graph: &GraphProto) -> HashMap<&str, HashSet<&str>> {
    let mut users: HashMap<&str, HashSet<&str>> = HashMap::new();
    for node in &graph.node {
        traverse::for_each_name_read(node, &mut |name| {
            users.entry(name).or_default().insert(node.op_type());
        });
    }
    users
}

fn transformed_weights(graph: &GraphProto) -> HashSet<&str> {
    let mut names = HashSet::new();
    traverse::for_each_node(&graph.node, &mut |node| {
        if is_onnx_domain(node.domain()) && TRANSFORM_WEIGHTS.contains(&node.op_type()) {
            names.extend(node.input.iter().skip(1).map(String::as_str));
        }
    });
    names
}

/// The data of a large tensor, if its size matches its declaration; a wrong one is left for the backend to
/// refuse.
fn weight_data(tensor: &TensorProto) -> Option<&Bytes> {
    let data = tensor.raw_data.as_ref()?;
    let bits = element_bits(tensor.data_type())?;
    let bytes = byte_count(tensor, bits)?;
    (data.len() >= MIN_WEIGHT_BYTES && data.len() == bytes).then_some(data)
}

/// Replaces the data of a large tensor with a reference to its place in the file `location`.
pub(super) fn take_weight(
    tensor: &mut TensorProto,
    location: String,
    offset: usize,
) -> Option<Weight> {
    let data = weight_data(tensor)?.clone();
    tensor.raw_data = None;
    tensor.data_location = Some(DataLocation::External.into());
    tensor.external_data = [
        ("location", location.clone()),
        ("offset", offset.to_string()),
        ("length", data.len().to_string()),
    ]
    .map(|(key, value)| StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value),
    })
    .to_vec();
    Some(Weight {
        name: tensor.name().to_owned(),
        location,
        elem_type: tensor.data_type(),
        shape: tensor.dims.clone(),
        data,
        in_place: false,
    })
}

/// The number of bits of an element in `raw_data`; `None` for strings and unknown types.
fn element_bits(elem_type: i32) -> Option<usize> {
    use OnnxType as Type;
    Some(match Type::try_from(elem_type).ok()? {
        Type::Complex128 => 128,
        Type::Double | Type::Int64 | Type::Uint64 | Type::Complex64 => 64,
        Type::Float | Type::Int32 | Type::Uint32 => 32,
        Type::Float16 | Type::Bfloat16 | Type::Int16 | Type::Uint16 => 16,
        Type::Int8 | Type::Uint8 | Type::Bool => 8,
        Type::Float8e4m3fn
        | Type::Float8e4m3fnuz
        | Type::Float8e5m2
        | Type::Float8e5m2fnuz
        | Type::Float8e8m0 => 8,
        Type::Int4 | Type::Uint4 | Type::Float4e2m1 => 4,
        Type::Int2 | Type::Uint2 => 2,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::onnx::ModelProto;

    fn tensor(elements: usize, raw: Option<Vec<u8>>) -> TensorProto {
        TensorProto {
            name: Some("w".to_owned()),
            dims: vec![elements as i64],
            data_type: Some(OnnxType::Float.into()),
            raw_data: raw.map(Bytes::from),
            ..TensorProto::default()
        }
    }

    fn source(tensor: TensorProto) -> GraphSource {
        let proto = ModelProto {
            graph: Some(GraphProto {
                initializer: vec![tensor],
                ..GraphProto::default()
            }),
            ..ModelProto::default()
        };
        let model = OnnxModel::parse("test.onnx", &proto.encode_to_vec()).unwrap();
        model.into_source(None).unwrap()
    }

    #[test]
    fn large_weights_leave_the_protobuf() {
        let data = vec![7; 4 * 5000];
        let source = source(tensor(5000, Some(data.clone())));
        assert!(source.model.len() < 200, "{}", source.model.len());
        let [weight] = source.weights.as_slice() else {
            panic!("{:?}", source.weights);
        };
        assert_eq!(
            (weight.name.as_str(), weight.shape.as_slice()),
            ("w", &[5000][..])
        );
        assert_eq!(weight.data, data);
    }

    /// The weights that are used in place, of a model that reads each by an operator.
    fn in_place(weights: &[(&str, usize, &str)], sharing: Option<WeightSharing>) -> Vec<String> {
        let node = |&(name, _, op_type): &(&str, usize, &str)| proto::onnx::NodeProto {
            op_type: Some(op_type.to_owned()),
            input: vec!["x".to_owned(), name.to_owned()],
            output: vec![format!("{name}_read")],
            ..Default::default()
        };
        let weight = |&(name, bytes, _): &(&str, usize, &str)| TensorProto {
            name: Some(name.to_owned()),
            ..tensor(bytes / 4, Some(vec![0; bytes]))
        };
        let proto = ModelProto {
            graph: Some(GraphProto {
                node: weights
                    .iter()
                    .filter(|it| !it.2.is_empty())
                    .map(node)
                    .collect(),
                initializer: weights.iter().map(weight).collect(),
                ..GraphProto::default()
            }),
            ..ModelProto::default()
        };
        let model = OnnxModel::from_proto("test", proto).unwrap();
        let weights = model.into_source(sharing).unwrap().weights;
        let weights = weights.into_iter().filter(|it| it.in_place);
        weights.map(|it| it.name).collect()
    }

    #[test]
    fn large_parts_and_weights_that_are_only_read_are_used_in_place() {
        let small = [
            ("table", 1 << 20, "Gather"),
            ("small", (1 << 20) - 4, "Gather"),
        ];
        let others = [
            ("matrix", 2 << 20, "MatMul"),
            ("part", 1 << 20, "MatMul"),
            ("filter", 5 << 20, "Conv"),
            ("unread", 2 << 20, ""),
        ];
        let weights = [&small[..], &others[..]].concat();
        assert_eq!(in_place(&weights, None), ["table", "matrix"]);
        let names = ["part", "small", "unread"].map(str::to_owned);
        let sharing = WeightSharing::new(names.into());
        let found = in_place(&weights, Some(sharing));
        assert_eq!(found, ["table", "small", "matrix", "part"]);
    }

    #[test]
    fn elements_listed_one_by_one_are_weights_too() {
        let mut listed = tensor(5000, None);
        listed.float_data = vec![1.5; 5000];
        let source = source(listed);
        assert!(source.model.len() < 200, "{}", source.model.len());
        assert_eq!(source.weights[0].data, 1.5f32.to_le_bytes().repeat(5000));
    }

    #[test]
    fn small_and_damaged_tensors_stay() {
        for (elements, bytes) in [(3, 12), (5000, 4 * 5000 - 1), (5001, 4 * 5000)] {
            let source = source(tensor(elements, Some(vec![0; bytes])));
            assert!(source.weights.is_empty(), "{elements}");
            assert!(source.model.len() >= bytes);
        }
    }
}
