//! One specified feature, and the values that a request's examples have for it.
//!
//! Not here: reading examples (`parser`, `list`).

use bytes::Bytes;

use super::feature::DenseFeature;
use super::parsed::{RaggedTensor, SparseTensor};
use base::error::{Code, Result, ServingError};
use base::tensor::{DataType, Tensor, element_count};

/// A few bytes of a request can ask for many defaults and much padding. A tensor is therefore limited
/// to this much memory, or to [`EXPANSION`] times the request if that is more.
const MAX_PADDED_BYTES: usize = 64 << 20;
const EXPANSION: usize = 16;

/// A checked feature of the specification.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) key: String,
    /// Invariant: `float`, `int64` or `string`.
    pub(super) dtype: DataType,
    pub(super) layout: Layout,
}

/// The form into which a feature's values are parsed.
#[derive(Clone, Debug)]
pub(super) enum Layout {
    /// Dense, always `elements` values. The default has as many, and is `None` if required.
    Fixed {
        shape: Vec<usize>,
        elements: usize,
        default: Option<Values>,
    },
    /// Dense, any multiple of `stride` values, padded with the first value of `padding`.
    Padded {
        inner_shape: Vec<usize>,
        stride: usize,
        padding: Values,
    },
    /// A sparse matrix.
    Sparse,
    /// Values and row splits, of `int64` if `wide`, else of `int32`.
    Ragged { wide: bool },
}

/// Values of one of the three kinds.
#[derive(Clone, Debug)]
pub(super) enum Values {
    Float(Vec<f32>),
    Int64(Vec<i64>),
    Strings(Vec<Bytes>),
}

impl Column {
    pub(super) fn try_new(key: String, dtype: DataType, layout: Layout) -> Result<Self> {
        match dtype {
            DataType::Float | DataType::Int64 | DataType::String => Ok(Self { key, dtype, layout }),
            other => Err(ServingError::invalid_argument(format!(
                "Invalid config dtype: {other}"
            ))),
        }
    }

    pub(super) fn try_from_dense(feature: DenseFeature) -> Result<Self> {
        let DenseFeature {
            key,
            dtype,
            shape,
            default,
        } = feature;
        let refuse = |why: &str| {
            ServingError::invalid_argument(format!("dense feature '{key}' cannot be read: {why}"))
        };
        let default = default.filter(|tensor| !tensor.is_empty());
        if default.as_ref().is_some_and(|it| it.dtype() != dtype) {
            return Err(refuse("its default has another dtype"));
        }
        let default = default.as_ref().and_then(Values::from_tensor);
        let wanted = |count| default.as_ref().is_none_or(|it: &Values| it.len() == count);

        let (variable, dims) = match shape.split_first() {
            Some((None, inner)) => (true, inner),
            _ => (false, shape.as_slice()),
        };
        let dims: Option<Vec<usize>> = dims.iter().copied().collect();
        let dims = dims.ok_or_else(|| refuse("only its first dimension can be unknown"))?;
        let elements = element_count(&dims).ok_or_else(|| refuse("its shape is too large"))?;
        let layout = if variable {
            if elements == 0 {
                return Err(refuse("its values have no size"));
            }
            if !wanted(1) {
                return Err(refuse("its default has to be one padding value"));
            }
            Layout::Padded {
                inner_shape: dims,
                stride: elements,
                padding: default.unwrap_or_else(|| Values::zero(dtype)),
            }
        } else {
            if !wanted(elements) {
                return Err(refuse("its default has another number of values"));
            }
            Layout::Fixed {
                shape: dims,
                elements,
                default,
            }
        };
        Self::try_new(key, dtype, layout)
    }

    /// How the shape of a dense feature is written in messages: `[?,2]`.
    pub(super) fn shape_text(&self) -> String {
        let (open, dims) = match &self.layout {
            Layout::Fixed { shape, .. } => (None, shape.as_slice()),
            Layout::Padded { inner_shape, .. } => (Some("?".to_owned()), inner_shape.as_slice()),
            Layout::Sparse | Layout::Ragged { .. } => (None, [].as_slice()),
        };
        let dims = dims.iter().map(ToString::to_string);
        let dims: Vec<String> = open.into_iter().chain(dims).collect();
        format!("[{}]", dims.join(","))
    }
}

impl Values {
    /// No values yet, of a dtype that examples can hold.
    pub(super) fn empty(dtype: DataType) -> Self {
        match dtype {
            DataType::Float => Self::Float(Vec::new()),
            DataType::Int64 => Self::Int64(Vec::new()),
            // A column has one of the three dtypes only.
            _ => Self::Strings(Vec::new()),
        }
    }

    /// One zero, or one empty string.
    fn zero(dtype: DataType) -> Self {
        match dtype {
            DataType::Float => Self::Float(vec![0.0]),
            DataType::Int64 => Self::Int64(vec![0]),
            _ => Self::Strings(vec![Bytes::new()]),
        }
    }

    fn from_tensor(tensor: &Tensor) -> Option<Self> {
        None.or_else(|| tensor.as_slice().map(|it| Self::Float(it.to_vec())))
            .or_else(|| tensor.as_slice().map(|it| Self::Int64(it.to_vec())))
            .or_else(|| tensor.strings().map(|it| Self::Strings(it.to_vec())))
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Float(values) => values.len(),
            Self::Int64(values) => values.len(),
            Self::Strings(values) => values.len(),
        }
    }

    /// Makes room for `count` values, but no more than a request of `request_bytes` can hold.
    pub(super) fn reserve(&mut self, count: usize, request_bytes: usize) {
        match self {
            Self::Float(values) => values.reserve(count.min(request_bytes / size_of::<f32>())),
            Self::Int64(values) => values.reserve(count.min(request_bytes)),
            // Each string needs at least a tag and a length.
            Self::Strings(values) => values.reserve(count.min(request_bytes / 2)),
        }
    }

    /// Appends values of the same kind.
    pub(super) fn extend_from(&mut self, other: &Self) {
        match (self, other) {
            (Self::Float(values), Self::Float(more)) => values.extend_from_slice(more),
            (Self::Int64(values), Self::Int64(more)) => values.extend_from_slice(more),
            (Self::Strings(values), Self::Strings(more)) => values.extend_from_slice(more),
            // A column's default and padding have the column's dtype.
            _ => {}
        }
    }

    /// Fails if `shape` would be too large for a tensor of this dtype.
    pub(super) fn check_size(dtype: DataType, shape: &[usize], request_bytes: usize) -> Result<()> {
        let max_bytes = MAX_PADDED_BYTES.max(request_bytes.saturating_mul(EXPANSION));
        let size = dtype.size().unwrap_or(size_of::<Bytes>());
        match element_count(shape).and_then(|count| count.checked_mul(size)) {
            Some(bytes) if bytes <= max_bytes => Ok(()),
            _ => Err(ServingError::new(
                Code::ResourceExhausted,
                format!(
                    "OOM when allocating tensor with shape{} and type {dtype}",
                    base::tensor::shape_text(shape)
                ),
            )),
        }
    }

    pub(super) fn into_tensor(self, shape: &[usize]) -> Result<Tensor> {
        match self {
            Self::Float(values) => Tensor::from_vec(shape, values),
            Self::Int64(values) => Tensor::from_vec(shape, values),
            Self::Strings(values) => Tensor::from_strings(shape, values),
        }
        .ok_or_else(|| ServingError::internal("a parsed feature has another size than its shape"))
    }

    /// Extends the rows that end at `ends` to `width` values each, with values of `padding`.
    pub(super) fn padded(self, ends: &[usize], width: usize, padding: Self) -> Self {
        match (self, padding) {
            (Self::Float(values), Self::Float(padding)) => {
                Self::Float(pad(&values, ends, width, &padding))
            }
            (Self::Int64(values), Self::Int64(padding)) => {
                Self::Int64(pad(&values, ends, width, &padding))
            }
            (Self::Strings(values), Self::Strings(padding)) => {
                Self::Strings(pad(&values, ends, width, &padding))
            }
            // A column's default and padding have the column's dtype.
            (values, _) => values,
        }
    }
}

fn pad<T: Clone + Default>(values: &[T], ends: &[usize], width: usize, padding: &[T]) -> Vec<T> {
    let padding = padding.first().cloned().unwrap_or_default();
    let mut padded = Vec::with_capacity(ends.len() * width);
    let mut start = 0;
    for (row, &end) in ends.iter().enumerate() {
        padded.extend_from_slice(&values[start..end]);
        padded.resize((row + 1) * width, padding.clone());
        start = end;
    }
    padded
}

/// Builds the sparse matrix of the rows that end at `ends`.
pub(super) fn sparse_tensor(values: Values, ends: &[usize]) -> Result<SparseTensor> {
    let count = values.len();
    let mut indices = Vec::with_capacity(2 * count);
    let mut start = 0;
    for (row, &end) in ends.iter().enumerate() {
        for position in 0..end - start {
            indices.extend([row as i64, position as i64]);
        }
        start = end;
    }
    let dense_shape = vec![ends.len() as i64, longest(ends) as i64];
    Ok(SparseTensor {
        indices: Values::Int64(indices).into_tensor(&[count, 2])?,
        values: values.into_tensor(&[count])?,
        dense_shape: Values::Int64(dense_shape).into_tensor(&[2])?,
    })
}

/// Builds values and row splits from the rows that end at `ends`.
pub(super) fn ragged_tensor(values: Values, ends: &[usize], wide: bool) -> Result<RaggedTensor> {
    let count = values.len();
    let splits = std::iter::once(&0).chain(ends);
    let row_splits = if wide {
        Tensor::from_vec(&[ends.len() + 1], splits.map(|&it| it as i64).collect())
    } else {
        let narrow: Result<Vec<i32>, _> = splits.map(|&it| i32::try_from(it)).collect();
        let narrow = narrow.map_err(|_| {
            ServingError::new(
                Code::ResourceExhausted,
                "row splits of a ragged feature do not fit into int32",
            )
        })?;
        Tensor::from_vec(&[ends.len() + 1], narrow)
    };
    Ok(RaggedTensor {
        values: values.into_tensor(&[count])?,
        row_splits: row_splits
            .ok_or_else(|| ServingError::internal("row splits have another size than rows"))?,
    })
}

/// The length of the longest row.
pub(super) fn longest(ends: &[usize]) -> usize {
    let starts = std::iter::once(&0).chain(ends);
    ends.iter()
        .zip(starts)
        .map(|(end, start)| end - start)
        .max()
        .unwrap_or(0)
}
