//! Parses the examples of one request, one after another, into the columns of a specification.
//!
//! The order of checks is that of `FastParseSerializedExample`
//! (`example_proto_fast_parsing.cc`): first the whole example's structure, then its features from
//! the last to the first, then the missing features.

use std::collections::HashMap;

use bytes::Bytes;

use super::column::{Column, Layout, Values, longest, ragged_tensor, sparse_tensor};
use super::errors::Form;
use super::list::{self, Malformed};
use super::parsed::ParsedExamples;
use super::reader::visit_features;
use base::error::{Result, ServingError};

/// TensorFlow quotes the whole example. This part is enough for a reader, and over gRPC error texts are cut
/// at this length anyway.
const MAX_QUOTED_BYTES: usize = 1024;

/// Parses the features of `columns`; `index_by_key` has the index of each.
pub(super) fn parse(
    columns: &[Column],
    index_by_key: &HashMap<Vec<u8>, usize>,
    serialized: &[Bytes],
    form: Form,
) -> Result<ParsedExamples> {
    let request_bytes = serialized.iter().map(Bytes::len).sum();
    let mut collected = columns
        .iter()
        .map(|column| Collected::try_new(column, serialized.len(), request_bytes, form))
        .collect::<Result<Vec<_>>>()?;

    let mut entries = Vec::new();
    for (index, example) in serialized.iter().enumerate() {
        entries.clear();
        visit_features(example, |key, feature| {
            if let Some(&column) = index_by_key.get(key) {
                entries.push((column, feature));
            }
        })
        .ok_or_else(|| not_an_example(example))?;

        // If keys are equal, the last one counts.
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

/// The values that the examples had for one column so far.
struct Collected<'a> {
    column: &'a Column,
    values: Values,
    /// Where the values of each example end. Empty if every example has the same number.
    ends: Vec<usize>,
    /// The last example that had a value, counted from 1.
    last_example: usize,
    /// The length of all examples together.
    request_bytes: usize,
    form: Form,
}

impl<'a> Collected<'a> {
    fn try_new(
        column: &'a Column,
        examples: usize,
        request_bytes: usize,
        form: Form,
    ) -> Result<Self> {
        let mut values = Values::empty(column.dtype);
        if let Layout::Fixed { elements, .. } = &column.layout {
            Values::check_size(column.dtype, &[examples, *elements], request_bytes)?;
            values.reserve(examples * elements, request_bytes);
        }
        Ok(Self {
            column,
            request_bytes,
            form,
            values,
            ends: Vec::new(),
            last_example: 0,
        })
    }

    /// Adds a feature of example `index`, unless a later one with the same key was added before.
    fn add(&mut self, index: usize, example: &Bytes, feature: &[u8]) -> Result<()> {
        let kind = list::kind(feature)
            .map_err(|Malformed| ServingError::invalid_argument("Unsupported datatype."))?;
        let is_dense = matches!(
            self.column.layout,
            Layout::Fixed { .. } | Layout::Padded { .. }
        );
        // A feature without a kind is missing if it is dense or in a scalar, and empty otherwise.
        let may_be_missing = is_dense || self.form == Form::Scalar;
        if (kind.is_none() && may_be_missing) || self.last_example == index + 1 {
            return Ok(());
        }
        self.last_example = index + 1;
        let Some((dtype, list)) = kind else {
            return Ok(());
        };
        if dtype != self.column.dtype {
            return Err(self.form.wrong_dtype(self.column, index, dtype));
        }

        let room = match self.column.layout {
            Layout::Fixed { elements, .. } => elements,
            _ => usize::MAX,
        };
        let count = list::append(list, example, room, &mut self.values)
            .map_err(|Malformed| self.form.malformed_list(self.column, index))?;
        self.check_count(index, count)
    }

    fn check_count(&self, index: usize, count: usize) -> Result<()> {
        let (form, column) = (self.form, self.column);
        match column.layout {
            Layout::Fixed { elements, .. } if count != elements => {
                Err(form.wrong_count(column, index, count))
            }
            Layout::Padded { stride, .. } if !count.is_multiple_of(stride) => {
                Err(form.wrong_stride(column, index, count, stride))
            }
            _ => Ok(()),
        }
    }

    /// Adds the default to the column if example `index` lacks the feature.
    fn finish_example(&mut self, index: usize) -> Result<()> {
        let Layout::Fixed { default, .. } = &self.column.layout else {
            self.ends.push(self.values.len());
            return Ok(());
        };
        if self.last_example == index + 1 {
            return Ok(());
        }
        let Some(default) = default else {
            return Err(self.form.missing(self.column));
        };
        self.values.extend_from(default);
        Ok(())
    }

    /// Makes tensors of the values collected from all `examples`.
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
}

fn not_an_example(example: &Bytes) -> ServingError {
    let quoted = &example[..example.len().min(MAX_QUOTED_BYTES)];
    ServingError::invalid_argument(format!(
        "Could not parse example input, value: '{}'",
        String::from_utf8_lossy(quoted)
    ))
}
