//! The names of the outputs of TensorFlow's operators that have several.
//!
//! Within functions a reference gives the output's name and its number under that name; everything else counts
//! outputs. All other operators have one named output, which can be a list. Source: the operators' definitions
//! (`tensorflow/core/ops`).

use proto::tensorflow::{NodeDef, attr_value};

use crate::graph::attribute;

/// How many outputs one name stands for.
enum Count {
    One,
    /// The value of this attribute, or the length of its list.
    Of(&'static str),
}

use Count::{Of, One};

const OUTPUTS: &[(&str, &[(&str, Count)])] = &[
    (
        "CTCGreedyDecoder",
        &[
            ("decoded_indices", One),
            ("decoded_values", One),
            ("decoded_shape", One),
            ("log_probability", One),
        ],
    ),
    (
        "CombinedNonMaxSuppression",
        &[
            ("nmsed_boxes", One),
            ("nmsed_scores", One),
            ("nmsed_classes", One),
            ("valid_detections", One),
        ],
    ),
    (
        "FusedBatchNorm",
        &[
            ("y", One),
            ("batch_mean", One),
            ("batch_variance", One),
            ("reserve_space_1", One),
            ("reserve_space_2", One),
        ],
    ),
    (
        "FusedBatchNormV2",
        &[
            ("y", One),
            ("batch_mean", One),
            ("batch_variance", One),
            ("reserve_space_1", One),
            ("reserve_space_2", One),
        ],
    ),
    (
        "FusedBatchNormV3",
        &[
            ("y", One),
            ("batch_mean", One),
            ("batch_variance", One),
            ("reserve_space_1", One),
            ("reserve_space_2", One),
            ("reserve_space_3", One),
        ],
    ),
    ("ListDiff", &[("out", One), ("idx", One)]),
    (
        "LogMatrixDeterminant",
        &[("sign", One), ("log_abs_determinant", One)],
    ),
    ("LookupTableExport", &[("keys", One), ("values", One)]),
    ("LookupTableExportV2", &[("keys", One), ("values", One)]),
    ("Lu", &[("lu", One), ("p", One)]),
    ("MaxPoolWithArgmax", &[("output", One), ("argmax", One)]),
    ("Merge", &[("output", One), ("value_index", One)]),
    (
        "NonMaxSuppressionV4",
        &[("selected_indices", One), ("valid_outputs", One)],
    ),
    (
        "NonMaxSuppressionV5",
        &[
            ("selected_indices", One),
            ("selected_scores", One),
            ("valid_outputs", One),
        ],
    ),
    (
        "ParseExample",
        &[
            ("sparse_indices", Of("Nsparse")),
            ("sparse_values", Of("sparse_types")),
            ("sparse_shapes", Of("Nsparse")),
            ("dense_values", Of("Tdense")),
        ],
    ),
    (
        "ParseExampleV2",
        &[
            ("sparse_indices", Of("num_sparse")),
            ("sparse_values", Of("sparse_types")),
            ("sparse_shapes", Of("num_sparse")),
            ("dense_values", Of("Tdense")),
            ("ragged_values", Of("ragged_value_types")),
            ("ragged_row_splits", Of("ragged_split_types")),
        ],
    ),
    (
        "ParseSingleExample",
        &[
            ("sparse_indices", Of("num_sparse")),
            ("sparse_values", Of("sparse_types")),
            ("sparse_shapes", Of("num_sparse")),
            ("dense_values", Of("Tdense")),
        ],
    ),
    ("Qr", &[("q", One), ("r", One)]),
    (
        "QuantizeV2",
        &[("output", One), ("output_min", One), ("output_max", One)],
    ),
    (
        "RaggedGather",
        &[
            ("output_nested_splits", Of("OUTPUT_RAGGED_RANK")),
            ("output_dense_values", One),
        ],
    ),
    (
        "RaggedRange",
        &[("rt_nested_splits", One), ("rt_dense_values", One)],
    ),
    (
        "RaggedTensorFromVariant",
        &[
            ("output_nested_splits", Of("output_ragged_rank")),
            ("output_dense_values", One),
        ],
    ),
    (
        "RaggedTensorToSparse",
        &[
            ("sparse_indices", One),
            ("sparse_values", One),
            ("sparse_dense_shape", One),
        ],
    ),
    ("SelfAdjointEigV2", &[("e", One), ("v", One)]),
    (
        "SoftmaxCrossEntropyWithLogits",
        &[("loss", One), ("backprop", One)],
    ),
    (
        "SparseConcat",
        &[
            ("output_indices", One),
            ("output_values", One),
            ("output_shape", One),
        ],
    ),
    (
        "SparseCross",
        &[
            ("output_indices", One),
            ("output_values", One),
            ("output_shape", One),
        ],
    ),
    (
        "SparseCrossHashed",
        &[
            ("output_indices", One),
            ("output_values", One),
            ("output_shape", One),
        ],
    ),
    (
        "SparseCrossV2",
        &[
            ("output_indices", One),
            ("output_values", One),
            ("output_shape", One),
        ],
    ),
    (
        "SparseFillEmptyRows",
        &[
            ("output_indices", One),
            ("output_values", One),
            ("empty_row_indicator", One),
            ("reverse_index_map", One),
        ],
    ),
    (
        "SparseReshape",
        &[("output_indices", One), ("output_shape", One)],
    ),
    (
        "SparseSlice",
        &[
            ("output_indices", One),
            ("output_values", One),
            ("output_shape", One),
        ],
    ),
    (
        "SparseSoftmaxCrossEntropyWithLogits",
        &[("loss", One), ("backprop", One)],
    ),
    ("StringNGrams", &[("ngrams", One), ("ngrams_splits", One)]),
    (
        "StringSplit",
        &[("indices", One), ("values", One), ("shape", One)],
    ),
    (
        "StringSplitV2",
        &[("indices", One), ("values", One), ("shape", One)],
    ),
    ("Svd", &[("s", One), ("u", One), ("v", One)]),
    ("Switch", &[("output_false", One), ("output_true", One)]),
    ("TensorArrayConcatV3", &[("value", One), ("lengths", One)]),
    ("TensorArrayV3", &[("handle", One), ("flow", One)]),
    ("TensorListConcat", &[("tensor", One), ("lengths", One)]),
    ("TensorListConcatV2", &[("tensor", One), ("lengths", One)]),
    (
        "TensorListPopBack",
        &[("output_handle", One), ("tensor", One)],
    ),
    ("TopK", &[("values", One), ("indices", One)]),
    ("TopKV2", &[("values", One), ("indices", One)]),
    (
        "UnicodeDecode",
        &[("row_splits", One), ("char_values", One)],
    ),
    (
        "UnicodeDecodeWithOffsets",
        &[
            ("row_splits", One),
            ("char_values", One),
            ("char_to_byte_starts", One),
        ],
    ),
    ("Unique", &[("y", One), ("idx", One)]),
    ("UniqueV2", &[("y", One), ("idx", One)]),
    (
        "UniqueWithCounts",
        &[("y", One), ("idx", One), ("count", One)],
    ),
    (
        "UniqueWithCountsV2",
        &[("y", One), ("idx", One), ("count", One)],
    ),
];

/// The number, among all outputs of a node, of output `index` under `name`. `None` if there is no such output.
pub(crate) fn position(node: &NodeDef, name: &str, index: usize) -> Option<usize> {
    let outputs = OUTPUTS.iter().find(|(op, _)| *op == node.op);
    let Some((_, outputs)) = outputs.filter(|_| !name.is_empty()) else {
        return Some(index);
    };
    let mut before = 0usize;
    for (output, count) in *outputs {
        if *output == name {
            return before.checked_add(index);
        }
        before = before.checked_add(count.of(node)?)?;
    }
    None
}

impl Count {
    fn of(&self, node: &NodeDef) -> Option<usize> {
        let Of(name) = self else { return Some(1) };
        match attribute(node, name) {
            Some(attr_value::Value::I(count)) => usize::try_from(*count).ok(),
            Some(attr_value::Value::List(list)) => Some(list.r#type.len()),
            _ => None,
        }
    }
}
