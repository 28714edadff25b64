//! The features that a signature's examples are parsed into: from a map, from the parse node in the ONNX
//! file, or from the one in `saved_model.pb`.

use std::collections::BTreeMap;

use crate::signature::{FeatureTensor, SavedParseNode, feature_default, feature_shape};
use base::error::{Result, ServingError};
use base::tensor::DataType;
use codec::example::{DenseFeature, ExampleSpec, RaggedFeature, SparseFeature};
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
    dense: Vec<DenseFeature>,
    sparse: Vec<SparseFeature>,
    ragged: Vec<RaggedFeature>,
    feeds: BTreeMap<String, (FeatureTensor, DataType)>,
}

impl Collector {
    fn feed(&mut self, tensor: &str, feature: FeatureTensor, dtype: DataType) {
        if !tensor.is_empty() {
            self.feeds.insert(tensor.to_owned(), (feature, dtype));
        }
    }

    fn dense(&mut self, feature: DenseFeature, tensor: &str) {
        self.feed(
            tensor,
            FeatureTensor::Dense(self.dense.len()),
            feature.dtype,
        );
        self.dense.push(feature);
    }

    fn sparse(&mut self, feature: SparseFeature, [indices, values, shape]: [&str; 3]) {
        let index = self.sparse.len();
        self.feed(
            indices,
            FeatureTensor::SparseIndices(index),
            DataType::Int64,
        );
        self.feed(values, FeatureTensor::SparseValues(index), feature.dtype);
        self.feed(shape, FeatureTensor::SparseShape(index), DataType::Int64);
        self.sparse.push(feature);
    }

    fn ragged(&mut self, feature: RaggedFeature, [values, splits]: [&str; 2]) {
        let index = self.ragged.len();
        self.feed(values, FeatureTensor::RaggedValues(index), feature.dtype);
        self.feed(
            splits,
            FeatureTensor::RowSplits(index),
            feature.splits_dtype,
        );
        self.ragged.push(feature);
    }

    fn finish(self, takes_scalar: bool) -> Result<Features> {
        Ok(Features {
            spec: ExampleSpec::try_new(self.dense, self.sparse, self.ragged)?,
            feeds: self.feeds,
            takes_scalar,
        })
    }
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

/// The features of a parse node in an ONNX file, completed from the SavedModel's node.
///
/// # Errors
///
/// `INVALID_ARGUMENT` if neither has a feature's dtype or shape.
pub(super) fn from_node(node: &ParseExample, saved: &[SavedParseNode]) -> Result<Features> {
    let saved = original_of(node, saved);
    let mut features = Collector::default();
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
            shape: open_shape(&shape),
            default: key.default.clone().or(saved_default),
        };
        features.dense(dense, &key.tensor);
    }
    for (index, it) in node.sparse.iter().enumerate() {
        let dtype = saved.map(|saved| saved.sparse[index].1).or(it.dtype);
        let dtype = dtype.ok_or_else(|| unknown(&it.key, "dtype"))?;
        let key = it.key.clone();
        let [indices, values, shape] = &it.tensors;
        features.sparse(SparseFeature { key, dtype }, [indices, values, shape]);
    }
    for (index, it) in node.ragged.iter().enumerate() {
        let saved = saved.map(|saved| &saved.ragged[index]);
        let dtype = saved.map(|saved| saved.1).or(it.dtype);
        let ragged = RaggedFeature {
            key: it.key.clone(),
            dtype: dtype.ok_or_else(|| unknown(&it.key, "dtype"))?,
            splits_dtype: saved
                .map(|saved| saved.2)
                .or(it.splits_dtype)
                .unwrap_or(DataType::Int64),
        };
        let [values, splits] = &it.tensors;
        features.ragged(ragged, [values, splits]);
    }
    features.finish(node.op_type == "ParseExampleV2")
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
    for it in &saved.dense {
        let dense = DenseFeature {
            key: it.key.clone(),
            dtype: it.dtype,
            shape: open_shape(&it.shape),
            default: it.default.clone(),
        };
        features.dense(dense, input(&it.key));
    }
    for (key, dtype) in &saved.sparse {
        let (key, dtype) = (key.clone(), *dtype);
        features.sparse(SparseFeature { key, dtype }, [""; 3]);
    }
    for (key, dtype, splits_dtype) in &saved.ragged {
        let ragged = RaggedFeature {
            key: key.clone(),
            dtype: *dtype,
            splits_dtype: *splits_dtype,
        };
        features.ragged(ragged, [""; 2]);
    }
    features.finish(saved.takes_scalar)
}

/// The node of `saved_model.pb` that a node of an ONNX file was converted from: the one with the same keys
/// and the same name, or the only one with these keys.
fn original_of<'a>(node: &ParseExample, saved: &'a [SavedParseNode]) -> Option<&'a SavedParseNode> {
    let same_keys = |saved: &&SavedParseNode| {
        let dense = saved.dense.iter().map(|it| &it.key);
        let sparse = saved.sparse.iter().map(|it| &it.0);
        let ragged = saved.ragged.iter().map(|it| &it.0);
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
    let alike = |it: &&SavedParseNode| {
        (&it.dense, &it.sparse, &it.ragged) == (&first.dense, &first.sparse, &first.ragged)
    };
    chosen.iter().all(alike).then_some(first)
}

fn open_shape(shape: &[i64]) -> Vec<Option<usize>> {
    shape.iter().map(|&dim| usize::try_from(dim).ok()).collect()
}
