//! What can be done about a model that ONNX Runtime refuses, by what it says.
//!
//! A sentence only where it is true of the reason: advice about operators of TensorFlow under a missing
//! locale sends people the wrong way.
//!
//! Not here: the errors themselves (`status`).

/// Operators of ONNX's own by the opset that brought them; those of the first eight are left out.
#[rustfmt::skip]
const LATER_OPERATORS: &[(u32, &str)] = &[
    (9, "ConstantOfShape Erf EyeLike IsNaN MaxUnpool MeanVarianceNormalization NonZero OneHot Scatter Shrink Sign TfIdfVectorizer Where"),
    (10, "ConvInteger DequantizeLinear IsInf MatMulInteger Mod NonMaxSuppression QLinearConv QLinearMatMul QuantizeLinear Resize ReverseSequence RoiAlign StringNormalizer ThresholdedRelu"),
    (11, "BitShift ConcatFromSequence CumSum Det DynamicQuantizeLinear GatherElements GatherND Range Round ScatterElements ScatterND SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SplitToSequence Unique"),
    (12, "Celu Einsum GreaterOrEqual LessOrEqual"),
    (14, "HardSwish Trilu"),
    (15, "Bernoulli CastLike Optional OptionalGetElement OptionalHasElement"),
    (16, "GridSample"),
    (17, "BlackmanWindow DFT HammingWindow HannWindow LayerNormalization MelWeightMatrix SequenceMap STFT"),
    (18, "BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im GroupNormalization Mish"),
    (19, "DeformConv"),
    (20, "AffineGrid Gelu ImageDecoder RegexFullMatch StringConcat StringSplit"),
    (23, "Attention RMSNormalization RotaryEmbedding"),
    (24, "Swish TensorScatter"),
];

/// What to do about the refusal `message` of a model made by `producer`, as sentences without the last
/// full stop; `None` where that is not known.
pub(super) fn advice(message: &str, producer: &str) -> Option<String> {
    locale(message)
        .or_else(|| too_new(message))
        .or_else(|| unregistered(message))
        .or_else(|| not_of_onnx(message, producer))
        .or_else(|| no_kernel(message))
}

fn locale(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("Failed to construct locale with name:")?;
    let name = rest.split(':').next().unwrap_or_default();
    Some(format!(
        "The operator StringNormalizer needs the locale {name}, which is not installed where the \
         server runs. Install it (Debian: apt-get install locales-all), or give the operator the \
         attribute locale=\"C.UTF-8\""
    ))
}

/// An opset or a file format that came after this ONNX Runtime.
fn too_new(message: &str) -> Option<String> {
    const NEWER: &str = "use a newer ONNX Runtime (--onnxruntime_library)";
    if let Some((_, rest)) = message.split_once("Unsupported model IR version: ") {
        let numbers = numbers(rest);
        let (has, knows) = (numbers.first()?, numbers.get(1)?);
        return Some(format!(
            "The file's IR version {has} is newer than this ONNX Runtime, which knows versions up to \
             {knows}. Save the model with an older onnx package or set its ir_version to {knows}, or \
             {NEWER}"
        ));
    }
    let (before, after) = message.split_once("Current official support for domain ")?;
    let (domain, rest) = after.split_once(" is till opset ")?;
    let (_, opset) = before.split_once("Opset ")?;
    let (has, knows) = (*numbers(opset).first()?, *numbers(rest).first()?);
    Some(format!(
        "The model uses opset {has} of {domain}, this ONNX Runtime knows opsets up to {knows}. Export \
         the model with opset {knows} or lower, or {NEWER}"
    ))
}

/// `DOMAIN:OPERATOR(-1) is not a registered function/op`, and domains that the file does not import.
fn unregistered(message: &str) -> Option<String> {
    let domain = match message.split_once(" is not a registered function/op") {
        Some((before, _)) => before.rsplit([' ', '\n']).next()?.rsplit_once(':')?.0,
        None => {
            let (_, rest) = message.split_once("No opset import for domain '")?;
            let domain = rest.split('\'').next()?;
            if is_built_in(domain) {
                return Some(format!(
                    "The file uses operators of {domain} and does not import it: add {domain} to its \
                     opset_import"
                ));
            }
            domain
        }
    };
    Some(match domain {
        "ai.onnx.contrib" => "Operators of ai.onnx.contrib come with the library \
             onnxruntime-extensions, which this server does not load. Do their part (tokenizing, \
             decoding images) in the client, and export the model without it"
            .to_owned(),
        _ if domain.contains("tensorflow") => OF_TENSORFLOW.to_owned(),
        _ if domain.starts_with("org.pytorch") => "The exporter left operators of PyTorch in the \
             model. Export it without operator_export_type, by a newer PyTorch (dynamo=True)"
            .to_owned(),
        _ if domain.contains("training") => {
            "This is a graph for training. Export the model for inference".to_owned()
        }
        _ if domain.contains("TRT") || domain.contains("tensorrt") => OF_TENSORRT.to_owned(),
        _ if is_built_in(domain) => format!(
            "This ONNX Runtime has no such operator in {domain}: the model may be made for a newer \
             one, or for one built for other hardware (--onnxruntime_library)"
        ),
        _ => format!(
            "Operators of {domain} come with a library of custom operators, which this server does \
             not load. Replace them by operators of ONNX, or write them as functions in the model"
        ),
    })
}

const OF_TENSORFLOW: &str = "Operators of TensorFlow that no ONNX runtime has must be replaced or \
                             moved out of the model before it is converted";
const OF_TENSORRT: &str = "Operators of TensorRT run in TensorRT only. Export the model without its \
                           plugins";

fn is_built_in(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx" | "ai.onnx.ml") || domain.starts_with("com.microsoft")
}

/// An operator in ONNX's domain that ONNX does not have, or not in this opset.
fn not_of_onnx(message: &str, producer: &str) -> Option<String> {
    if let Some((_, rest)) = message.split_once("is deprecated in domain_version of ") {
        let opset = *numbers(rest).first()?;
        return Some(format!(
            "ONNX has dropped the operator before opset {opset}. Convert the model to that opset by \
             onnx.version_converter, or export it again"
        ));
    }
    let (_, rest) = message.split_once("No Op registered for ")?;
    let (operator, rest) = rest.split_once(" with domain_version of ")?;
    let opset = *numbers(rest).first()?;
    let mut later = LATER_OPERATORS.iter();
    let is_later = |(since, names): &&(u32, &str)| {
        *since > opset && names.split(' ').any(|name| name == operator)
    };
    if let Some((since, _)) = later.find(is_later) {
        return Some(format!(
            "{operator} came with opset {since}, and the model declares opset {opset}. Export it with \
             opset {since} or later"
        ));
    }
    if operator.contains("TRT") {
        return Some(OF_TENSORRT.to_owned());
    }
    if producer.contains("pytorch") {
        return Some(format!(
            "ONNX has no operator {operator}. Replace it in the model before it is exported"
        ));
    }
    Some(OF_TENSORFLOW.to_owned())
}

fn no_kernel(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("Could not find an implementation for ")?;
    let operator = rest.split('(').next()?;
    Some(format!(
        "ONNX Runtime has no CPU kernel of {operator} for the model's data types. Export the model \
         with others, such as float32"
    ))
}

/// The whole numbers in a text, in order.
fn numbers(text: &str) -> Vec<u32> {
    let parts = text.split(|c: char| !c.is_ascii_digit());
    parts.filter_map(|it| it.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of ONNX Runtime 1.24 and 1.28, shortened, and a part of what is said about each.
    #[test]
    fn each_reason_has_its_own_way_out() {
        let no_op = "Error No Op registered for";
        for (message, producer, part) in [
            (
                "Failed to construct locale with name:en_US.UTF-8:locale::facet: name not valid",
                "skl2onnx",
                "the locale en_US.UTF-8",
            ),
            (
                "Opset 99 is under development and support for this is limited. Current official \
                 support for domain ai.onnx is till opset 24.",
                "",
                "opset 99 of ai.onnx, this ONNX Runtime knows opsets up to 24",
            ),
            (
                "Unsupported model IR version: 99, max supported IR version: 11",
                "",
                "set its ir_version to 11",
            ),
            (
                "Fatal error: ai.onnx.contrib:BertTokenizer(-1) is not a registered function/op",
                "",
                "onnxruntime-extensions",
            ),
            (
                "Error No opset import for domain 'ai.onnx.contrib'",
                "",
                "onnxruntime-extensions",
            ),
            (
                "Error No opset import for domain 'com.microsoft'",
                "",
                "does not import it: add com.microsoft",
            ),
            (
                "Fatal error: com.example:MyOp(-1) is not a registered function/op",
                "",
                "custom operators",
            ),
            (
                "Fatal error: com.microsoft:New(-1) is not a registered function/op",
                "",
                "--onnxruntime_library",
            ),
            (
                "Fatal error: ai.onnx.converters.tensorflow:X(-1) is not a registered function/op",
                "",
                "Operators of TensorFlow",
            ),
            (
                &format!("{no_op} StaticRegexReplace with domain_version of 17"),
                "tf2onnx",
                "Operators of TensorFlow",
            ),
            (
                &format!("{no_op} RMSNormalization with domain_version of 17"),
                "",
                "RMSNormalization came with opset 23",
            ),
            (
                &format!("{no_op} LayerNormalization with domain_version of 13"),
                "",
                "LayerNormalization came with opset 17",
            ),
            (
                &format!("{no_op} prim_Loop with domain_version of 17"),
                "pytorch",
                "ONNX has no operator prim_Loop",
            ),
            (
                "Could not find an implementation for Sin(22) with node name ''",
                "",
                "no CPU kernel of Sin",
            ),
            (
                "Error Op registered for Upsample is deprecated in domain_version of 17",
                "",
                "onnx.version_converter",
            ),
        ] {
            let said = advice(message, producer).unwrap_or_default();
            assert!(said.contains(part), "{message}: {said}");
            let is_tensorflow = part.contains("TensorFlow");
            assert_eq!(
                said.contains("TensorFlow"),
                is_tensorflow,
                "{message}: {said}"
            );
        }
    }

    #[test]
    fn nothing_is_said_where_nothing_is_known() {
        for message in [
            "Type Error: Type 'tensor(float)' of input parameter (x) of operator (Not) is invalid.",
            "Error Unrecognized attribute: nope for operator LeakyRelu",
            "Node with schema(::Add:14) has input size 3 not in range [min=2, max=2].",
            "",
        ] {
            assert_eq!(advice(message, "tf2onnx"), None, "{message}");
        }
    }
}
