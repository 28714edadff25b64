//! The operators of ONNX and ONNX Runtime, by domain and by the opset that introduced them.
//!
//! Not here: the advice about them (`advice`).

/// Names, separated by spaces, by the opset that introduced them.
type Table = &'static [(u32, &'static str)];

/// ONNX's own domain, as it is written out.
pub(super) const ONNX: &str = "ai.onnx";
/// The domain that ONNX Runtime adds.
pub(super) const MICROSOFT: &str = "com.microsoft";

#[rustfmt::skip]
const OF_ONNX: Table = &[
    (1, "Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Clip Concat Constant \
         Conv ConvTranspose DepthToSpace Div Dropout Elu Equal Exp Flatten Floor GRU Gather Gemm \
         GlobalAveragePool GlobalLpPool GlobalMaxPool Greater HardSigmoid Hardmax Identity If \
         InstanceNormalization LRN LSTM LeakyRelu Less Log LogSoftmax Loop LpNormalization \
         LpPool MatMul Max MaxPool MaxRoiPool Mean Min Mul Neg Not Or PRelu Pad Pow RNN \
         RandomNormal RandomNormalLike RandomUniform RandomUniformLike Reciprocal ReduceL1 \
         ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd \
         ReduceSum ReduceSumSquare Relu Reshape Selu Shape Sigmoid Size Slice Softmax Softplus \
         Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Unsqueeze \
         Upsample Xor"),
    (7, "Acos Asin Atan Cos Multinomial Sin Tan"),
    (8, "Expand Scan"),
    (9, "Acosh Asinh Atanh Compress ConstantOfShape Cosh Erf EyeLike IsNaN MaxUnpool \
         MeanVarianceNormalization NonZero OneHot Scatter Shrink Sign Sinh TfIdfVectorizer Where"),
    (10, "ConvInteger DequantizeLinear IsInf MatMulInteger Mod NonMaxSuppression QLinearConv \
         QLinearMatMul QuantizeLinear Resize ReverseSequence RoiAlign StringNormalizer \
         ThresholdedRelu"),
    (11, "BitShift ConcatFromSequence CumSum Det DynamicQuantizeLinear GatherElements GatherND \
         Range Round ScatterElements ScatterND SequenceAt SequenceConstruct SequenceEmpty \
         SequenceErase SequenceInsert SequenceLength SplitToSequence Unique"),
    (12, "Celu Einsum GreaterOrEqual LessOrEqual NegativeLogLikelihoodLoss \
         SoftmaxCrossEntropyLoss"),
    (14, "HardSwish Trilu"),
    (15, "Bernoulli CastLike Optional OptionalGetElement OptionalHasElement"),
    (16, "GridSample"),
    (17, "BlackmanWindow DFT HammingWindow HannWindow LayerNormalization MelWeightMatrix STFT \
         SequenceMap"),
    (18, "BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im GroupNormalization Mish"),
    (19, "DeformConv"),
    (20, "AffineGrid Gelu ImageDecoder RegexFullMatch StringConcat StringSplit"),
    (23, "Attention RMSNormalization RotaryEmbedding"),
    (24, "Swish TensorScatter"),
    (26, "BitCast CumProd"),
    (27, "CausalConvWithState LinearAttention"),
    (28, "SwiGLU"),
];

#[rustfmt::skip]
const OF_ML: Table = &[
    (1, "ArrayFeatureExtractor Binarizer CastMap CategoryMapper DictVectorizer FeatureVectorizer \
         Imputer LabelEncoder LinearClassifier LinearRegressor Normalizer OneHotEncoder \
         SVMClassifier SVMRegressor Scaler TreeEnsembleClassifier TreeEnsembleRegressor ZipMap"),
    (5, "TreeEnsemble"),
];

#[rustfmt::skip]
const OF_TRAINING: Table = &[
    (1, "Adagrad Adam Gradient Momentum"),
];

#[rustfmt::skip]
const OF_PREVIEW: Table = &[
    (1, "FlexAttention"),
];

/// All are of opset 1, the only one of this domain.
#[rustfmt::skip]
const OF_MICROSOFT: Table = &[
    (1, "Attention AttnLSTM BeamSearch BiasAdd BiasDropout BiasGelu BiasSoftmax BiasSplitGelu \
         BifurcationDetector BitmaskBiasDropout BitmaskDropout BranchwiseRMSNorm CDist \
         CausalConvWithState ComplexMul ComplexMulConj ConvStateReplay \
         ConvTransposeWithDynamicPads CropAndResize DecoderAttention \
         DecoderMaskedMultiHeadAttention DecoderMaskedSelfAttention DequantizeBFP \
         DequantizeLinear DequantizeWithOrder DynamicQuantizeLSTM DynamicQuantizeMatMul \
         DynamicSparseAttention DynamicTimeWarping EPContext EmbedLayerNormalization EngramGate \
         ExpandDims FastGelu FusedConv FusedGemm FusedMatMul FusedMatMulActivation GatedAdd \
         GatedDeltaNet GatedDeltaNetStateReplay GatedRMSNorm GatedRelativePositionBias \
         GatherBlockQuantized GatherND GatherPacked Gelu GemmFastGelu GemmFloat8 \
         GemmaRotaryEmbedding GreedySearch GridSample GroupNorm GroupQueryAttention \
         HyperConnectionLowRankMix HyperConnectionPostMix HyperConnectionPreMix Inverse Irfft \
         IsAllFinite LinearAttention LinearAttentionGate LongformerAttention MRotaryEmbedding \
         Mamba2Verify MatMulBlockQuantizedFp4Weight MatMulBlockQuantizedFp8Weight MatMulBnb4 \
         MatMulFpQ4 MatMulInteger16 MatMulIntegerToFloat MatMulNBits MatMulNBitsMlp \
         MatMulNBitsQLoRA MatMulNBitsQkv MatMulPacked MaxpoolWithMask MoE MoEGroupRouter \
         MoEPacked MulInteger MultiHeadAttention MurmurHash3 NGramHashMapping NGramRepeatBlock \
         NhwcConv NhwcFusedConv NhwcMaxPool PackedAttention PackedMultiHeadAttention \
         PackedSparseAttentionIndexer PackedSparseAttentionIndexerMerge Pad PagedAttention \
         QAttention QEmbedLayerNormalization QGemm QLinearAdd QLinearAveragePool QLinearConcat \
         QLinearConv QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean \
         QLinearSigmoid QLinearSoftmax QLinearWhere QMoE QOrderedAttention QOrderedGelu \
         QOrderedLayerNormalization QOrderedLongformerAttention QOrderedMatMul QuantizeBFP \
         QuantizeLinear QuantizeWithOrder QuickGelu RMSNormRotary Range ReduceSumInteger \
         RelativePositionBias RemovePadding RestorePadding Rfft RotaryEmbedding RouterGateUpProj \
         Sampling ScaledSiLU SkipGroupNorm SkipLayerNormalization \
         SkipSimplifiedLayerNormalization Snpe SparseAttention SparseAttentionIndexer \
         SparsePagedAttention SparseToDenseMatMul SpeculativePrefixCommit SwiGLU Tokenizer \
         TorchEmbedding TransposeMatMul Trilu UnfoldTensor Unique VarlenCausalConvWithState \
         VarlenNGramHashMapping WhisperBeamSearch WordConvEmbedding"),
];

/// In the order in which they are searched.
const DOMAINS: [(&str, Table); 5] = [
    (ONNX, OF_ONNX),
    ("ai.onnx.ml", OF_ML),
    (MICROSOFT, OF_MICROSOFT),
    ("ai.onnx.preview.training", OF_TRAINING),
    ("ai.onnx.preview", OF_PREVIEW),
];

/// Experimental operators that ONNX dropped without a successor of the same name.
const DROPPED_TRIALS: &str = "Affine ConstantFill Crop DynamicSlice GRUUnit GivenTensorFill ImageScaler \
                              ParametricSoftplus Scale ScaledTanh";

/// Deprecated operators of ONNX, and the last opset that has them.
const ENDED: [(&str, &str, u32); 4] = [
    (ONNX, "Upsample", 9),
    (ONNX, "Scatter", 10),
    ("ai.onnx.ml", "TreeEnsembleClassifier", 4),
    ("ai.onnx.ml", "TreeEnsembleRegressor", 4),
];

/// A domain as it is written out.
pub(super) fn full_name(domain: &str) -> &str {
    match domain {
        "" => ONNX,
        _ => domain,
    }
}

/// The opset of a domain that introduced an operator; `None` if the domain does not have it.
pub(super) fn since(domain: &str, operator: &str) -> Option<u32> {
    let (_, table) = DOMAINS.iter().find(|it| it.0 == full_name(domain))?;
    let mut rows = table.iter();
    let row = rows.find(|(_, names)| names.split(' ').any(|it| it == operator));
    row.map(|(since, _)| *since)
}

/// The first domain that has an operator.
pub(super) fn domain_of(operator: &str) -> Option<&'static str> {
    let mut domains = DOMAINS.iter().map(|it| it.0);
    domains.find(|domain| since(domain, operator).is_some())
}

/// An operator of this domain whose name differs only in upper and lower case.
pub(super) fn respelled(domain: &str, operator: &str) -> Option<&'static str> {
    let (_, table) = DOMAINS.iter().find(|it| it.0 == full_name(domain))?;
    let mut names = table.iter().flat_map(|(_, names)| names.split(' '));
    names.find(|it| it.eq_ignore_ascii_case(operator))
}

/// Whether this once was an experimental operator of ONNX.
pub(super) fn was_on_trial(operator: &str) -> bool {
    DROPPED_TRIALS.split(' ').any(|it| it == operator)
}

/// The last opset that has a deprecated operator.
pub(super) fn last_opset(domain: &str, operator: &str) -> Option<u32> {
    let domain = full_name(domain);
    let mut ended = ENDED.iter();
    let found = ended.find(|it| it.0 == domain && it.1 == operator);
    found.map(|it| it.2)
}
