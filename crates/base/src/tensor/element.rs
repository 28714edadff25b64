//! Typed views of a tensor's bytes. All reinterpretation of memory as elements is in this file.

use bytes::Bytes;
use half::{bf16, f16};

use super::DataType;

mod sealed {
    /// Restricts [`Element`](super::Element) to types for which every bit pattern is a value.
    pub trait Sealed {}
}

/// A Rust type whose memory is one element of a tensor.
///
/// `bool` is not one: a byte from the network need not be 0 or 1. Booleans are `u8` tensors of
/// dtype `bool`, written by [`Tensor::from_bytes`](super::Tensor::from_bytes).
pub trait Element: sealed::Sealed + Copy + Default + Send + Sync + 'static {
    /// The dtype of such elements.
    const DTYPE: DataType;
}

macro_rules! elements {
    ($($ty:ty = $dtype:ident),* $(,)?) => {
        $(
            impl sealed::Sealed for $ty {}
            impl Element for $ty {
                const DTYPE: DataType = DataType::$dtype;
            }
        )*
    };
}

elements! {
    f32 = Float, f64 = Double, i32 = Int32, u8 = UInt8, i16 = Int16, i8 = Int8, i64 = Int64,
    u16 = UInt16, u32 = UInt32, u64 = UInt64, f16 = Half, bf16 = BFloat16,
}

/// A vector of elements as the owner of a byte buffer.
pub(super) struct AlignedVec<T>(pub(super) Vec<T>);

impl<T: Element> AsRef<[u8]> for AlignedVec<T> {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `Element` is sealed to plain numbers without padding; the length is the vector's
        // own size in bytes.
        unsafe {
            std::slice::from_raw_parts(self.0.as_ptr().cast(), std::mem::size_of_val(&self.0[..]))
        }
    }
}

/// The elements in `bytes`; `None` if they are misaligned or not a whole number of elements.
pub(super) fn view<T: Element>(bytes: &[u8]) -> Option<&[T]> {
    if bytes.is_empty() {
        return Some(&[]);
    }
    // SAFETY: every bit pattern is a value of a sealed `Element`.
    let (before, elements, after) = unsafe { bytes.align_to::<T>() };
    (before.is_empty() && after.is_empty()).then_some(elements)
}

/// A copy that is aligned for every element type.
pub(super) fn aligned_copy(bytes: &[u8]) -> Bytes {
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    // SAFETY: a u64 can be written as eight bytes, and the slice covers exactly the vector.
    let target =
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<u8>(), words.len() * 8) };
    target[..bytes.len()].copy_from_slice(bytes);
    Bytes::from_owner(AlignedVec(words)).slice(..bytes.len())
}

/// Zeroed memory, aligned for every element type.
pub(super) fn zeroed(len: usize) -> Bytes {
    Bytes::from_owner(AlignedVec(vec![0u64; len.div_ceil(8)])).slice(..len)
}
