//! Tensors as they travel between a socket and a graph: a dtype, a shape, and one buffer.
//!
//! Nothing here knows a wire format or a backend. Data is shared, never copied, when a tensor is
//! cloned or sliced.

mod data_type;
mod element;

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use smallvec::SmallVec;

pub use self::data_type::DataType;
use self::element::AlignedVec;
pub use self::element::Element;

/// Tensors by alias or by graph name, depending on the variable.
pub type NamedTensors = BTreeMap<String, Tensor>;

/// A dense tensor in row-major order.
///
/// Invariant: the buffer holds exactly `shape`'s number of elements, aligned for its dtype.
#[derive(Clone)]
pub struct Tensor {
    dtype: DataType,
    /// Holds the usual ranks without an allocation, because a request makes and clones several tensors.
    shape: SmallVec<[usize; 4]>,
    data: Data,
}

/// The elements of a [`Tensor`].
#[derive(Clone)]
enum Data {
    /// Little-endian elements of a fixed size.
    Plain(Bytes),
    /// Byte strings; not necessarily UTF-8.
    Strings(Vec<Bytes>),
}

impl Tensor {
    /// A tensor over elements that are already in memory; nothing is copied.
    ///
    /// Returns `None` if the number of `elements` does not match `shape`.
    pub fn from_vec<T: Element>(shape: &[usize], elements: Vec<T>) -> Option<Self> {
        (element_count(shape)? == elements.len()).then(|| Self {
            dtype: T::DTYPE,
            shape: shape.into(),
            data: Data::Plain(Bytes::from_owner(AlignedVec(elements))),
        })
    }

    /// A tensor over the little-endian bytes of its elements; copied only if misaligned.
    ///
    /// Returns `None` if the length does not match `dtype` and `shape`, or if `dtype` has no fixed size
    /// (strings, resources, variants).
    pub fn from_bytes(dtype: DataType, shape: &[usize], bytes: Bytes) -> Option<Self> {
        let size = dtype.size()?;
        if element_count(shape)?.checked_mul(size)? != bytes.len() {
            return None;
        }
        let aligned = bytes.is_empty() || bytes.as_ptr().align_offset(dtype.align()) == 0;
        let bytes = if aligned {
            bytes
        } else {
            element::aligned_copy(&bytes)
        };
        Some(Self {
            dtype,
            shape: shape.into(),
            data: Data::Plain(bytes),
        })
    }

    /// A tensor of byte strings. Returns `None` if their number does not match `shape`.
    pub fn from_strings(shape: &[usize], strings: Vec<Bytes>) -> Option<Self> {
        (element_count(shape)? == strings.len()).then(|| Self {
            dtype: DataType::String,
            shape: shape.into(),
            data: Data::Strings(strings),
        })
    }

    /// Zeros, `false` or empty strings. Returns `None` if the size overflows or `dtype` has no such
    /// value.
    pub fn zeros(dtype: DataType, shape: &[usize]) -> Option<Self> {
        let count = element_count(shape)?;
        if dtype == DataType::String {
            return Self::from_strings(shape, vec![Bytes::new(); count]);
        }
        let bytes = element::zeroed(count.checked_mul(dtype.size()?)?);
        Self::from_bytes(dtype, shape, bytes)
    }

    /// The dtype.
    pub fn dtype(&self) -> DataType {
        self.dtype
    }

    /// The size of every dimension; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether some dimension is zero.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// The memory of the elements, including the overhead of each string.
    pub fn memory_bytes(&self) -> usize {
        match &self.data {
            Data::Plain(bytes) => bytes.len(),
            Data::Strings(strings) => {
                let text: usize = strings.iter().map(Bytes::len).sum();
                text + size_of_val(strings.as_slice())
            }
        }
    }

    /// The elements' bytes, little-endian; `None` for strings.
    pub fn bytes(&self) -> Option<&Bytes> {
        match &self.data {
            Data::Plain(bytes) => Some(bytes),
            Data::Strings(_) => None,
        }
    }

    /// The elements of a string tensor.
    pub fn strings(&self) -> Option<&[Bytes]> {
        match &self.data {
            Data::Strings(strings) => Some(strings),
            Data::Plain(_) => None,
        }
    }

    /// The elements, if `T` is this tensor's type.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        (T::DTYPE == self.dtype)
            .then(|| element::view(self.bytes()?))
            .flatten()
    }

    /// The same elements with another shape; `None` if the counts differ.
    pub fn reshaped(&self, shape: &[usize]) -> Option<Self> {
        (element_count(shape)? == self.len()).then(|| Self {
            dtype: self.dtype,
            shape: shape.into(),
            data: self.data.clone(),
        })
    }
}

/// Prints only shape and dtype: a tensor can be large, and its contents belong to the client.
impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}

/// Bit for bit: NaN equals the same NaN, 0.0 differs from -0.0.
impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype
            && self.shape == other.shape
            && match (&self.data, &other.data) {
                (Data::Plain(a), Data::Plain(b)) => a == b,
                (Data::Strings(a), Data::Strings(b)) => a == b,
                _ => false,
            }
    }
}

/// The product of the dimensions; `None` on overflow. A zero prevents an overflow only if it comes
/// before it, as in `TensorShape`'s own check.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |count, &dim| count.checked_mul(dim))
}

/// The form of a shape in messages: `[2,3]`, `[]` for a scalar.
pub fn shape_text(shape: &[usize]) -> String {
    dims_text(shape.iter().copied())
}

/// As above, for dimensions that are not in a slice.
pub fn dims_text(dims: impl IntoIterator<Item = usize>) -> String {
    let mut text = String::from("[");
    for (index, dim) in dims.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&dim.to_string());
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_bytes_copies_what_is_misaligned() {
        let backing = Bytes::from(vec![0u8; 64]);
        let start = backing.as_ptr().align_offset(8) + 1;
        let tensor =
            Tensor::from_bytes(DataType::Double, &[2], backing.slice(start..start + 16)).unwrap();
        assert_eq!(tensor.as_slice::<f64>().unwrap(), [0.0, 0.0]);
    }

    #[test]
    fn from_bytes_refuses_other_lengths() {
        assert!(Tensor::from_bytes(DataType::Float, &[2], Bytes::from(vec![0; 7])).is_none());
        assert!(Tensor::from_bytes(DataType::Float, &[usize::MAX, 2], Bytes::new()).is_none());
        assert!(Tensor::from_bytes(DataType::String, &[0], Bytes::new()).is_none());
    }

    #[test]
    fn as_slice_needs_the_own_type() {
        let tensor = Tensor::from_vec(&[3], vec![1i64, 2, 3]).unwrap();
        assert_eq!(tensor.as_slice::<i64>().unwrap(), [1, 2, 3]);
        assert!(tensor.as_slice::<f64>().is_none());
    }

    #[test]
    fn zeros_fit_every_shape() {
        assert_eq!(Tensor::zeros(DataType::Bool, &[2, 0]).unwrap().len(), 0);
        assert_eq!(
            Tensor::zeros(DataType::String, &[2])
                .unwrap()
                .strings()
                .unwrap()
                .len(),
            2
        );
        assert!(Tensor::zeros(DataType::Double, &[usize::MAX / 4]).is_none());
    }
}
