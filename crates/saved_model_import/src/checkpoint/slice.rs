//! Parts of a tensor: those that a partitioned variable is stored in, and those that are restored.
//!
//! Not here: reading them (`bundle`).

use base::tensor::element_count;

/// A part of a tensor: where it starts along each axis, and its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    /// Along each axis; both are `None` where the part has all of it.
    extents: Vec<Option<(usize, usize)>>,
}

impl Slice {
    /// From starts and lengths; a length that is missing means all of the axis.
    pub(super) fn new(extents: impl Iterator<Item = (i64, Option<i64>)>) -> Option<Self> {
        let extents = extents.map(|(start, length)| match length {
            None if start == 0 => Some(None),
            None => None,
            Some(length) => Some(Some((
                usize::try_from(start).ok()?,
                usize::try_from(length).ok()?,
            ))),
        });
        let extents: Option<Vec<_>> = extents.collect();
        extents.map(|extents| Self { extents })
    }

    /// Reads `shape_and_slices` of `RestoreV2`: the sizes of the whole tensor, then the part of each axis as
    /// `start,length` or `-` for all: `10 4 0,5:-`. An empty text is the whole tensor, without a shape.
    #[expect(clippy::option_option, reason = "damaged, whole and a part")]
    pub(crate) fn parse(text: &str) -> Option<Option<(Vec<usize>, Self)>> {
        if text.is_empty() {
            return Some(None);
        }
        let mut words: Vec<&str> = text.split(' ').collect();
        let parts = words.pop()?;
        let shape: Option<Vec<usize>> = words.iter().map(|it| it.parse().ok()).collect();
        let shape = shape?;
        let extent = |part: &str| match part {
            "-" => Some((0, None)),
            part => {
                let (start, length) = part.split_once(',')?;
                Some((start.parse().ok()?, Some(length.parse().ok()?)))
            }
        };
        let parts: Option<Vec<_>> = match parts {
            "" => Some(Vec::new()),
            parts => parts.split(':').map(extent).collect(),
        };
        let slice = Self::new(parts?.into_iter())?;
        (slice.extents.len() == shape.len()).then_some(Some((shape, slice)))
    }

    /// The part's place in a tensor of this shape: starts and sizes. `None` if it does not lie within.
    pub(super) fn place(&self, shape: &[usize]) -> Option<Place> {
        if self.extents.len() != shape.len() {
            return None;
        }
        let mut place = Place::default();
        for (extent, &size) in self.extents.iter().zip(shape) {
            let (start, length) = extent.unwrap_or((0, size));
            if start.checked_add(length)? > size {
                return None;
            }
            place.starts.push(start);
            place.sizes.push(length);
        }
        Some(place)
    }

    /// The key of a part of a partitioned tensor (TensorFlow's `EncodeTensorNameSlice`): a zero, the name, the
    /// rank, and start and length along each axis, in a form that sorts as they do.
    pub(super) fn key(&self, name: &[u8]) -> Vec<u8> {
        let mut key = vec![0];
        for &byte in name {
            match byte {
                0 => key.extend([0, 0xff]),
                0xff => key.extend([0xff, 0]),
                byte => key.push(byte),
            }
        }
        key.extend([0, 1]);
        write_number(&mut key, self.extents.len() as u64);
        for extent in &self.extents {
            let (start, length) = match extent {
                None => (0, -1),
                Some((start, length)) => (*start as i64, *length as i64),
            };
            write_signed(&mut key, start);
            write_signed(&mut key, length);
        }
        key
    }
}

/// TensorFlow's `OrderedCode::WriteNumIncreasing`: the number of bytes, then the bytes, the highest first.
fn write_number(key: &mut Vec<u8>, number: u64) {
    let bytes = number.to_be_bytes();
    let zeros = bytes.iter().take_while(|it| **it == 0).count();
    key.push((bytes.len() - zeros) as u8);
    key.extend(&bytes[zeros..]);
}

/// TensorFlow's `OrderedCode::WriteSignedNumIncreasing`: one bit for each byte, a bit for the sign that is
/// inverted, and the number in the rest.
fn write_signed(key: &mut Vec<u8>, number: i64) {
    let magnitude = if number < 0 { !number } else { number };
    let bits = (u64::BITS - magnitude.leading_zeros()) as usize;
    let length = bits / 7 + 1;
    let sign = if number < 0 { 0xff } else { 0 };
    let mut bytes = [sign; 10];
    bytes[2..].copy_from_slice(&number.to_be_bytes());
    let first = bytes.len() - length;
    // As many ones as there are bytes, from the highest bit on; they can reach into the second byte.
    let header = (!0u16 << (16 - length)).to_be_bytes();
    bytes[first] ^= header[0];
    if let Some(second) = bytes.get_mut(first + 1) {
        *second ^= header[1];
    }
    key.extend(&bytes[first..]);
}

/// A part of a tensor of known shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) starts: Vec<usize>,
    pub(super) sizes: Vec<usize>,
}

impl Place {
    /// The number of elements.
    pub(super) fn count(&self) -> Option<usize> {
        element_count(&self.sizes)
    }

    /// The part that both have; `None` if it is empty. Both are of the same tensor.
    pub(super) fn intersection(&self, other: &Self) -> Option<Self> {
        let mut place = Self::default();
        let axes = self.starts.iter().zip(&self.sizes);
        for ((a, a_size), (b, b_size)) in axes.zip(other.starts.iter().zip(&other.sizes)) {
            let start = *a.max(b);
            let end = (a + a_size).min(b + b_size);
            if start >= end {
                return None;
            }
            place.starts.push(start);
            place.sizes.push(end - start);
        }
        Some(place)
    }

    /// Copies the elements of `part`, which lies within both, from `from`, which holds the elements of `self`,
    /// to `to`, which holds those of `target`. An element takes `items` items of a slice. `None` if one of them is
    /// too short.
    pub(super) fn copy<T: Clone>(
        &self,
        part: &Self,
        target: &Self,
        items: usize,
        from: &[T],
        to: &mut [T],
    ) -> Option<()> {
        let rank = part.sizes.len();
        // Rows along the last axis are copied as a whole.
        let (row, outer) = part
            .sizes
            .split_last()
            .map_or((1, &[][..]), |it| (*it.0, it.1));
        let row_items = row.checked_mul(items)?;
        let mut index = vec![0; outer.len()];
        for _ in 0..element_count(outer)? {
            let offset = |place: &Self| {
                let mut offset = 0usize;
                for axis in 0..rank {
                    let at = index.get(axis).copied().unwrap_or(0) + part.starts[axis];
                    let within = at.checked_sub(*place.starts.get(axis)?)?;
                    offset = offset
                        .checked_mul(*place.sizes.get(axis)?)?
                        .checked_add(within)?;
                }
                offset.checked_mul(items)
            };
            let (source, sink) = (offset(self)?, offset(target)?);
            let source = from.get(source..source.checked_add(row_items)?)?;
            to.get_mut(sink..sink.checked_add(row_items)?)?
                .clone_from_slice(source);
            for axis in (0..outer.len()).rev() {
                index[axis] += 1;
                if index[axis] < outer[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
