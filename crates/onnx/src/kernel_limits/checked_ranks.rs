//! Operators whose kernels refuse a wrong rank of any of their inputs with an error.
//!
//! Not here: how the list was found, and the kernels that need checks (`kernel_limits`).

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::domains::{MICROSOFT, ML, NCHWC, is_onnx_domain};
use proto::onnx::NodeProto;

/// Whether an operator is known to refuse a wrong rank of any of its inputs with an error.
pub(crate) fn checks_ranks(node: &NodeProto) -> bool {
    let checked = match node.domain() {
        domain if is_onnx_domain(domain) => &CHECKED,
        ML => &CHECKED_ML,
        MICROSOFT => &CHECKED_MICROSOFT,
        NCHWC => &CHECKED_NCHWC,
        _ => return false,
    };
    checked.contains(node.op_type())
}

static CHECKED: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    "Abs Acos Acosh Add Affine AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool \
     BatchNormalization Bernoulli BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor \
     BlackmanWindow Cast CastLike Ceil Celu CenterCropPad Clip Col2Im Compress Concat ConcatFromSequence \
     Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh Crop CumProd CumSum DeformConv \
     DepthToSpace DequantizeLinear Det Div Dropout DynamicQuantizeLinear DynamicSlice Einsum \
     Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gelu \
     Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual \
     GroupNormalization HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity If \
     ImageScaler InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less \
     LessOrEqual Log LogSoftmax Loop LpNormalization LpPool MatMul MatMulInteger Max MaxPool \
     MaxUnpool Mean MeanVarianceNormalization MelWeightMatrix Min Mish Mod Mul Neg \
     NegativeLogLikelihoodLoss NonMaxSuppression NonZero Not OneHot Optional \
     OptionalGetElement OptionalHasElement Or PRelu Pad ParametricSoftplus Pow QLinearConv QLinearMatMul \
     QuantizeLinear RMSNormalization RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 \
     ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd \
     ReduceSum ReduceSumSquare RegexFullMatch Relu Reshape RotaryEmbedding Round \
     ScaledTanh Scatter ScatterElements ScatterND Selu SequenceAt SequenceConstruct SequenceEmpty \
     SequenceErase SequenceInsert SequenceLength SequenceMap \
     Shape Shrink Sigmoid Sign SimplifiedLayerNormalization Sin Sinh Size Slice Softmax \
     SoftmaxCrossEntropyLoss Softplus Softsign SpaceToDepth Split SplitToSequence Sqrt \
     Squeeze StringConcat StringNormalizer StringSplit Sub Sum Swish Tan Tanh TensorScatter \
     TfIdfVectorizer ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze Where Xor"
    .split_whitespace()
    .collect()
});

static CHECKED_ML: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    "ArrayFeatureExtractor Binarizer CategoryMapper FeatureVectorizer Imputer LabelEncoder \
     LinearClassifier LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor \
     Scaler TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor ZipMap"
        .split_whitespace()
        .collect()
});

static CHECKED_MICROSOFT: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    "Attention BiasGelu CDist CausalConvWithState ConvTransposeWithDynamicPads CropAndResize \
     DecoderMaskedMultiHeadAttention DequantizeLinear DynamicQuantizeLSTM \
     DynamicQuantizeMatMul DynamicTimeWarping ExpandDims FastGelu FusedConv FusedGemm \
     FusedMatMul GatherBlockQuantized GatherND Gelu MatMulBnb4 MatMulInteger16 \
     MatMulIntegerToFloat MatMulNBits MaxpoolWithMask MoE MultiHeadAttention MurmurHash3 \
     NGramRepeatBlock NhwcMaxPool Pad QAttention QEmbedLayerNormalization QGemm QLinearAdd \
     QLinearAveragePool QLinearConcat QLinearConv QLinearGlobalAveragePool QLinearLeakyRelu \
     QLinearMul QLinearSigmoid QLinearSoftmax QLinearWhere QMoE QuantizeLinear QuickGelu \
     Range RotaryEmbedding SampleOp SkipLayerNormalization SkipSimplifiedLayerNormalization \
     Tokenizer TransposeMatMul Trilu UnfoldTensor Unique WordConvEmbedding"
        .split_whitespace()
        .collect()
});

static CHECKED_NCHWC: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    "Conv ReorderInput ReorderOutput Upsample"
        .split_whitespace()
        .collect()
});
