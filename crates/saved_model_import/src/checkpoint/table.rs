//! Reads a table of LevelDB's format, which `variables.index` is: sorted keys with values, in blocks.
//!
//! Layout (LevelDB's `doc/table_format.md`): blocks, each followed by its kind and its masked CRC-32C; the
//! block of the index, which has the place of each block; a footer with the place of the index.
//!
//! Not here: the meaning of keys and values (`bundle`).

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use codec::crc32c::masked_crc32c;

/// How a table is damaged, in words that follow its name: `ends too early`.
pub(super) type Damage = String;

const FOOTER_BYTES: usize = 48;
const MAGIC: u64 = 0xdb47_7524_8b80_fb57;
/// The kind of a block and its checksum.
const TRAILER_BYTES: usize = 5;
const UNCOMPRESSED: u8 = 0;
const SNAPPY: u8 = 1;
/// How much memory keys and values can take: each key repeats a part of the one before it, and compression can
/// hide large blocks in a small file. A million variables take a fifth of that.
const MAX_BYTES: usize = 1 << 28;

/// The keys of a table with their values.
///
/// # Errors
///
/// A damaged table.
pub(super) fn read(file: &Bytes) -> Result<BTreeMap<Bytes, Bytes>, Damage> {
    let footer = file.len().checked_sub(FOOTER_BYTES);
    let footer = footer.and_then(|start| file.get(start..));
    let footer = footer.ok_or("is too short")?;
    let (handles, magic) = footer.split_at(FOOTER_BYTES - 8);
    if magic != MAGIC.to_le_bytes() {
        return Err(
            "does not end like a checkpoint's index; it is another file, or its copy is \
                    incomplete"
                .to_owned(),
        );
    }
    let mut handles = Cursor(handles);
    // The place of the block with statistics, which nothing needs.
    let places = handles.place().and(handles.place());
    let index = places.ok_or("has a damaged footer")?;
    let mut budget = MAX_BYTES;
    let mut table = BTreeMap::new();
    for (_, place) in entries(&block(file, index, &mut budget)?, &mut budget)? {
        let place = Cursor(&place).place();
        let place = place.ok_or("has a damaged index of blocks")?;
        for (key, value) in entries(&block(file, place, &mut budget)?, &mut budget)? {
            let last = table.last_key_value();
            if last.is_some_and(|(last, _)| *last >= key) {
                return Err("has keys that are not sorted".to_owned());
            }
            table.insert(key, value);
        }
    }
    Ok(table)
}

/// Bytes that are read from the front.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number in seven bits a byte, the lowest first.
    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let &[byte] = self.take(1)? else { return None };
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has a single bit.
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    /// The place of a block: its offset and its size.
    fn place(&mut self) -> Option<Range<usize>> {
        let start = self.length()?;
        Some(start..start.checked_add(self.length()?)?)
    }
}

/// The contents of a block.
fn block(file: &Bytes, place: Range<usize>, budget: &mut usize) -> Result<Bytes, Damage> {
    let outside = "has a block that lies outside of the file";
    let with_trailer = place.end.checked_add(TRAILER_BYTES);
    let end = with_trailer.filter(|&it| it <= file.len()).ok_or(outside)?;
    let (checked, checksum) = file
        .get(place.start..end)
        .and_then(|it| it.split_at_checked(it.len() - 4))
        .ok_or(outside)?;
    if masked_crc32c(checked).to_le_bytes() != checksum {
        return Err("has a block whose checksum is wrong".to_owned());
    }
    match checked.split_last() {
        Some((&UNCOMPRESSED, _)) => Ok(file.slice(place)),
        Some((&SNAPPY, compressed)) => {
            let damaged = |error: snap::Error| format!("has a damaged compressed block: {error}");
            spend(
                budget,
                snap::raw::decompress_len(compressed).map_err(damaged)?,
            )?;
            let block = snap::raw::Decoder::new().decompress_vec(compressed);
            Ok(block.map_err(damaged)?.into())
        }
        Some((kind, _)) => Err(format!(
            "has a block that is compressed by an unknown method ({kind})"
        )),
        None => Err(outside.to_owned()),
    }
}

/// The keys of a block with their values. At its end are the places where keys are whole, and their number.
fn entries(block: &Bytes, budget: &mut usize) -> Result<Vec<(Bytes, Bytes)>, Damage> {
    let damaged = || Damage::from("has a damaged block");
    let (_, count) = block.split_last_chunk::<4>().ok_or_else(damaged)?;
    let restarts = usize::try_from(u32::from_le_bytes(*count)).ok();
    let tail = restarts
        .and_then(|it| it.checked_add(1)?.checked_mul(4))
        .ok_or_else(damaged)?;
    let end = block.len().checked_sub(tail).ok_or_else(damaged)?;
    let mut rest = Cursor(&block[..end]);
    let mut entries: Vec<(Bytes, Bytes)> = Vec::new();
    while !rest.0.is_empty() {
        let lengths = (rest.length(), rest.length(), rest.length());
        let (Some(shared), Some(own), Some(value)) = lengths else {
            return Err(damaged());
        };
        let own = rest.take(own).ok_or_else(damaged)?;
        let value = rest.take(value).ok_or_else(damaged)?;
        let last = entries.last().map_or(&[][..], |(key, _)| key);
        let shared = last.get(..shared).ok_or_else(damaged)?;
        let size = shared.len() + own.len() + value.len() + size_of::<(Bytes, Bytes)>();
        spend(budget, size)?;
        let key = [shared, own].concat();
        entries.push((key.into(), block.slice_ref(value)));
    }
    Ok(entries)
}

fn spend(budget: &mut usize, bytes: usize) -> Result<(), Damage> {
    let rest = budget.checked_sub(bytes);
    *budget = rest.ok_or_else(|| format!("needs more than {MAX_BYTES} bytes of memory"))?;
    Ok(())
}

#[cfg(test)]
mod tests;
