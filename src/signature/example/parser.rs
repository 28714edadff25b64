//! One request's examples, one after another, into the columns of a specification.
//!
//! Order of checks and texts are those of `FastParseSerializedExample`
//! (`example_proto_fast_parsing.cc`): first the whole example's structure, then its features from
//! the last to the first, then what is missing.

use bytes::Bytes;

use super::column::{Column, Layout, Values, longest, ragged_tensor, sparse_tensor};
use super::list::{self, Malformed};
use super::reader::visit_features;
use super::{ExampleSpec, ParsedExamples};
use crate::error::{Result, ServingError};
use crate::tensor::DataType;

/// The original quotes the whole example; nobody can use more of it, and gRPC cuts texts here.
const MAX_QUOTED_BYTES: usize = 1024;

pub(super) fn parse(spec: &ExampleSpec, serialized: &[Bytes]) -> Result<ParsedExamples> {
    let request_bytes = serialized.iter().map(Bytes::len).sum();
    let mut collected = spec
        .columns
        .iter()
        .map(|column| Collected::try_new(column, serialized.len(), request_bytes))
        .collect::<Result<Vec<_>>>()?;

    let mut entries = Vec::new();
    for (index, example) in serialized.iter().enumerate() {
        entries.clear();
        visit_features(example, |key, feature| {
            if let Some(&column) = spec.index_by_key.get(key) {
                entries.push((column, feature));
            }
        })
        .ok_or_else(|| not_an_example(example))?;

        // Of equal keys the last counts.
        for &(column, feature) in entries.iter().rev() {
            collected[column].add(index, example, feature)?;
        }
        for column in &mut collected {
            column.finish_example(index)?;
        }
    }

    let mut parsed = ParsedExamples {
        dense: Vec::new(),
        sparse: Vec::new(),
        ragged: Vec::new(),
    };
    for column in collected {
        column.finish(serialized.len(), &mut parsed)?;
    }
    Ok(parsed)
}

/// What the examples have for one column so far.
struct Collected<'a> {
    column: &'a Column,
    values: Values,
    /// Where the values of each example end. Empty where every example has the same number.
    ends: Vec<usize>,
    /// The example that had a value last, counted from 1.
    last_example: usize,
    /// The length of all examples together.
    request_bytes: usize,
}

impl<'a> Collected<'a> {
    fn try_new(column: &'a Column, examples: usize, request_bytes: usize) -> Result<Self> {
        let mut values = Values::empty(column.dtype);
        if let Layout::Fixed { elements, .. } = &column.layout {
            Values::check_size(column.dtype, &[examples, *elements], request_bytes)?;
            values.reserve(examples * elements, request_bytes);
        }
        Ok(Self {
            column,
            request_bytes,
            values,
            ends: Vec::new(),
            last_example: 0,
        })
    }

    /// Adds a feature of example `index`, unless a later one of the same key was added before.
    fn add(&mut self, index: usize, example: &Bytes, feature: &[u8]) -> Result<()> {
        let kind = list::kind(feature)
            .map_err(|Malformed| ServingError::invalid_argument("Unsupported datatype."))?;
        let is_dense = matches!(
            self.column.layout,
            Layout::Fixed { .. } | Layout::Padded { .. }
        );
        // A feature of no kind is missing if dense, and empty otherwise.
        if (kind.is_none() && is_dense) || self.last_example == index + 1 {
            return Ok(());
        }
        self.last_example = index + 1;
        let Some((dtype, list)) = kind else {
            return Ok(());
        };
        if dtype != self.column.dtype {
            return Err(self.type_error(index, dtype));
        }

        let room = match self.column.layout {
            Layout::Fixed { elements, .. } => elements,
            _ => usize::MAX,
        };
        let count = list::append(list, example, room, &mut self.values)
            .map_err(|Malformed| self.error(index, "Can't parse serialized Example."))?;
        self.check_count(index, count)
    }

    fn check_count(&self, index: usize, count: usize) -> Result<()> {
        let kind = match self.column.dtype {
            DataType::String => "bytes",
            other => other.name(),
        };
        let shape = || self.column.shape_text();
        match self.column.layout {
            Layout::Fixed { elements, .. } if count != elements => Err(self.error(
                index,
                &format!(
                    "Number of {kind} values != expected.  Values size: {count} but output \
                     shape: {}",
                    shape()
                ),
            )),
            Layout::Padded { stride, .. } if !count.is_multiple_of(stride) => Err(self.error(
                index,
                &format!(
                    "Number of {kind} values is not a multiple of stride length. Saw {count} \
                     values but output shape is: {}",
                    shape()
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Fills in what example `index` lacks.
    fn finish_example(&mut self, index: usize) -> Result<()> {
        let Layout::Fixed { default, .. } = &self.column.layout else {
            self.ends.push(self.values.len());
            return Ok(());
        };
        if self.last_example == index + 1 {
            return Ok(());
        }
        let Some(default) = default else {
            return Err(ServingError::invalid_argument(format!(
                "Name: <unknown>, Feature: {} (data type: {}) is required but could not be found.",
                self.column.key, self.column.dtype
            )));
        };
        self.values.extend_from(default);
        Ok(())
    }

    /// Makes tensors of what was collected from all `examples`.
    fn finish(self, examples: usize, parsed: &mut ParsedExamples) -> Result<()> {
        match &self.column.layout {
            Layout::Fixed { shape, .. } => {
                let shape: Vec<usize> = std::iter::once(examples).chain(shape.clone()).collect();
                parsed.dense.push(self.values.into_tensor(&shape)?);
            }
            Layout::Padded {
                inner_shape,
                stride,
                padding,
            } => {
                let width = longest(&self.ends);
                let mut shape = vec![examples, width / stride];
                shape.extend_from_slice(inner_shape);
                Values::check_size(self.column.dtype, &shape, self.request_bytes)?;
                let padded = self.values.padded(&self.ends, width, padding.clone());
                parsed.dense.push(padded.into_tensor(&shape)?);
            }
            Layout::Sparse => {
                let tensor = sparse_tensor(self.values, &self.ends)?;
                parsed.sparse.push(tensor);
            }
            Layout::Ragged { wide } => {
                let tensor = ragged_tensor(self.values, &self.ends, *wide)?;
                parsed.ragged.push(tensor);
            }
        }
        Ok(())
    }

    fn type_error(&self, index: usize, actual: DataType) -> ServingError {
        let expected = self.column.dtype;
        let detail = match self.column.layout {
            Layout::Fixed { .. } | Layout::Padded { .. } => {
                format!("Data type: {actual} but expected type: {expected}")
            }
            Layout::Sparse | Layout::Ragged { .. } => {
                format!("Expected type: {expected}, Actual type: {actual}")
            }
        };
        self.error(index, &format!("Data types don't match. {detail}"))
    }

    /// Requests give examples no names, so the original's name is always `<unknown>`.
    fn error(&self, index: usize, detail: &str) -> ServingError {
        ServingError::invalid_argument(format!(
            "Name: <unknown>, Key: {}, Index: {index}.  {detail}",
            self.column.key
        ))
    }
}

fn not_an_example(example: &Bytes) -> ServingError {
    let quoted = &example[..example.len().min(MAX_QUOTED_BYTES)];
    ServingError::invalid_argument(format!(
        "Could not parse example input, value: '{}'",
        String::from_utf8_lossy(quoted)
    ))
}
