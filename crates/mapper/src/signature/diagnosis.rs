//! The error for a signature that does not fit its graph: it lists both sides, and a map to fill in.

use std::fmt::Write;

use super::alias_change::Side;
use super::declaration::{Declaration, Interface};
use super::matching::{Matching, Wanted, is_convertible, known_shape, looks_like, tensor_name};
use base::error::ServingError;
use base::tensor::DataType;
use runtime::ValueInfo;

/// Marks a value that the user has to fill in.
const OPEN_SLOT: &str = "???";

/// The error for a signature that does not fit its graph. `unfed` are graph inputs that the signature's
/// outputs need and that nothing feeds.
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
    let free = |name: &&String| !unfed.contains(name);
    let left = inputs.left.iter().filter(free).collect();
    let side = Side::Input;
    describe(&mut text, side, declaration, inputs, left, &graph.inputs);
    let left = outputs.left.iter().collect();
    let side = Side::Output;
    describe(&mut text, side, declaration, outputs, left, &graph.outputs);
    for name in unfed {
        let _ = writeln!(
            text,
            "  graph input {} is needed and no alias feeds it",
            value_text(name, &graph.inputs)
        );
    }
    text.push_str("write a signature_map.pbtxt next to the model, with every ??? filled in:\n");
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
    side: Side,
    declaration: &Declaration,
    matching: &Matching,
    left: Vec<&String>,
    values: &[ValueInfo],
) {
    let wanted = open(declaration, side, matching);
    for it in &wanted {
        let free = fitting(it, matching, values);
        let so_far = so_far_text(it, matching, values);
        let found = match free.as_slice() {
            [] if so_far.is_some() => None,
            [] => Some(taken_text(side, it, declaration, matching, values)),
            [only] => Some(only_text(it, only, &wanted)),
            several => {
                let names: Vec<String> = several.iter().map(|it| quoted(&it.name)).collect();
                Some(format!("several tensors match: {}", names.join(", ")))
            }
        };
        let reasons: Vec<String> = found.into_iter().chain(so_far).collect();
        let _ = writeln!(
            text,
            "  {side} {}: {}",
            wanted_text(it),
            reasons.join("; or ")
        );
    }
    for name in left {
        let _ = writeln!(
            text,
            "  graph {side} {} has no alias",
            value_text(name, values)
        );
    }
}

/// The aliases of a side, sorted.
fn all_wanted(declaration: &Declaration, side: Side) -> Vec<Wanted> {
    match side {
        Side::Input => declaration.wanted_inputs(),
        Side::Output => declaration.wanted_outputs(),
    }
}

/// The aliases of a side without a tensor.
fn open(declaration: &Declaration, side: Side, matching: &Matching) -> Vec<Wanted> {
    let mut wanted = all_wanted(declaration, side);
    wanted.retain(|it| matching.open.contains(&it.alias));
    wanted
}

/// Why an alias was not matched with the only free tensor that could fit.
fn only_text(wanted: &Wanted, only: &ValueInfo, open: &[Wanted]) -> String {
    let name = quoted(&only.name);
    let others = open.iter().filter(|it| !is_same(wanted, it));
    let others: Vec<String> = others
        .filter(|it| fits(it, only))
        .map(|it| quoted(&it.alias))
        .collect();
    if !looks_like(wanted, only) {
        let same_dtype = DataType::from_number(wanted.info.dtype) == only.dtype;
        return match same_dtype {
            true => format!("{name} has its dtype and rank, but another shape"),
            false => format!("{name} has its rank, but another dtype"),
        };
    }
    match others.is_empty() {
        true => format!("{name} matches"),
        false => format!("{name} matches, or is the tensor of {}", others.join(", ")),
    }
}

/// Whether two aliases are of one tensor.
fn is_same(one: &Wanted, other: &Wanted) -> bool {
    let name = tensor_name(&one.info);
    one.alias == other.alias || (!name.is_empty() && name == tensor_name(&other.info))
}

/// The tensors that could have had this alias before a map gave them another one.
fn so_far_text(wanted: &Wanted, matching: &Matching, values: &[ValueInfo]) -> Option<String> {
    let unexplained = values
        .iter()
        .filter(|it| matching.unexplained.contains(&it.name));
    let named = unexplained.filter(|it| looks_like(wanted, it)).map(|it| {
        let alias = alias_of(it, matching);
        let alias = alias.map_or_else(String::new, |it| format!(", which the map calls {it}"));
        format!("{}{alias}", quoted(&it.name))
    });
    let named: Vec<String> = named.collect();
    (!named.is_empty()).then(|| format!("it was the alias of {}", named.join(", or of ")))
}

fn alias_of(value: &ValueInfo, matching: &Matching) -> Option<String> {
    let mut found = matching.found.iter();
    let found = found.find(|(_, (tensor, _))| *tensor == value.name);
    found.map(|(alias, _)| quoted(alias))
}

/// For an alias that no free tensor fits: the tensors, each with its alias.
fn taken_text(
    side: Side,
    wanted: &Wanted,
    declaration: &Declaration,
    matching: &Matching,
    values: &[ValueInfo],
) -> String {
    if values.is_empty() {
        return format!("the graph has no {side}s");
    }
    let fed = declaration.layers.iter().flat_map(|it| &it.fed);
    let fed: Vec<&String> = fed.collect();
    let described = |value: &&ValueInfo| {
        let text = value_text(&value.name, values);
        match (alias_of(value, matching), side) {
            (Some(alias), _) => format!("{text} with the alias {alias}"),
            (None, _) if matching.left.contains(&value.name) => text,
            (None, Side::Input) if fed.contains(&&value.name) => {
                format!("{text}, which the map feeds")
            }
            (None, Side::Input) => format!("{text}, which is not needed"),
            (None, Side::Output) => format!("{text}, which is left out"),
        }
    };
    let fitting: Vec<&ValueInfo> = values.iter().filter(|it| fits(wanted, it)).collect();
    let are_taken = fitting.iter().all(|it| alias_of(it, matching).is_some());
    let (text, listed) = match fitting.is_empty() {
        true => ("none has its dtype and rank", values.iter().collect()),
        false if are_taken => ("each that has its dtype and rank is taken", fitting),
        false => ("none that has its dtype and rank is left", fitting),
    };
    let listed: Vec<String> = listed.iter().map(described).collect();
    format!("of the graph's {side}s {text}: {}", listed.join(", "))
}

/// The free tensors that could belong to an alias.
fn fitting<'a>(
    wanted: &Wanted,
    matching: &Matching,
    values: &'a [ValueInfo],
) -> Vec<&'a ValueInfo> {
    let free = values.iter().filter(|it| matching.left.contains(&it.name));
    free.filter(|it| fits(wanted, it)).collect()
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
        (Side::Input, inputs, &graph.inputs),
        (Side::Output, outputs, &graph.outputs),
    ];
    for (side, matching, values) in sides {
        let open = open(declaration, side, matching);
        for it in &all_wanted(declaration, side) {
            let alias = quoted(&it.alias);
            let (said, more) = said_of(declaration, side, &it.alias);
            let (tensor, mut notes) = match matching.found.get(&it.alias) {
                Some((tensor, _)) => (quoted(tensor), Vec::new()),
                None => {
                    let note = choices(it, &open, matching, values);
                    (quoted(OPEN_SLOT), vec![note])
                }
            };
            notes.extend(more);
            let notes = match notes.is_empty() {
                true => String::new(),
                false => format!("  # {}", notes.join("; ")),
            };
            let _ = writeln!(
                text,
                "  {side} {{ alias: {alias} tensor: {tensor}{said} }}{notes}"
            );
        }
    }
    if let Some(rest) = rest_of_map(declaration) {
        let _ = writeln!(text, "  # and, as in the map so far: {rest}");
    }
    // If an alias is open, an unfed input could be its tensor, so no constant is suggested.
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

/// The tensors to choose from for an open alias.
fn choices(wanted: &Wanted, open: &[Wanted], matching: &Matching, values: &[ValueInfo]) -> String {
    let free = fitting(wanted, matching, values);
    let wants = |it: &&Wanted| free.iter().any(|value| fits(it, value));
    let others = open.iter().filter(|it| !is_same(wanted, it));
    let is_short = others.filter(wants).count() >= free.len();
    let (choices, otherwise) = match free.is_empty() {
        true => (values.iter().collect(), true),
        false => (free, is_short),
    };
    let choices: Vec<String> = choices.iter().map(|it| quoted(&it.name)).collect();
    let otherwise = if otherwise {
        "; or, to leave it out, drop: true for tensor"
    } else {
        ""
    };
    format!("one of: {}{otherwise}", choices.join(", "))
}

/// The fields other than `tensor` that the map sets for an alias, and a note about fields that are too long
/// to repeat.
fn said_of(declaration: &Declaration, side: Side, alias: &str) -> (String, Option<String>) {
    let ports = match side {
        Side::Input => &declaration.inputs,
        Side::Output => &declaration.outputs,
    };
    let mut layers = declaration
        .layers
        .iter()
        .filter_map(|it| it.ports(side).get(alias));
    let mut said = String::new();
    if layers.any(|it| it.keep) {
        said.push_str(" keep: true");
    }
    let Some(port) = ports.get(alias) else {
        return (said, None);
    };
    if let Some(dtype) = DataType::from_number(port.dtype) {
        let _ = write!(said, " dtype: {}", dtype.proto_name());
    }
    if !port.transpose.is_empty() {
        let _ = write!(said, " transpose: {:?}", port.transpose);
    }
    if !port.reshape.is_empty() {
        let _ = write!(said, " reshape: {:?}", port.reshape);
    }
    if port.top_k != 0 {
        let _ = write!(said, " top_k: {}", port.top_k);
    }
    let long = [
        ("shape", port.shape.is_some()),
        ("default", port.has_default),
        ("labels", port.labels.is_some()),
    ];
    let long: Vec<&str> = long.iter().filter(|it| it.1).map(|it| it.0).collect();
    let more = (!long.is_empty()).then(|| format!("with its {}", long.join(", ")));
    (said, more)
}

/// The other entries of the map.
fn rest_of_map(declaration: &Declaration) -> Option<String> {
    let mut rest = Vec::new();
    for layer in &declaration.layers {
        for side in [Side::Input, Side::Output] {
            let dropped = layer.ports(side).iter().filter(|(_, port)| port.drop);
            rest.extend(
                dropped
                    .map(|(alias, _)| format!("{side} {{ alias: {} drop: true }}", quoted(alias))),
            );
        }
    }
    let constants = declaration.constants.iter();
    rest.extend(constants.map(|(tensor, _)| format!("the constant for {}", quoted(tensor))));
    rest.extend(
        declaration
            .example
            .iter()
            .map(|_| "example_input".to_owned()),
    );
    (!rest.is_empty()).then(|| rest.join(", "))
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
pub fn shape_text(shape: Option<&[i64]>) -> String {
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

/// A string in protobuf's text format.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
