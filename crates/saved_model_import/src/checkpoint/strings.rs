//! Tensors of strings in a shard: the lengths, their checksum, then all bytes.
//!
//! Not here: where in the shard they are (`bundle`).

use bytes::Bytes;
use codec::crc32c::Crc32c;

use super::table::Cursor;

/// The most strings of a tensor: an empty one takes a byte in the file and 32 in memory.
const MAX_STRINGS: usize = 1 << 24;

/// Reads `count` strings. The checksums cover the lengths as numbers of four bytes, or of eight where they need
/// them, not the bytes of the varints (TensorFlow's `ReadStringTensor`).
pub(super) fn read(data: &Bytes, count: usize, checksum: u32) -> Result<Vec<Bytes>, String> {
    let too_short = "has fewer bytes than its strings need";
    // Each string takes at least the byte of its length.
    if count > data.len() {
        return Err(too_short.to_owned());
    }
    if count > MAX_STRINGS {
        return Err(format!("has more than {MAX_STRINGS} strings"));
    }
    let mut rest = Cursor(data);
    let mut crc = Crc32c::default();
    let mut lengths = Vec::with_capacity(count);
    for _ in 0..count {
        let length = rest.varint().ok_or(too_short)?;
        match u32::try_from(length) {
            Ok(short) => crc.extend(&short.to_le_bytes()),
            Err(_) => crc.extend(&length.to_le_bytes()),
        }
        lengths.push(usize::try_from(length).map_err(|_| too_short)?);
    }
    let stored = rest.take(4).ok_or(too_short)?;
    if crc.masked().to_le_bytes() != stored {
        return Err("has a wrong checksum of the lengths of its strings".to_owned());
    }
    crc.extend(stored);
    crc.extend(rest.0);
    if crc.masked() != checksum {
        return Err("has a wrong checksum".to_owned());
    }
    let mut strings = Vec::with_capacity(count);
    for length in lengths {
        strings.push(data.slice_ref(rest.take(length).ok_or(too_short)?));
    }
    match rest.0.is_empty() {
        true => Ok(strings),
        false => Err("has more bytes than its strings".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use codec::crc32c::masked_crc32c;

    use super::*;

    /// The strings `ab` and the empty one: lengths of four bytes in the checksums.
    fn stored() -> (Vec<u8>, u32) {
        let lengths = [2, 0, 0, 0, 0, 0, 0, 0];
        let of_lengths = masked_crc32c(&lengths).to_le_bytes();
        let data = [&[2, 0][..], &of_lengths, b"ab"].concat();
        let checksum = masked_crc32c(&[&lengths[..], &of_lengths, b"ab"].concat());
        (data, checksum)
    }

    #[test]
    fn strings_are_read() {
        let (data, checksum) = stored();
        let strings = read(&data.into(), 2, checksum).unwrap();
        assert_eq!(strings, ["ab", ""]);
    }

    #[test]
    fn damaged_strings_are_refused() {
        let (data, checksum) = stored();
        let all = Bytes::from(data.clone());
        for end in 0..data.len() {
            assert!(read(&all.slice(..end), 2, checksum).is_err(), "{end}");
        }
        for index in 0..data.len() {
            let mut data = data.clone();
            data[index] ^= 1;
            assert!(read(&data.into(), 2, checksum).is_err(), "{index}");
        }
        for count in [0, 1, 3, usize::MAX] {
            assert!(read(&all, count, checksum).is_err(), "{count}");
        }
    }
}
