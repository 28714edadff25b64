//! The element types of the outputs of operators: ONNX's own, those of classic machine learning, and those
//! that ONNX Runtime adds.
//!
//! Not here: other facts about an output (`rules`).

use super::{BFLOAT16, BOOL, FLOAT, Rule, UINT8, UINT32, value_of};
use crate::known::facts::{Elem, INT32, INT64, STRING};

/// Operators whose first output has the element type of their first input.
const KEEP_TYPE: &[&str] = &[
    "Abs",
    "BitwiseNot",
    "CenterCropPad",
    "Col2Im",
    "Compress",
    "ConcatFromSequence",
    "CumProd",
    "CumSum",
    "DepthToSpace",
    "DynamicSlice",
    "Erf",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "GridSample",
    "Identity",
    "Neg",
    "Optional",
    "OptionalGetElement",
    "Pad",
    "Pow",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Resize",
    "ReverseSequence",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "SequenceAt",
    "SequenceErase",
    "Shrink",
    "Sign",
    "Slice",
    "SpaceToDepth",
    "SplitToSequence",
    "Squeeze",
    "TensorScatter",
    "Tile",
    "TopK",
    "Transpose",
    "Trilu",
    "Unique",
    "Unsqueeze",
    "Upsample",
];
/// Operators whose output has the element type that all their inputs have.
const SHARE_TYPE: &[&str] = &[
    "Add",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Clip",
    "Concat",
    "Div",
    "Einsum",
    "Gemm",
    "MatMul",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "PRelu",
    "Range",
    "SequenceConstruct",
    "SequenceInsert",
    "Sub",
    "Sum",
];
/// Operators of other domains whose outputs have the element type of their first input.
const KEEP_TYPE_OF_OTHERS: &[(&str, &[&str])] = &[
    ("ai.onnx.preview", &["FlexAttention"]),
    (
        "ai.onnx.ml",
        &[
            "ArrayFeatureExtractor",
            "Binarizer",
            "Imputer",
            "TreeEnsemble",
        ],
    ),
    (
        "com.microsoft",
        &[
            "Attention",
            "BiasAdd",
            "BiasGelu",
            "BiasSoftmax",
            "BiasSplitGelu",
            "CDist",
            "ComplexMul",
            "ComplexMulConj",
            "ConvTransposeWithDynamicPads",
            "CropAndResize",
            "ExpandDims",
            "FastGelu",
            "FusedConv",
            "FusedGemm",
            "FusedMatMul",
            "FusedMatMulActivation",
            "GatherND",
            "Gelu",
            "GemmFastGelu",
            "GridSample",
            "GroupNorm",
            "Inverse",
            "Irfft",
            "MatMulBnb4",
            "MatMulFpQ4",
            "MatMulNBits",
            "MaxpoolWithMask",
            "MoE",
            "NhwcMaxPool",
            "Pad",
            "QLinearAdd",
            "QLinearAveragePool",
            "QLinearGlobalAveragePool",
            "QLinearLeakyRelu",
            "QLinearMul",
            "QLinearReduceMean",
            "QLinearSigmoid",
            "QLinearSoftmax",
            "QuickGelu",
            "Range",
            "RelativePositionBias",
            "Rfft",
            "RotaryEmbedding",
            "SampleOp",
            "SkipGroupNorm",
            "Tokenizer",
            "TransposeMatMul",
            "Trilu",
            "UnfoldTensor",
        ],
    ),
    (
        "com.microsoft.nchwc",
        &[
            "AveragePool",
            "Conv",
            "GlobalAveragePool",
            "GlobalMaxPool",
            "MaxPool",
            "ReorderInput",
            "ReorderOutput",
            "Upsample",
        ],
    ),
];
/// Operators that ONNX Runtime adds, with the input that determines the element type of each output. If that
/// input is left out (the cache of former tokens is optional), the first one does.
const TYPE_OF_INPUT: &[(&str, &[usize])] = &[
    ("AttnLSTM", &[0, 0, 0]),
    ("BeamSearch", &[1, 5, 5]),
    ("BifurcationDetector", &[0, 0]),
    ("BranchwiseRMSNorm", &[0]),
    ("CausalConvWithState", &[0, 0, 0]),
    ("DecoderMaskedMultiHeadAttention", &[0, 0, 0]),
    ("DynamicQuantizeLSTM", &[0, 0, 0]),
    ("DynamicQuantizeMatMul", &[0]),
    ("EmbedLayerNormalization", &[2, 0, 2]),
    ("EngramGate", &[0, 0]),
    ("GatedAdd", &[0]),
    ("GatedDeltaNet", &[0, 6, 6]),
    ("GatedRMSNorm", &[0]),
    ("GatherBlockQuantized", &[2]),
    ("GreedySearch", &[0]),
    ("GroupQueryAttention", &[0, 3, 3, 0]),
    ("HyperConnectionPostMix", &[0]),
    ("HyperConnectionPreMix", &[0]),
    ("LinearAttention", &[0, 3]),
    ("LinearAttentionGate", &[0, 0]),
    ("MRotaryEmbedding", &[0]),
    ("MatMulIntegerToFloat", &[2]),
    ("MoEGroupRouter", &[0, 1, 1]),
    ("MultiHeadAttention", &[0, 0, 0]),
    ("NGramHashMapping", &[0, 0]),
    ("NGramRepeatBlock", &[1]),
    ("QAttention", &[2, 2]),
    ("QEmbedLayerNormalization", &[8, 0]),
    ("QLinearConcat", &[1]),
    ("QLinearConv", &[7]),
    ("QLinearWhere", &[1]),
    ("QMoE", &[0]),
    ("QuantizeLinear", &[2]),
    ("Sampling", &[0, 3]),
    ("ScaledSiLU", &[0]),
    ("SparseAttention", &[0, 0, 0]),
    ("SparseToDenseMatMul", &[1]),
    ("VarlenCausalConvWithState", &[0, 0, 0]),
    ("VarlenNGramHashMapping", &[0, 0, 3, 0]),
    ("WhisperBeamSearch", &[1, 5, 5]),
    ("WordConvEmbedding", &[1]),
];
/// Operators that return booleans.
const RETURN_BOOL: &[&str] = &[
    "And",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "IsInf",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "Not",
    "OptionalHasElement",
    "Or",
    "RegexFullMatch",
    "Xor",
];

/// The first opset in which the mask of a `Dropout` is of booleans; before, it has the type of the input.
const BOOL_MASK_SINCE: i64 = 10;
/// The first opset in which the scale of a `DequantizeLinear` can be of several types.
const FREE_SCALE_SINCE: i64 = 19;

impl Rule<'_> {
    pub(super) fn elem(&self, index: usize) -> Elem {
        match self.node.domain() {
            "" | "ai.onnx" => self.onnx_elem(index),
            "ai.onnx.ml" => self.ml_elem(index),
            "com.microsoft" => self.contrib_elem(index),
            domain => match self.kept_elem(domain) {
                Elem::Unknown => self.schema_elem(index),
                known => known,
            },
        }
    }

    /// The type for an operator that ONNX Runtime adds.
    fn contrib_elem(&self, index: usize) -> Elem {
        match (self.node.op_type(), index) {
            ("SkipLayerNormalization" | "SkipSimplifiedLayerNormalization", 0 | 3) => {
                self.input(0).elem
            }
            ("SkipLayerNormalization" | "SkipSimplifiedLayerNormalization", _) => Elem::Is(FLOAT),
            ("Unique", 0) => self.input(0).elem,
            ("Unique", _) => Elem::Is(INT64),
            ("DequantizeLinear", 0) => self.input(1).elem,
            ("DynamicTimeWarping" | "MatMulInteger16", 0) => Elem::Is(INT32),
            ("GatherPacked", 0) => Elem::Is(BFLOAT16),
            ("QuantizeLinear", 0) if !self.is_given(2) => Elem::Is(UINT8),
            ("MurmurHash3", 0) => match self.attribute("positive").map(value_of) {
                Some(None) => Elem::Unknown,
                Some(Some(positive)) if positive.i() == 0 => Elem::Is(INT32),
                _ => Elem::Is(UINT32),
            },
            // Without requantization, the output stays a float.
            ("QGemm", 0) if self.node.input.len() <= 8 => Elem::Is(FLOAT),
            ("QGemm", 0) => self.input(8).elem,
            (op_type, _) if TYPE_OF_INPUT.iter().any(|(name, _)| *name == op_type) => {
                let mut inputs = TYPE_OF_INPUT.iter().filter(|(name, _)| *name == op_type);
                let input = inputs.next().and_then(|(_, inputs)| inputs.get(index));
                let given = |&input: &usize| if self.is_given(input) { input } else { 0 };
                let elem = input.map(|input| self.input(given(input)).elem);
                elem.unwrap_or_else(|| self.schema_elem(index))
            }
            _ => match self.kept_elem("com.microsoft") {
                Elem::Unknown => self.schema_elem(index),
                known => known,
            },
        }
    }

    fn kept_elem(&self, domain: &str) -> Elem {
        let lists = KEEP_TYPE_OF_OTHERS.iter();
        let mut lists = lists.filter(|(of, _)| *of == domain);
        match lists.any(|(_, names)| names.contains(&self.node.op_type())) {
            true => self.input(0).elem,
            false => Elem::Unknown,
        }
    }

    /// The type for an operator of classic machine learning.
    fn ml_elem(&self, index: usize) -> Elem {
        let has = |name: &str| self.attribute(name).is_some();
        let class = |has_strings: bool| Elem::Is(if has_strings { STRING } else { INT64 });
        match (self.node.op_type(), index) {
            ("LinearClassifier" | "SVMClassifier", 0) => {
                class(self.has_strings("classlabels_strings"))
            }
            ("TreeEnsembleClassifier", 0) => class(self.has_strings("classlabels_strings")),
            ("LinearClassifier" | "SVMClassifier" | "TreeEnsembleClassifier", _)
            | ("FeatureVectorizer" | "LinearRegressor" | "Normalizer" | "OneHotEncoder", 0)
            | ("SVMRegressor" | "Scaler" | "TreeEnsembleRegressor", 0) => Elem::Is(FLOAT),
            ("CategoryMapper" | "LabelEncoder", 0)
                if self.node.op_type() == "CategoryMapper" || has("classes_strings") =>
            {
                match self.input(0).elem {
                    Elem::Is(STRING) => Elem::Is(INT64),
                    Elem::Is(INT64) => Elem::Is(STRING),
                    _ => Elem::Unknown,
                }
            }
            ("LabelEncoder", 0) if has("values_strings") => Elem::Is(STRING),
            ("LabelEncoder", 0) if has("values_int64s") => Elem::Is(INT64),
            ("LabelEncoder", 0) if has("values_floats") => Elem::Is(FLOAT),
            ("LabelEncoder", 0) => match self.attribute("values_tensor") {
                Some(values) => values
                    .t
                    .as_ref()
                    .map_or(Elem::Unknown, |it| Elem::Is(it.data_type())),
                None => Elem::Unknown,
            },
            _ => self.kept_elem("ai.onnx.ml"),
        }
    }

    fn has_strings(&self, name: &str) -> bool {
        let attribute = self.attribute(name);
        attribute.is_some_and(|it| !it.strings.is_empty())
    }

    /// The element type of an output of one of ONNX's own operators. Long, because it is a table with a row for
    /// each group of operators.
    fn onnx_elem(&self, index: usize) -> Elem {
        let op_type = self.node.op_type();
        let first_known = || {
            let mut inputs = self.inputs.iter().map(|it| it.elem);
            inputs.find(|it| *it != Elem::Unknown).unwrap_or_default()
        };
        match (op_type, index) {
            ("Cast" | "BitCast", 0) => self.type_attribute("to", Elem::Unknown),
            ("ConstantOfShape", 0) => match self.attribute("value") {
                None => Elem::Is(FLOAT),
                Some(attribute) => value_of(attribute)
                    .and_then(|it| it.t.as_ref())
                    .map_or(Elem::Unknown, |it| Elem::Is(it.data_type())),
            },
            ("EyeLike" | "Bernoulli", 0) => self.type_attribute("dtype", self.input(0).elem),
            ("Multinomial", 0) => self.type_attribute("dtype", Elem::Is(INT32)),
            ("SequenceEmpty" | "RandomNormal" | "RandomUniform", 0) => {
                self.type_attribute("dtype", Elem::Is(FLOAT))
            }
            ("RandomNormalLike" | "RandomUniformLike", 0) => {
                self.type_attribute("dtype", self.input(0).elem)
            }
            ("BlackmanWindow" | "HammingWindow" | "HannWindow" | "MelWeightMatrix", 0) => {
                self.type_attribute("output_datatype", Elem::Is(FLOAT))
            }
            ("ArgMax" | "ArgMin" | "NonMaxSuppression" | "NonZero", 0)
            | ("SequenceLength" | "Shape" | "Size", 0)
            | ("MaxPool" | "StringSplit" | "TopK" | "Unique", 1..) => Elem::Is(INT64),
            ("ConvInteger" | "MatMulInteger", 0) => Elem::Is(INT32),
            ("StringSplit" | "StringConcat" | "StringNormalizer", 0) => Elem::Is(STRING),
            ("DynamicQuantizeLinear", 0 | 2) | ("ImageDecoder", 0) => Elem::Is(UINT8),
            ("TfIdfVectorizer", 0) | ("DynamicQuantizeLinear", 1) => Elem::Is(FLOAT),
            ("LayerNormalization", 1..) => self.type_attribute("stash_type", Elem::Is(FLOAT)),
            ("Dropout", 1) if self.opset >= BOOL_MASK_SINCE => Elem::Is(BOOL),
            // The mean and the variance have a type of their own, which is that of all inputs in older versions.
            ("BatchNormalization", 1..) => self.input(3).elem,
            ("DequantizeLinear", 0) => {
                // A scale of unknown type is of a type that is not an integer.
                let scale = self.input(1).elem;
                let usual = match scale {
                    _ if self.opset < FREE_SCALE_SINCE => Elem::Is(FLOAT),
                    Elem::Unknown => Elem::Other,
                    known => known,
                };
                self.type_attribute("output_dtype", usual)
            }
            ("QuantizeLinear", 0) if self.input(2).elem != Elem::Unknown => self.input(2).elem,
            ("QuantizeLinear", 0) if self.node.input.len() > 2 => Elem::Other,
            ("QuantizeLinear", 0) => self.type_attribute("output_dtype", Elem::Is(UINT8)),
            ("QLinearConv" | "QLinearMatMul", 0) => match self.input(7).elem {
                Elem::Unknown => Elem::Other,
                known => known,
            },
            ("CastLike" | "RMSNormalization", 0) => self.input(1).elem,
            // The values, and the state before the first step, have types of their own.
            ("Attention", 2) => self.input(2).elem,
            ("LinearAttention", 1) => self.input(3).elem,
            ("Where", 0) => match self.input(1).elem {
                Elem::Unknown => self.input(2).elem,
                known => known,
            },
            ("OneHot", 0) => self.input(2).elem,
            ("Split", _) => self.input(0).elem,
            ("If" | "Scan" | "SequenceMap", _) => self.body(index).elem,
            // The first output of a body is its condition.
            ("Loop", _) => match self.body(index + 1).elem {
                Elem::Unknown => self.input(index + 2).elem,
                known => known,
            },
            (op_type, 0) if RETURN_BOOL.contains(&op_type) => Elem::Is(BOOL),
            (op_type, 0) if KEEP_TYPE.contains(&op_type) => self.input(0).elem,
            (op_type, 0) if SHARE_TYPE.contains(&op_type) => first_known(),
            // All other ONNX operators are for numbers that are not integers, and return the type that they
            // take.
            _ => match self.input(0).elem {
                Elem::Is(INT32 | INT64) | Elem::Unknown => Elem::Other,
                known => known,
            },
        }
    }

    /// The type given by an attribute, or `default` if there is none.
    fn type_attribute(&self, name: &str, default: Elem) -> Elem {
        match self.attribute(name) {
            None => default,
            Some(attribute) => value_of(attribute)
                .and_then(|it| i32::try_from(it.i()).ok())
                .map_or(Elem::Unknown, Elem::Is),
        }
    }
}
