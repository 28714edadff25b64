//! Kernels of ONNX Runtime that, on unexpected ranks, sizes or values, end the process or leave their output
//! unwritten, and the operators that refuse wrong ranks with an error.
//!
//! Both lists were found by experiment, on the version in [`FOUND_ON`]: every operator was tried with other
//! ranks of each of its inputs, with sizes of 0, and with extreme values (`tests/python/test_kernels.py`,
//! whose long form is part of `make test-full`). An operator that is in neither list is not trusted.
//!
//! Not here: the checks (`guard`), which ranks a request can change (`rank_paths`), integer division
//! (`integer_division`).

mod checked_ranks;
mod conditions;

use self::conditions::{
    convolves_volumes, counts_in_a_loop, crops, has_axis, has_scales_at, has_sizes,
    is_freely_dequantized, joins_cache, may_be_of_integers, multiplies_integers,
    returns_cell_state, samples_by_area, scales_product, scans_along_other_axes, scans_batches,
    sums_may_be_empty,
};
use super::domains::{MICROSOFT, ML, NCHWC};
use super::known::Scopes;
use super::{is_onnx_domain, is_op};
use proto::onnx::NodeProto;

pub(super) use self::checked_ranks::checks_ranks;

/// The version of ONNX Runtime on which the lists were found.
pub(super) const FOUND_ON: &str = "1.32.0";

/// The property that an input needs so that its kernel does not end the process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Check {
    /// Of this rank.
    Rank(usize),
    /// Of this rank, hidden from ONNX Runtime, which would otherwise require the ranks of other inputs as
    /// well.
    RankUntold(usize),
    /// Of this rank or a higher one.
    MinRank(usize),
    /// Without a size of 0, except along this axis.
    FilledBut(usize),
    /// Without a size of 0.
    Filled,
    /// Without a size of 0, except along the axis of the attribute `axis`.
    FilledButAxis,
    /// With a last size other than 0.
    FilledAtEnd,
    /// One number.
    OneElement,
    /// Integers other than 0.
    NoZeros,
    /// Square matrices.
    Square,
    /// Of the rank that the node's window is for.
    RankOfWindow,
    /// An image that, with its pads, is large enough for the node's window.
    HoldsWindow,
    /// The same; if the window is not known, the image's sizes are hidden instead.
    FitsWindow,
    /// Boxes not far outside the image that is the node's first input.
    NearImage,
    /// This other input has `each` numbers for every dimension.
    RankOfLength { input: usize, each: usize },
    /// Hidden, so that ONNX Runtime does not see which node returns it.
    Hidden,
    /// This attribute has one number for each dimension.
    RankOfAttribute(&'static str),
}

/// A kernel that needs a check in front of one of its inputs.
pub(super) struct Limit {
    domain: &'static str,
    op_type: &'static str,
    input: usize,
    /// The distance to the next input with the same checks, up to the last input; 0 if this is the only one.
    step: usize,
    pub(super) checks: &'static [Check],
    /// Whether this node's kernel needs the checks.
    concerns: fn(&NodeProto, &Scopes) -> bool,
}

const fn onnx(op_type: &'static str, input: usize, checks: &'static [Check]) -> Limit {
    limit("", op_type, input, checks)
}

const fn microsoft(op_type: &'static str, input: usize, checks: &'static [Check]) -> Limit {
    limit(MICROSOFT, op_type, input, checks)
}

const fn limit(
    domain: &'static str,
    op_type: &'static str,
    input: usize,
    checks: &'static [Check],
) -> Limit {
    Limit {
        domain,
        op_type,
        input,
        step: 0,
        checks,
        concerns: |_, _| true,
    }
}

impl Limit {
    const fn where_(mut self, concerns: fn(&NodeProto, &Scopes) -> bool) -> Self {
        self.concerns = concerns;
        self
    }

    const fn every(mut self, step: usize) -> Self {
        self.step = step;
        self
    }

    /// The inputs of a node that are checked.
    pub(super) fn inputs(&self, node: &NodeProto) -> impl Iterator<Item = usize> + use<> {
        let end = match self.step {
            0 => self.input + 1,
            _ => node.input.len(),
        };
        (self.input..end).step_by(self.step.max(1))
    }
}

const ONE_AT_1: Check = Check::RankOfLength { input: 1, each: 1 };
const ONE_AT_2: Check = Check::RankOfLength { input: 2, each: 1 };

/// There might be no image, but each has elements.
const OF_IMAGES: &[Check] = &[Check::Rank(4), Check::FilledBut(0)];
const OF_WINDOW: &[Check] = &[Check::RankOfWindow, Check::FilledBut(0), Check::HoldsWindow];

const LIMITS: &[Limit] = &[
    // Between quantizers, ONNX Runtime replaces them with its own QLinearAdd and QLinearMul.
    onnx("Add", 0, &[Check::Filled]).where_(may_be_of_integers),
    onnx("Add", 1, &[Check::Filled]).where_(may_be_of_integers),
    // The cache of keys and values.
    onnx("Attention", 4, &[Check::Rank(4)]),
    onnx("Attention", 5, &[Check::Rank(4)]),
    // Without a kernel of its own, it joins the cache and the rest by `Concat`.
    onnx("Attention", 1, &[Check::Filled]).where_(joins_cache),
    onnx("Attention", 2, &[Check::Filled]).where_(joins_cache),
    onnx("Attention", 4, &[Check::Rank(4), Check::FilledBut(2)]).where_(joins_cache),
    onnx("Attention", 5, &[Check::Rank(4), Check::FilledBut(2)]).where_(joins_cache),
    // Its own kernel refuses such images. If ONNX Runtime knows the number of channels, it uses kernels with
    // the channels in blocks or last, which do not refuse them; the same applies to MaxPool.
    onnx("AveragePool", 0, &[Check::HoldsWindow]),
    // A size that becomes negative at load ends the process in the operators behind it.
    onnx("Conv", 0, &[Check::FitsWindow]).where_(has_sizes),
    onnx("ConvInteger", 0, &[Check::FitsWindow]).where_(has_sizes),
    // Its integer products do not write sums of no elements; the same applies to those below.
    onnx("ConvInteger", 1, &[Check::Filled]),
    onnx("LpPool", 0, &[Check::FitsWindow]).where_(has_sizes),
    onnx("QLinearConv", 0, &[Check::FitsWindow]).where_(has_sizes),
    // It never returns.
    onnx("Conv", 1, &[Check::Filled]),
    // For volumes; other numbers of dimensions have another kernel.
    onnx("ConvTranspose", 0, &[Check::FilledBut(0)]).where_(convolves_volumes),
    onnx("DFT", 0, &[Check::MinRank(1)]),
    onnx("DFT", 1, &[Check::OneElement]),
    onnx("DFT", 2, &[Check::OneElement]),
    // Between several inputs it transposes, which divides by the size of a tensor without elements.
    onnx("Einsum", 0, &[Check::Filled])
        .every(1)
        .where_(|node, _| node.input.len() > 1),
    onnx("GRU", 0, &[Check::Rank(3), Check::Filled]),
    onnx("GridSample", 0, &[Check::MinRank(1)]),
    onnx("InstanceNormalization", 0, &[Check::FilledBut(0)]),
    // The number of rounds and the condition.
    onnx("Loop", 0, &[Check::Filled]),
    onnx("Loop", 1, &[Check::Filled]),
    onnx("LSTM", 0, &[Check::Rank(3), Check::FilledBut(0)]),
    // After no steps, it does not write its last cell state.
    onnx("LSTM", 0, &[Check::Filled]).where_(returns_cell_state),
    onnx("Gemm", 0, &[Check::Filled])
        .where_(|node, known| multiplies_integers(node, known, [0, 1])),
    onnx("MatMul", 0, &[Check::FilledAtEnd])
        .where_(|node, known| multiplies_integers(node, known, [0, 1])),
    onnx("MatMulInteger", 0, &[Check::FilledAtEnd])
        .where_(|node, known| sums_may_be_empty(node, known, [0, 1])),
    onnx("MaxPool", 0, &[Check::HoldsWindow]),
    onnx("MaxRoiPool", 0, &[Check::Rank(4), Check::FilledBut(0)]),
    onnx("MaxRoiPool", 1, &[Check::Rank(2)]),
    onnx("Mul", 0, &[Check::Filled]).where_(may_be_of_integers),
    onnx("Mul", 1, &[Check::Filled]).where_(may_be_of_integers),
    // The scale of a product of integers: ONNX Runtime fuses the two into one kernel.
    onnx("Mul", 0, &[Check::Filled]).where_(|node, known| scales_product(node, known, 1)),
    onnx("Mul", 1, &[Check::Filled]).where_(|node, known| scales_product(node, known, 0)),
    onnx("QLinearConv", 3, &[Check::Filled]),
    onnx("QLinearMatMul", 0, &[Check::FilledAtEnd])
        .where_(|node, known| sums_may_be_empty(node, known, [0, 3])),
    onnx("Multinomial", 0, &[Check::Rank(2)]),
    onnx("NonMaxSuppression", 2, &[Check::OneElement]),
    onnx("NonMaxSuppression", 3, &[Check::OneElement]),
    onnx("NonMaxSuppression", 4, &[Check::OneElement]),
    // Types without a kernel are computed in a loop.
    onnx("Range", 0, &[Check::OneElement]).where_(counts_in_a_loop),
    onnx("Range", 1, &[Check::OneElement]).where_(counts_in_a_loop),
    onnx("Range", 2, &[Check::OneElement]).where_(counts_in_a_loop),
    // If its scales and its box are constant, it reads them at load, but uses the rank of the request. In
    // older opsets, scales were its second input.
    onnx("Resize", 0, &[ONE_AT_2]).where_(|node, _| has_scales_at(2, node)),
    onnx("Resize", 0, &[ONE_AT_1]).where_(|node, _| has_scales_at(1, node)),
    onnx("Resize", 0, &[Check::RankOfLength { input: 1, each: 2 }]).where_(crops),
    onnx("ReverseSequence", 0, &[Check::MinRank(2)]),
    onnx("RoiAlign", 0, &[Check::Rank(4), Check::FilledBut(0)]),
    // The number of samples grows with the area of the box, wherever it is: one small request would run for
    // hours.
    onnx("RoiAlign", 1, &[Check::Rank(2), Check::NearImage]).where_(samples_by_area),
    onnx("RoiAlign", 1, &[Check::Rank(2)]).where_(|node, known| !samples_by_area(node, known)),
    onnx("RoiAlign", 2, &[Check::Rank(1)]),
    onnx("STFT", 0, &[Check::MinRank(2)]),
    onnx("STFT", 2, &[Check::Rank(1), Check::Filled]),
    onnx("STFT", 1, &[Check::OneElement]),
    onnx("STFT", 3, &[Check::OneElement, Check::NoZeros]),
    // In its first version, it does not write the last state after no steps.
    onnx("Scan", 1, &[Check::Filled])
        .every(1)
        .where_(scans_batches),
    // It transposes its scanned inputs if they are scanned along an axis other than the first.
    onnx("Scan", 0, &[Check::Filled])
        .every(1)
        .where_(scans_along_other_axes),
    // A scalar without elements, if returned by a node, has no memory.
    onnx("SequenceAt", 1, &[Check::OneElement]),
    onnx("SequenceErase", 1, &[Check::OneElement]),
    onnx("SequenceInsert", 2, &[Check::OneElement]),
    onnx("Unique", 0, &[Check::FilledButAxis]).where_(has_axis),
    onnx("Upsample", 0, &[ONE_AT_1]),
    onnx("Upsample", 0, &[Check::RankOfAttribute("scales")]),
    // The search for quantized branches assumes that these scales and zero points are constants. Requests to
    // such a model have elements.
    onnx("Where", 1, &[Check::Hidden]).where_(|node, known| is_freely_dequantized(node, known, 1)),
    onnx("Where", 2, &[Check::Hidden]).where_(|node, known| is_freely_dequantized(node, known, 2)),
    limit(ML, "FeatureVectorizer", 0, &[Check::Filled]),
    // With the channels in blocks, pools refuse neither such images nor empty ones.
    limit(NCHWC, "AveragePool", 0, OF_WINDOW),
    limit(NCHWC, "GlobalAveragePool", 0, OF_IMAGES),
    limit(NCHWC, "GlobalMaxPool", 0, OF_IMAGES),
    limit(NCHWC, "MaxPool", 0, OF_WINDOW),
    microsoft("BeamSearch", 1, &[Check::Filled]),
    microsoft("BeamSearch", 2, &[Check::Filled]),
    microsoft("BeamSearch", 3, &[Check::Filled]),
    microsoft("BeamSearch", 4, &[Check::Filled]),
    microsoft("BeamSearch", 5, &[Check::Filled]),
    microsoft("BeamSearch", 6, &[Check::Filled]),
    microsoft("DecoderMaskedMultiHeadAttention", 7, &[Check::OneElement]),
    microsoft("DecoderMaskedMultiHeadAttention", 8, &[Check::OneElement]),
    microsoft("DynamicQuantizeLSTM", 0, &[Check::Filled]),
    microsoft("DynamicQuantizeLSTM", 8, &[Check::Filled]).every(1),
    microsoft("DynamicQuantizeMatMul", 1, &[Check::Filled]),
    microsoft("DynamicQuantizeMatMul", 2, &[Check::Filled]),
    microsoft("EmbedLayerNormalization", 0, &[Check::RankUntold(2)]),
    microsoft("EmbedLayerNormalization", 8, &[Check::RankUntold(2)]),
    microsoft("FusedConv", 1, &[Check::Filled]),
    microsoft("GreedySearch", 1, &[Check::Filled]),
    microsoft("GreedySearch", 2, &[Check::Filled]),
    microsoft("GreedySearch", 3, &[Check::Filled]),
    microsoft("GridSample", 0, &[Check::MinRank(1)]),
    microsoft("GroupQueryAttention", 0, &[Check::FilledBut(1)]),
    microsoft("GroupQueryAttention", 9, &[Check::Rank(2)]),
    microsoft("Inverse", 0, &[Check::MinRank(2), Check::Square]),
    microsoft("MatMulIntegerToFloat", 0, &[Check::FilledAtEnd])
        .where_(|node, known| sums_may_be_empty(node, known, [0, 1])),
    microsoft("MatMulIntegerToFloat", 2, &[Check::Filled]),
    microsoft("MatMulIntegerToFloat", 3, &[Check::Filled]),
    microsoft("MoE", 0, &[Check::Filled]).every(1),
    microsoft("MultiHeadAttention", 0, &[Check::Filled]),
    // Otherwise its sizes must be those of the two others, which the kernel checks.
    microsoft("MultiHeadAttention", 1, &[Check::Filled]).where_(|node, _| node.input.len() < 3),
    microsoft("MultiHeadAttention", 2, &[Check::Filled]),
    microsoft("QAttention", 0, &[Check::Rank(3), Check::Filled]),
    microsoft("QEmbedLayerNormalization", 8, &[Check::Filled]).every(1),
    microsoft("QGemm", 3, &[Check::Filled]),
    microsoft("QLinearAdd", 0, &[Check::Filled]),
    microsoft("QLinearAdd", 3, &[Check::Filled]),
    // With its channels last, a layout that ONNX Runtime also creates from others.
    microsoft("QLinearAveragePool", 0, OF_WINDOW),
    microsoft("QLinearConcat", 0, &[Check::OneElement]),
    microsoft("QLinearConcat", 1, &[Check::OneElement]),
    microsoft("QLinearConcat", 3, &[Check::OneElement]).every(3),
    microsoft("QLinearConcat", 4, &[Check::OneElement]).every(3),
    microsoft("QLinearMul", 0, &[Check::Filled]),
    microsoft("QLinearMul", 3, &[Check::Filled]),
    microsoft("QLinearSoftmax", 1, &[Check::OneElement]),
    microsoft("QLinearSoftmax", 2, &[Check::OneElement]),
    microsoft("QLinearSoftmax", 3, &[Check::OneElement]),
    microsoft("QLinearSoftmax", 4, &[Check::OneElement]),
    microsoft("QLinearWhere", 2, &[Check::OneElement]),
    microsoft("QLinearWhere", 3, &[Check::OneElement]),
    microsoft("QLinearWhere", 5, &[Check::OneElement]),
    microsoft("QLinearWhere", 6, &[Check::OneElement]),
    microsoft("QLinearWhere", 7, &[Check::OneElement]),
    microsoft("QLinearWhere", 8, &[Check::OneElement]),
    microsoft("QMoE", 0, &[Check::Filled]).every(1),
    microsoft("RotaryEmbedding", 0, &[Check::Filled]),
    microsoft("Sampling", 1, &[Check::Filled]),
    microsoft("Sampling", 2, &[Check::Filled]),
    microsoft("Sampling", 3, &[Check::Filled]),
    microsoft("Sampling", 8, &[Check::Filled]),
    microsoft("SkipLayerNormalization", 1, &[Check::Filled]),
    microsoft("SkipSimplifiedLayerNormalization", 1, &[Check::Filled]),
    microsoft("WhisperBeamSearch", 1, &[Check::Filled]),
    microsoft("WhisperBeamSearch", 2, &[Check::Filled]),
    microsoft("WhisperBeamSearch", 3, &[Check::Filled]),
    microsoft("WhisperBeamSearch", 4, &[Check::Filled]),
    microsoft("WhisperBeamSearch", 5, &[Check::Filled]),
    microsoft("WhisperBeamSearch", 6, &[Check::Filled]),
    microsoft("WordConvEmbedding", 0, &[Check::Filled]),
    microsoft("WordConvEmbedding", 1, &[Check::Filled]),
    microsoft("WordConvEmbedding", 3, &[Check::Filled]),
];

/// Operators that end the process because of values that the model itself can hold, so that no check helps:
/// they are refused at load.
const REFUSED: &[(&str, &str)] = &[(MICROSOFT, "AttnLSTM")];

/// Operators whose limits concern sizes only; their behaviour on other ranks is not known.
const SIZES_ALONE: &[&str] = &[
    "BeamSearch",
    "GreedySearch",
    "Sampling",
    "WhisperBeamSearch",
];

/// The checks that a node needs in front of its kernel.
pub(super) fn limits<'a>(
    node: &'a NodeProto,
    known: &'a Scopes,
) -> impl Iterator<Item = &'static Limit> + use<'a> {
    LIMITS.iter().filter(|it| {
        it.op_type == node.op_type()
            && same_domain(it.domain, node.domain())
            && (it.concerns)(node, known)
    })
}

/// All checks, with the number of the input that they apply to.
#[cfg(all(test, feature = "onnxruntime"))]
pub(super) fn all() -> impl Iterator<Item = (usize, &'static [Check])> {
    LIMITS.iter().map(|it| (it.input, it.checks))
}

/// The inputs that a node joins into one tensor.
pub(super) struct Parts<'a> {
    /// The tensors, or the one sequence of them.
    pub(super) names: Vec<&'a str>,
    pub(super) is_sequence: bool,
    /// The place of the first among the inputs.
    pub(super) first: usize,
}

/// The joined inputs of a node whose kernel can leave a part of its output unwritten; `None` for other nodes.
pub(super) fn parts(node: &NodeProto) -> Option<Parts<'_>> {
    let (first, step) = match (node.domain(), node.op_type()) {
        (domain, "Concat" | "ConcatFromSequence") if is_onnx_domain(domain) => (0, 1),
        // Each with its scale and zero point, after those of the output.
        (MICROSOFT, "QLinearConcat") => (2, 3),
        _ => return None,
    };
    let names = node.input.iter().skip(first).step_by(step);
    let names: Vec<&str> = names.map(String::as_str).collect();
    let is_whole = !names.is_empty() && names.iter().all(|name| !name.is_empty());
    is_whole.then_some(Parts {
        names,
        is_sequence: node.op_type() == "ConcatFromSequence",
        first,
    })
}

/// Whether a model with this node is not served.
pub(super) fn is_refused(node: &NodeProto) -> bool {
    REFUSED.contains(&(node.domain(), node.op_type()))
}

/// Whether a function with this node ends the process while it loads, also where the node is in a graph nested
/// in the function. The schemas are ONNX Runtime's own: `LayerNormalization` is ONNX's since opset 17. None of
/// the other operators that it adds to ONNX's domain does this.
pub(super) fn is_refused_in_function(node: &NodeProto, opset: i64) -> bool {
    is_op(node, "SimplifiedLayerNormalization") || (is_op(node, "LayerNormalization") && opset < 17)
}

/// Whether the kernel's behaviour on unexpected ranks is not known.
pub(super) fn is_untried(node: &NodeProto) -> bool {
    let mut limits = LIMITS.iter();
    let is_limited =
        limits.any(|it| it.op_type == node.op_type() && same_domain(it.domain, node.domain()));
    let is_about_sizes = is_op(node, "Scan")
        || (node.domain() == MICROSOFT && SIZES_ALONE.contains(&node.op_type()));
    (!is_limited || is_about_sizes) && !checks_ranks(node)
}

fn same_domain(one: &str, other: &str) -> bool {
    one == other || (is_onnx_domain(one) && is_onnx_domain(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_operator_is_in_both_lists() {
        let checks_rank = |it: &&Limit| {
            let mut checks = it.checks.iter();
            checks.any(|it| matches!(it, Check::MinRank(_) | Check::Rank(_)))
        };
        // Their own kernels refuse wrong ranks; the check is for the one that follows it.
        let own = ["GRU", "LSTM", "QAttention"];
        for limit in LIMITS.iter().filter(checks_rank) {
            let node = NodeProto {
                op_type: Some(limit.op_type.to_owned()),
                domain: Some(limit.domain.to_owned()),
                ..NodeProto::default()
            };
            let both = checks_ranks(&node) && !own.contains(&limit.op_type);
            assert!(!both, "{} is in both", limit.op_type);
        }
    }

    #[test]
    fn lists_are_those_of_the_pinned_version() {
        // tools/fetch_onnxruntime.py pins it: for another version, run the long form of test_kernels.py
        // first.
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tools/fetch_onnxruntime.py"
        );
        let script = std::fs::read_to_string(script).unwrap();
        assert!(script.contains(&format!("\"{FOUND_ON}\"")), "{FOUND_ON}");
    }
}
