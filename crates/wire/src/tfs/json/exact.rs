//! Reads predict bodies step by step as TensorFlow Serving does: the reference, and the source of every
//! error (`FillPredictRequestFromJson`, `json_tensor.cc`).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::column::Column;
use super::document::{Document, c_string, text};
use super::fill::fill;
use super::predict_body::{Format, InputSpec, PredictBody, no_inputs};
use super::sizes::Sizes;
use base::error::{Result, ServingError};
use base::tensor::NamedTensors;
use codec::json::cursor::{Cursor, JsonKind};
use codec::json::debug_text::debug_text;

/// See [`decode_predict`](super::decode_predict).
pub(super) fn decode(
    body: &[u8],
    resolve: &mut impl FnMut(&str) -> Result<Vec<InputSpec>>,
) -> Result<PredictBody> {
    let document = Document::parse(body)?;
    let [name, filter, instances, inputs] =
        document.members(["signature_name", "output_filter", "instances", "inputs"]);
    let signature_name = document.signature_name(name)?;
    let output_filter = match filter {
        None => Vec::new(),
        Some(filter) => strings(filter).ok_or_else(|| {
            document
                .error("not formatted correctly. 'output_filter' key must be a list of strings.")
        })?,
    };
    let mut specs = resolve(&signature_name)?;
    specs.sort_by(|a, b| a.alias.cmp(&b.alias));
    if specs.is_empty() {
        return Err(no_inputs(&signature_name));
    }
    let (format, inputs) = match (instances, inputs) {
        (Some(_), Some(_)) => {
            return Err(document.error(
                "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
            ));
        }
        (Some(instances), None) => {
            if instances.kind() != JsonKind::Array {
                return Err(document.error("Expecting 'instances' to be an list/array"));
            }
            let first = instances.elements().next();
            let first = first.ok_or_else(|| document.error("No values in 'instances' array"))?;
            (Format::Row, rows(instances, first, &specs)?)
        }
        (None, Some(inputs)) => (Format::Columnar, columns(inputs, &specs)?),
        (None, None) => {
            return Err(ServingError::invalid_argument(
                "Missing 'inputs' or 'instances' key",
            ));
        }
    };
    Ok(PredictBody {
        signature_name,
        format,
        inputs,
        output_filter,
    })
}

fn strings(list: Cursor<'_>) -> Option<Vec<String>> {
    if list.kind() != JsonKind::Array {
        return None;
    }
    let elements = list.elements();
    let strings = elements
        .map(|element| (element.kind() == JsonKind::String).then(|| text(&element.string())));
    strings.collect()
}

/// The tensors of `inputs` (`FillTensorMapFromInputsMap`).
fn columns(inputs: Cursor<'_>, specs: &[InputSpec]) -> Result<NamedTensors> {
    if inputs.kind() != JsonKind::Object || inputs.base64_text().is_some() {
        let Some(spec) = only(specs).and_then(|index| specs.get(index)) else {
            return Err(ServingError::invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors \
                 required as per tensorinfo_map",
            ));
        };
        return tensors([(spec, None, column(inputs, spec)?)]);
    }

    // The value and its key: a repeated key counts once, but two aliases are refused.
    let mut first_by_alias: BTreeMap<&[u8], (Cursor<'_>, Vec<u8>)> = BTreeMap::new();
    for (key, value) in inputs.members() {
        let known = specs.binary_search_by(|spec| spec.alias.as_bytes().cmp(&key));
        let kept = || specs.iter().position(|spec| spec.keeps(&key));
        let Some(index) = known.ok().or_else(kept) else {
            continue;
        };
        match first_by_alias.entry(specs[index].alias.as_bytes()) {
            Entry::Occupied(first) if first.get().1 != key => return Err(two_aliases(&key)),
            Entry::Occupied(_) => {}
            Entry::Vacant(first) => drop(first.insert((value, key))),
        }
    }
    let mut columns = Vec::with_capacity(specs.len());
    for spec in specs {
        let value = first_by_alias.get(spec.alias.as_bytes());
        if value.is_none() && spec.is_optional {
            continue;
        }
        let value = value.ok_or_else(|| {
            ServingError::invalid_argument(format!(
                "Missing named input: {} in 'inputs' object.",
                spec.alias
            ))
        })?;
        columns.push((spec, None, column(value.0, spec)?));
    }
    tensors(columns)
}

/// The index of the input that an unnamed value belongs to: the only required one.
fn only(specs: &[InputSpec]) -> Option<usize> {
    let mut needed = (0..specs.len()).filter(|&index| !specs[index].is_optional);
    match (specs.len(), needed.next(), needed.next()) {
        (1, ..) => Some(0),
        (_, Some(index), None) => Some(index),
        _ => None,
    }
}

fn column(value: Cursor<'_>, spec: &InputSpec) -> Result<(Sizes, Column)> {
    let mut column = Column::new(spec.dtype);
    let (shape, _) = fill(value, &mut column)?;
    Ok((shape, column))
}

/// Makes the tensors at the end, as TensorFlow Serving does: their errors come after all others. If there
/// are rows, their number is the first dimension.
fn tensors<'s>(
    columns: impl IntoIterator<Item = (&'s InputSpec, Option<usize>, (Sizes, Column))>,
) -> Result<NamedTensors> {
    let tensors = columns.into_iter().map(|(spec, rows, (shape, column))| {
        let shape = rows.into_iter().chain(shape.iter());
        let tensor = column.into_tensor(&spec.alias, shape)?;
        Ok((spec.alias.clone(), tensor))
    });
    tensors.collect()
}

/// The tensors of `instances` (`FillTensorMapFromInstancesList`), whose first element is `first`.
fn rows(instances: Cursor<'_>, first: Cursor<'_>, specs: &[InputSpec]) -> Result<NamedTensors> {
    let only = only(specs);
    if first.kind() != JsonKind::Object && only.is_none() {
        return Err(ServingError::invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors \
             required as per tensorinfo_map",
        ));
    }
    let objects = is_named(first);
    let mut batches: Vec<Batch<'_>> = specs.iter().map(Batch::new).collect();
    let mut count = 0;
    for (index, element) in instances.elements().enumerate() {
        match (objects, is_named(element)) {
            (true, true) => object_row(index, element, &mut batches)?,
            (true, false) => {
                return Err(ServingError::invalid_argument(format!(
                    "Expecting object but got list at item {index} of input list"
                )));
            }
            (false, true) => {
                return Err(ServingError::invalid_argument(format!(
                    "Expecting value/list but got object at item {index} of input list"
                )));
            }
            // With several inputs TensorFlow Serving picks an arbitrary one; this picks the first.
            (false, false) => batches[only.unwrap_or_default()]
                .push(element)
                .map_err(|error| row_error(index, "", &error))?,
        }
        count = index + 1;
    }
    let filled = batches
        .into_iter()
        .filter_map(|batch| Some((batch.spec, Some(count), (batch.first?.0, batch.column))));
    tensors(filled)
}

/// Whether a value is an object but not a base64 value.
fn is_named(value: Cursor<'_>) -> bool {
    value.kind() == JsonKind::Object && value.base64_text().is_none()
}

fn object_row(index: usize, element: Cursor<'_>, batches: &mut [Batch<'_>]) -> Result<()> {
    for (key, value) in element.members() {
        let key = c_string(&key);
        let found = batches.binary_search_by(|batch| batch.spec.alias.as_bytes().cmp(key));
        let kept = || batches.iter().position(|batch| batch.spec.keeps(key));
        let pushed = match found.ok().or_else(kept) {
            Some(found) if batches[found].rows > index && !batches[found].came_as(key) => {
                Err(two_aliases(key))
            }
            Some(found) => {
                let batch = &mut batches[found];
                batch.first_row.get_or_insert(index);
                batch.rows = index + 1;
                batch.kept = batch.spec.kept.iter().position(|it| it.as_bytes() == key);
                batch.push(value)
            }
            None => Err(ServingError::invalid_argument(format!(
                "JSON object: does not have named input: {}",
                text(key)
            ))),
        };
        pushed.map_err(|error| row_error(index, &format!(" key: {}", text(key)), &error))?;
    }
    if batches.iter().all(|batch| batch.is_complete(index + 1)) {
        return Ok(());
    }
    let aliases: Vec<&str> = batches
        .iter()
        .map(|batch| batch.spec.alias.as_str())
        .collect();
    Err(ServingError::invalid_argument(format!(
        "Failed to process element: {index} of 'instances' list. JSON object: {} keys must be \
         equal to: {}",
        debug_text(element),
        aliases.join(",")
    )))
}

fn two_aliases(key: &[u8]) -> ServingError {
    ServingError::invalid_argument(format!(
        "JSON object: has named input: {} and another alias of it; send one of them",
        text(key)
    ))
}

/// Every error in an element becomes an invalid argument.
fn row_error(index: usize, key: &str, error: &ServingError) -> ServingError {
    ServingError::invalid_argument(format!(
        "Failed to process element: {index}{key} of 'instances' list. Error: {}: {error}",
        error.code()
    ))
}

/// The rows of one input so far.
struct Batch<'s> {
    spec: &'s InputSpec,
    column: Column,
    /// Shape and number of leaves of the first row; all others must have the same.
    first: Option<(Sizes, usize)>,
    /// In object mode, one more than the index of the last element that contained this input.
    rows: usize,
    /// The index of the first element that contained it.
    first_row: Option<usize>,
    /// The index of the kept alias that the last element used; `None` for the alias itself.
    kept: Option<usize>,
}

impl<'s> Batch<'s> {
    fn new(spec: &'s InputSpec) -> Self {
        Self {
            spec,
            column: Column::new(spec.dtype),
            first: None,
            rows: 0,
            first_row: None,
            kept: None,
        }
    }

    /// Whether the last element that contained this input used this key.
    fn came_as(&self, key: &[u8]) -> bool {
        let alias = self
            .kept
            .map_or(&self.spec.alias, |kept| &self.spec.kept[kept]);
        alias.as_bytes() == key
    }

    /// Whether all of the `rows` elements contained this input, or none did and it is optional.
    fn is_complete(&self, rows: usize) -> bool {
        match self.first_row {
            None => self.spec.is_optional,
            Some(first) => first == 0 && self.rows == rows,
        }
    }

    /// Appends one row (`AddInstanceItem`).
    fn push(&mut self, value: Cursor<'_>) -> Result<()> {
        let (shape, size) = fill(value, &mut self.column)?;
        let Some((first_shape, first_size)) = &self.first else {
            self.first = Some((shape, size));
            return Ok(());
        };
        if size != *first_size {
            return Err(ServingError::invalid_argument(format!(
                "Expecting tensor size: {first_size} but got: {size}"
            )));
        }
        if shape != *first_shape {
            return Err(ServingError::invalid_argument(format!(
                "Expecting shape {} but got: {}",
                first_shape.text(),
                shape.text()
            )));
        }
        Ok(())
    }
}
