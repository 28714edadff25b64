//! What to say when a signature does not fit its graph: both sides, and a map to fill in.

use std::fmt::Write;

use super::declaration::{Declaration, Interface};
use super::matching::{Matching, Wanted, is_convertible, known_shape, tensor_name};
use base::error::ServingError;
use base::tensor::DataType;
use runtime::ValueInfo;

/// Marks what a person has to fill in.
const OPEN_SLOT: &str = "???";

/// The error of a signature that does not fit its graph. `unfed` are graph inputs that the
/// signature's outputs need and that nothing feeds.
pub fn does_not_fit(
    declaration: &Declaration,
    graph: &Interface,
    graph_file: &str,
    inputs: &Matching,
    outputs: &Matching,
    unfed: &[String],
) -> ServingError {
    let mut text = format!(
        "signature '{}' does not fit the graph in {graph_file}:\n",
        declaration.name
    );
    let wanted = declaration.wanted_inputs();
    let free = |name: &&String| !unfed.contains(name);
    let left = inputs.left.iter().filter(free).collect();
    describe(&mut text, "input", &wanted, (inputs, left), &graph.inputs);
    let wanted = declaration.wanted_outputs();
    let left = outputs.left.iter().collect();
    describe(
        &mut text,
        "output",
        &wanted,
        (outputs, left),
        &graph.outputs,
    );
    for name in unfed {
        let _ = writeln!(
            text,
            "  graph input {} is needed and no alias feeds it",
            value_text(name, &graph.inputs)
        );
    }
    text.push_str("write a signature_map.pbtxt beside the model, with every ??? filled in:\n");
    write_map(
        &mut text,
        declaration,
        graph,
        graph_file,
        inputs,
        outputs,
        unfed,
    );
    ServingError::invalid_argument(text)
}

fn describe(
    text: &mut String,
    what: &str,
    wanted: &[Wanted],
    (matching, left): (&Matching, Vec<&String>),
    values: &[ValueInfo],
) {
    for it in wanted.iter().filter(|it| matching.open.contains(&it.alias)) {
        let free = fitting(it, matching, values);
        let found = match free.as_slice() {
            [] => taken_text(what, it, matching, values),
            [only] => format!("{only} has its dtype and rank, but another shape"),
            _ => format!("several tensors may be meant: {}", free.join(", ")),
        };
        let _ = writeln!(text, "  {what} {}: {found}", wanted_text(it));
    }
    for name in left {
        let _ = writeln!(
            text,
            "  graph {what} {} has no alias",
            value_text(name, values)
        );
    }
}

/// Where no free tensor fits an alias: which tensors there are, and which alias each has.
fn taken_text(what: &str, wanted: &Wanted, matching: &Matching, values: &[ValueInfo]) -> String {
    if values.is_empty() {
        return format!("the graph has no {what}s");
    }
    let described = |value: &&ValueInfo| {
        let found = matching.found.iter();
        let alias = found.filter(|(_, (tensor, _))| *tensor == value.name);
        let alias = alias.map(|(alias, _)| quoted(alias)).next();
        let alias = alias.map_or_else(String::new, |it| format!(" with the alias {it}"));
        format!("{}{alias}", value_text(&value.name, values))
    };
    let fitting: Vec<&ValueInfo> = values.iter().filter(|it| fits(wanted, it)).collect();
    let (text, listed) = match fitting.is_empty() {
        true => ("none has its dtype and rank", values.iter().collect()),
        false => ("each that has its dtype and rank is taken", fitting),
    };
    let listed: Vec<String> = listed.iter().map(described).collect();
    format!("of the graph's {what}s {text}: {}", listed.join(", "))
}

/// The free tensors that an alias may mean, quoted.
fn fitting(wanted: &Wanted, matching: &Matching, values: &[ValueInfo]) -> Vec<String> {
    let free = values.iter().filter(|it| matching.left.contains(&it.name));
    let fitting = free.filter(|it| fits(wanted, it));
    fitting.map(|it| quoted(&it.name)).collect()
}

/// Whether a tensor's dtype and rank are right for an alias.
fn fits(wanted: &Wanted, value: &ValueInfo) -> bool {
    let dtype = DataType::from_number(wanted.info.dtype);
    let rank = known_shape(&wanted.info).map(|shape| shape.len());
    let converts = match (dtype, value.dtype) {
        (Some(own), Some(other)) => is_convertible(own, other),
        _ => false,
    };
    let other = value.shape.as_ref().map(Vec::len).filter(|&rank| rank > 0);
    converts && (rank.is_none() || other.is_none() || rank == other)
}

fn write_map(
    text: &mut String,
    declaration: &Declaration,
    graph: &Interface,
    graph_file: &str,
    inputs: &Matching,
    outputs: &Matching,
    unfed: &[String],
) {
    let _ = writeln!(text, "signature {{\n  name: {}", quoted(&declaration.name));
    let _ = writeln!(text, "  graph: {}", quoted(graph_file));
    let sides = [
        ("input", declaration.wanted_inputs(), inputs, &graph.inputs),
        (
            "output",
            declaration.wanted_outputs(),
            outputs,
            &graph.outputs,
        ),
    ];
    for (what, wanted, matching, values) in sides {
        for it in &wanted {
            let alias = quoted(&it.alias);
            let slot = match matching.found.get(&it.alias) {
                Some((tensor, _)) => format!("tensor: {} }}", quoted(tensor)),
                None => {
                    let free = fitting(it, matching, values);
                    let all = || values.iter().map(|it| quoted(&it.name)).collect();
                    let (choices, otherwise): (Vec<String>, _) = match free.is_empty() {
                        true => (all(), "; or, to leave it out, drop: true for tensor"),
                        false => (free, ""),
                    };
                    let choices = choices.join(", ");
                    format!("tensor: \"{OPEN_SLOT}\" }}  # one of: {choices}{otherwise}")
                }
            };
            let _ = writeln!(text, "  {what} {{ alias: {alias} {slot}");
        }
    }
    // While an input is open, what is not fed may be what it means.
    for name in unfed.iter().filter(|_| inputs.open.is_empty()) {
        let value = graph.inputs.iter().find(|it| it.name == *name);
        let dtype = value.and_then(|it| it.dtype);
        let _ = writeln!(
            text,
            "  # if no client sends it: constant {{ tensor: {} value {{ dtype: {} {OPEN_SLOT} }} }}",
            quoted(name),
            dtype.map_or(OPEN_SLOT, DataType::proto_name)
        );
    }
    text.push_str("}\n");
}

fn wanted_text(wanted: &Wanted) -> String {
    let dtype = DataType::from_number(wanted.info.dtype).map_or("?", DataType::name);
    let shape = shape_text(known_shape(&wanted.info).as_deref());
    format!(
        "{} ({dtype}{shape}, originally {})",
        quoted(&wanted.alias),
        quoted(tensor_name(&wanted.info))
    )
}

fn value_text(name: &str, values: &[ValueInfo]) -> String {
    let value = values.iter().find(|value| value.name == name);
    let dtype = value.and_then(|value| value.dtype);
    let shape = value.and_then(|value| value.shape.as_deref());
    format!(
        "{} ({}{})",
        quoted(name),
        dtype.map_or("no tensor", DataType::name),
        shape_text(shape)
    )
}

/// `[?,28,28,1]`; empty for an unknown rank.
fn shape_text(shape: Option<&[i64]>) -> String {
    let Some(shape) = shape else {
        return String::new();
    };
    let dims: Vec<String> = shape
        .iter()
        .map(|&dim| {
            if dim < 0 {
                "?".to_owned()
            } else {
                dim.to_string()
            }
        })
        .collect();
    format!("[{}]", dims.join(","))
}

/// A string of protobuf's text format.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
