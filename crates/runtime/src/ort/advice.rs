//! Advice about a model that ONNX Runtime refuses, chosen by the error message.
//!
//! A sentence appears only if it fits the reason: advice about TensorFlow's operators after a locale
//! error would mislead.
//!
//! Not here: the errors themselves (`status`), which operators there are (`operators`).

mod operators;

use self::operators::{ONNX, domain_of, full_name, last_opset, respelled, since, was_on_trial};

/// Advice about the refusal `message` of a model made by `producer`, as sentences without the last full
/// stop; `None` if none fits.
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

/// An opset or a file format that is newer than this ONNX Runtime.
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
        Some((before, _)) => {
            let (domain, operator) = before.rsplit([' ', '\n']).next()?.rsplit_once(':')?;
            let operator = operator.split('(').next()?;
            if let Some(text) = misnamed(domain, operator) {
                return Some(text);
            }
            domain
        }
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
        _ if domain.starts_with("org.pytorch") => OF_PYTORCH.to_owned(),
        _ if domain.contains("training") => {
            "This is a graph for training. Export the model for inference".to_owned()
        }
        _ if domain.contains("TRT") || domain.contains("tensorrt") => OF_TENSORRT.to_owned(),
        _ if is_built_in(domain) => format!(
            "This ONNX Runtime has no such operator in {domain}: the model might be made for a newer \
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
const OF_PYTORCH: &str = "The exporter left operators of PyTorch in the model. Export it without \
                          operator_export_type, by a newer PyTorch (dynamo=True)";
const OF_TENSORRT: &str = "Operators of TensorRT run in TensorRT only. Export the model without its \
                           plugins";

fn is_built_in(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx" | "ai.onnx.ml" | "ai.onnx.preview")
        || domain.starts_with("com.microsoft")
}

/// An operator that a domain of ONNX or ONNX Runtime never had: the domain that has it, or its correct
/// spelling.
fn misnamed(domain: &str, operator: &str) -> Option<String> {
    if !is_built_in(domain) || since(domain, operator).is_some() {
        return None;
    }
    let domain = full_name(domain);
    if let Some(other) = domain_of(operator) {
        return Some(format!(
            "{operator} is an operator of {other}, and the model has it in {domain}. Set the node's \
             domain to {} and import it in opset_import, or export the model again",
            match other {
                ONNX => "\"\"",
                _ => other,
            }
        ));
    }
    if let Some(name) = respelled(domain, operator) {
        return Some(format!(
            "{domain} writes it {name}: upper and lower case count. Rename the operator in the model"
        ));
    }
    if domain != ONNX {
        return None;
    }
    if operator == "ATen" {
        return Some(OF_PYTORCH.to_owned());
    }
    if was_on_trial(operator) {
        return Some(format!(
            "{operator} was an experimental operator, which ONNX has removed. Export the model by a \
             newer exporter"
        ));
    }
    None
}

/// An operator that its domain does not have, or not in this opset.
fn not_of_onnx(message: &str, producer: &str) -> Option<String> {
    if let Some((before, rest)) = message.split_once(" is deprecated in domain_version of ") {
        let operator = before.rsplit(' ').next()?;
        let opset = *numbers(rest).first()?;
        return Some(ended(domain_in(before, operator), operator, opset));
    }
    let (before, rest) = message.split_once("No Op registered for ")?;
    let (operator, rest) = rest.split_once(" with domain_version of ")?;
    let opset = *numbers(rest).first()?;
    let domain = domain_in(before, operator);
    let shown = full_name(domain);
    if let Some(since) = since(domain, operator) {
        // The opset is printed with the domain unless the domain is ONNX's own.
        let of_domain = match shown {
            ONNX => String::new(),
            _ => format!(" of {shown}"),
        };
        return Some(match since > opset {
            true => format!(
                "{operator} came with opset {since}{of_domain}, and the model declares opset {opset}. \
                 Export it with opset {since}{of_domain} or later, for an ONNX Runtime that knows it"
            ),
            false => format!(
                "This ONNX Runtime does not have {operator} of opset {opset}{of_domain}: use a newer \
                 one (--onnxruntime_library)"
            ),
        });
    }
    if let Some(text) = misnamed(domain, operator) {
        return Some(text);
    }
    if operator.contains("TRT") {
        return Some(OF_TENSORRT.to_owned());
    }
    if shown == ONNX && is_of_tensorflow(producer) {
        return Some(OF_TENSORFLOW.to_owned());
    }
    Some(match shown {
        ONNX => format!(
            "ONNX has no operator {operator}. Replace it by operators of ONNX before the model is \
             exported"
        ),
        _ => format!(
            "The domain {shown} has no operator {operator}. Replace it by operators of ONNX before \
             the model is exported"
        ),
    })
}

/// Advice about a deprecated operator.
fn ended(domain: &str, operator: &str, opset: u32) -> String {
    let again = format!(
        "ONNX has dropped {operator} by opset {opset}, which the model declares. Export the model again"
    );
    match (last_opset(domain, operator), full_name(domain)) {
        (Some(last), ONNX) => format!(
            "{again}, or set its opset_import to {last}, the last that has {operator}, if its other \
             operators are of that opset too, and then convert it by onnx.version_converter"
        ),
        (Some(last), domain) => {
            format!("{again}, with opset {last} of {domain}, the last that has it")
        }
        // It was reintroduced later.
        (None, _) if operator == "GroupNormalization" => format!("{again}, with opset 21 or later"),
        (None, _) => again,
    }
}

/// The domain of the node that a message is about: `("NAME", OPERATOR, "DOMAIN", -1)`.
fn domain_in<'a>(before: &'a str, operator: &str) -> &'a str {
    let found = before.split_once(&format!(", {operator}, \""));
    let domain = found.and_then(|(_, rest)| rest.split_once('"'));
    domain.map_or("", |(domain, _)| domain)
}

/// Whether the file was made by a program that converts TensorFlow's operators to ONNX's.
fn is_of_tensorflow(producer: &str) -> bool {
    let producer = producer.to_ascii_lowercase();
    let names = ["tf2onnx", "keras", "tensorflow"];
    names.iter().any(|name| producer.contains(name))
}

fn no_kernel(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("Could not find an implementation for ")?;
    let operator = rest.split('(').next()?;
    Some(format!(
        "ONNX Runtime has no CPU kernel of {operator} for the model's data types, or has none at all. \
         If {operator} takes others, such as float32, export the model with those; otherwise replace \
         {operator} by other operators"
    ))
}

/// The whole numbers in a text, in order.
fn numbers(text: &str) -> Vec<u32> {
    let parts = text.split(|c: char| !c.is_ascii_digit());
    parts.filter_map(|it| it.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
