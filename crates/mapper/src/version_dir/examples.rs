//! The features that a signature's examples are parsed into: from a map, from the parse node in the ONNX
//! file, or from the one in `saved_model.pb`.

use std::collections::BTreeMap;

use crate::signature::{FeatureTensor, SavedParseNode, feature_default, feature_shape};
use base::error::{Result, ServingError};
use base::tensor::DataType;
use codec::example::{
    DeclaredFeatures, DenseFeature, ExampleSpec, RaggedFeature, SparseFeature, open_shape,
    takes_scalar,
};
use onnx::ParseExample;
use proto::onnx_model_server as map;

/// Features to parse, and the graph inputs that take them.
pub(super) struct Features {
    pub(super) spec: ExampleSpec,
    /// For each graph input, its feature tensor and dtype.
    pub(super) feeds: BTreeMap<String, (FeatureTensor, DataType)>,
    pub(super) takes_scalar: bool,
}

/// Collects features and the graph inputs that they feed.
#[derive(Default)]
struct Collector {
    declared: DeclaredFeatures,
    feeds: BTreeMap<String, (FeatureTensor, DataType)>,
    /// How many dense, sparse and ragged features earlier nodes have.
    earlier: [usize; 3],
}

impl Collector {
    /// The features that follow are those of another node. One that an earlier node has, too, is parsed once.
    fn next_node(&mut self) {
        let declared = &self.declared;
        self.earlier = [
            declared.dense.len(),
            declared.sparse.len(),
            declared.ragged.len(),
        ];
    }

    fn feed(&mut self, tensor: &str, feature: FeatureTensor, dtype: DataType) {
        if !tensor.is_empty() {
            self.feeds.insert(tensor.to_owned(), (feature, dtype));
        }
    }

    fn dense(&mut self, feature: DenseFeature, tensor: &str) {
        let dtype = feature.dtype;
        let index = place(&mut self.declared.dense, self.earlier[0], feature);
        self.feed(tensor, FeatureTensor::Dense(index), dtype);
    }

    fn sparse(&mut self, feature: SparseFeature, [indices, values, shape]: [&str; 3]) {
        let dtype = feature.dtype;
        let index = place(&mut self.declared.sparse, self.earlier[1], feature);
        self.feed(
            indices,
            FeatureTensor::SparseIndices(index),
            DataType::Int64,
        );
        self.feed(values, FeatureTensor::SparseValues(index), dtype);
        self.feed(shape, FeatureTensor::SparseShape(index), DataType::Int64);
    }

    fn ragged(&mut self, feature: RaggedFeature, [values, splits]: [&str; 2]) {
        let (dtype, splits_dtype) = (feature.dtype, feature.splits_dtype);
        let index = place(&mut self.declared.ragged, self.earlier[2], feature);
        self.feed(values, FeatureTensor::RaggedValues(index), dtype);
        self.feed(splits, FeatureTensor::RowSplits(index), splits_dtype);
    }

    fn finish(self, takes_scalar: bool) -> Result<Features> {
        Ok(Features {
            spec: ExampleSpec::try_new(self.declared)?,
            feeds: self.feeds,
            takes_scalar,
        })
    }
}

/// The place of a feature: that of an equal one among the `earlier`, else a new one.
fn place<T: PartialEq>(features: &mut Vec<T>, earlier: usize, feature: T) -> usize {
    let known = features[..earlier].iter().position(|it| *it == feature);
    known.unwrap_or_else(|| {
        features.push(feature);
        features.len() - 1
    })
}

/// The features that a map declares.
///
/// # Errors
///
/// `INVALID_ARGUMENT` if a feature is declared wrongly.
pub(super) fn from_map(
    example: &map::ExampleInput,
    dtype_of: &dyn Fn(&str) -> Option<DataType>,
) -> Result<Features> {
    let mut features = Collector::default();
    let known = |key: &str, number: i32, tensor: &str| {
        let dtype = DataType::from_number(number).or_else(|| dtype_of(tensor));
        dtype.ok_or_else(|| ServingError::invalid_argument(format!("feature '{key}' has no dtype")))
    };
    for feature in &example.feature {
        let dense = DenseFeature {
            key: feature.key.clone(),
            dtype: known(&feature.key, feature.dtype, &feature.tensor)?,
            shape: open_shape(&feature_shape(&feature.shape)),
            default: feature_default(feature)?,
        };
        features.dense(dense, &feature.tensor);
    }
    for it in &example.sparse_feature {
        let dtype = known(&it.key, it.dtype, &it.values_tensor)?;
        let key = it.key.clone();
        let tensors = [&it.indices_tensor, &it.values_tensor, &it.shape_tensor];
        features.sparse(SparseFeature { key, dtype }, tensors.map(String::as_str));
    }
    for it in &example.ragged_feature {
        let ragged = RaggedFeature {
            key: it.key.clone(),
            dtype: known(&it.key, it.dtype, &it.values_tensor)?,
            splits_dtype: dtype_of(&it.row_splits_tensor).unwrap_or(DataType::Int64),
        };
        let tensors = [&it.values_tensor, &it.row_splits_tensor];
        features.ragged(ragged, tensors.map(String::as_str));
    }
    features.finish(true)
}

/// The features of the nodes in an ONNX file that parse the same examples, completed from the SavedModel's nodes.
///
/// # Errors
///
/// `INVALID_ARGUMENT` if neither has a feature's dtype or shape, `UNIMPLEMENTED` if two nodes read a feature in
/// different ways.
pub(super) fn from_nodes(nodes: &[&ParseExample], saved: &[SavedParseNode]) -> Result<Features> {
    let mut features = Collector::default();
    for node in nodes {
        features.next_node();
        add_node(&mut features, node, saved)?;
    }
    let takes_scalar = nodes.iter().all(|it| takes_scalar(&it.op_type));
    let [first, second, ..] = nodes else {
        return features.finish(takes_scalar);
    };
    features.finish(takes_scalar).map_err(|error| {
        ServingError::unimplemented(format!(
            "{error}: the nodes '{}' and '{}' parse the same examples. Parse them once, with one \
             tf.io.parse_example, and export the model again",
            first.name, second.name
        ))
    })
}

fn add_node(features: &mut Collector, node: &ParseExample, saved: &[SavedParseNode]) -> Result<()> {
    let saved = original_of(node, saved).map(|saved| &saved.features);
    let unknown = |key: &str, what: &str| {
        ServingError::invalid_argument(format!(
            "the {what} of feature '{key}' is neither in the node '{}' of the ONNX file nor in \
             saved_model.pb; write an example_input into a signature_map.pbtxt",
            node.name
        ))
    };
    for (index, key) in node.dense.iter().enumerate() {
        let saved = saved.map(|saved| &saved.dense[index]);
        let dtype = saved.map(|saved| saved.dtype).or(key.dtype);
        let shape = saved.map(|saved| saved.shape.clone()).or(key.shape.clone());
        let shape = shape.ok_or_else(|| unknown(&key.key, "shape"))?;
        let saved_default = saved.and_then(|saved| saved.default.clone());
        let dense = DenseFeature {
            key: key.key.clone(),
            dtype: dtype.ok_or_else(|| unknown(&key.key, "dtype"))?,
            shape,
            default: key.default.clone().or(saved_default),
        };
        features.dense(dense, &key.tensor);
    }
    for (index, it) in node.sparse.iter().enumerate() {
        let dtype = saved.map(|saved| saved.sparse[index].dtype).or(it.dtype);
        let dtype = dtype.ok_or_else(|| unknown(&it.key, "dtype"))?;
        let key = it.key.clone();
        let [indices, values, shape] = &it.tensors;
        features.sparse(SparseFeature { key, dtype }, [indices, values, shape]);
    }
    for (index, it) in node.ragged.iter().enumerate() {
        let saved = saved.map(|saved| &saved.ragged[index]);
        let dtype = saved.map(|saved| saved.dtype).or(it.dtype);
        let ragged = RaggedFeature {
            key: it.key.clone(),
            dtype: dtype.ok_or_else(|| unknown(&it.key, "dtype"))?,
            splits_dtype: saved
                .map(|saved| saved.splits_dtype)
                .or(it.splits_dtype)
                .unwrap_or(DataType::Int64),
        };
        let [values, splits] = &it.tensors;
        features.ragged(ragged, [values, splits]);
    }
    Ok(())
}

/// The features of the SavedModel's parse node, for a graph that was cut after that node: its inputs have
/// the names of the keys.
///
/// # Errors
///
/// Those of [`ExampleSpec::try_new`].
pub(super) fn from_original(saved: &SavedParseNode, graph_inputs: &[String]) -> Result<Features> {
    let mut features = Collector::default();
    let input = |key: &str| -> &str {
        let name = graph_inputs
            .iter()
            .find(|name| name.strip_suffix(":0").unwrap_or(name) == key);
        name.map_or("", String::as_str)
    };
    let DeclaredFeatures {
        dense,
        sparse,
        ragged,
    } = saved.features.clone();
    for feature in dense {
        let tensor = input(&feature.key);
        features.dense(feature, tensor);
    }
    for feature in sparse {
        features.sparse(feature, [""; 3]);
    }
    for feature in ragged {
        features.ragged(feature, [""; 2]);
    }
    features.finish(saved.takes_scalar)
}

/// The node of `saved_model.pb` that a node of an ONNX file was converted from: the one with the same keys
/// and the same name, or the only one with these keys.
fn original_of<'a>(node: &ParseExample, saved: &'a [SavedParseNode]) -> Option<&'a SavedParseNode> {
    let same_keys = |saved: &&SavedParseNode| {
        let saved = &saved.features;
        let dense = saved.dense.iter().map(|it| &it.key);
        let sparse = saved.sparse.iter().map(|it| &it.key);
        let ragged = saved.ragged.iter().map(|it| &it.key);
        dense.eq(node.dense.iter().map(|it| &it.key))
            && sparse.eq(node.sparse.iter().map(|it| &it.key))
            && ragged.eq(node.ragged.iter().map(|it| &it.key))
    };
    // tf2onnx adds the names of inlined functions as a prefix.
    let same_name = |saved: &&SavedParseNode| {
        let rest = node.name.strip_suffix(saved.name.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
    };
    let with_keys: Vec<&SavedParseNode> = saved.iter().filter(same_keys).collect();
    let named: Vec<&SavedParseNode> = with_keys.iter().copied().filter(same_name).collect();
    let chosen = if named.is_empty() { with_keys } else { named };
    let first = *chosen.first()?;
    let alike = |it: &&SavedParseNode| it.features == first.features;
    chosen.iter().all(alike).then_some(first)
}
