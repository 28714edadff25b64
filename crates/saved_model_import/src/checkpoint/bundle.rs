//! A checkpoint: which shard has which tensor, and where.
//!
//! Only the index is read when a checkpoint is opened. Elements are read where they are asked for, so those
//! that no signature needs, such as an optimiser's, are never read.
//!
//! Not here: the format of the index (`table`).

use std::cell::Cell;
use std::collections::BTreeMap;

use base::error::{Result, ServingError};
use base::tensor::{DataType, Tensor as Elements, element_count};
use bytes::Bytes;
use codec::crc32c::masked_crc32c;
use prost::Message;

use super::messages::{BundleEntry, BundleHeader};
use super::slice::{Place, Slice};
use super::{strings, table};
use crate::files::Files;

/// The largest index: a million variables take about half of it.
const MAX_INDEX_BYTES: u64 = 1 << 26;
/// The most parts of a partitioned tensor. Each is compared with all others.
const MAX_SLICES: usize = 4096;

/// An open checkpoint.
pub(crate) struct Bundle<'f> {
    files: &'f dyn Files,
    /// The path of its files without their endings.
    prefix: String,
    table: BTreeMap<Bytes, Bytes>,
    shards: u32,
    is_big_endian: bool,
    /// How many bytes can still be asked for. All tensors together are not larger than the shards, unless
    /// several entries name the same bytes.
    rest: Cell<u64>,
}

/// A tensor of a checkpoint.
struct Entry {
    dtype: DataType,
    shape: Vec<usize>,
    message: BundleEntry,
}

impl<'f> Bundle<'f> {
    /// Opens the checkpoint with this prefix; `None` if there is no index.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for a damaged index; the errors of reading.
    pub(crate) fn open(files: &'f dyn Files, prefix: &str) -> Result<Option<Self>> {
        let path = format!("{prefix}.index");
        let damaged = |text: &str| ServingError::invalid_argument(format!("{path} {text}"));
        let Some(size) = files.size(&path)? else {
            return Ok(None);
        };
        if size > MAX_INDEX_BYTES {
            let text = format!("is larger than {MAX_INDEX_BYTES} bytes");
            return Err(damaged(&text));
        }
        let index = files.read_range(&path, 0, size)?;
        let mut table = table::read(&index.unwrap_or_default()).map_err(|it| damaged(&it))?;
        let header = table.remove(&b""[..]);
        let header = header.and_then(|it| BundleHeader::decode(it).ok());
        let header = header.ok_or_else(|| damaged("has no header"))?;
        let shards = u32::try_from(header.num_shards).ok();
        let shards = shards.ok_or_else(|| damaged("has a negative number of shards"))?;
        let is_big_endian = match header.endianness {
            0 => false,
            1 => true,
            _ => return Err(damaged("has an unknown order of bytes")),
        };
        let mut bundle = Self {
            files,
            prefix: prefix.to_owned(),
            table,
            shards,
            is_big_endian,
            rest: Cell::new(0),
        };
        bundle.rest = Cell::new(bundle.total_bytes()?);
        Ok(Some(bundle))
    }

    /// The size of all shards, up to the first that is missing.
    fn total_bytes(&self) -> Result<u64> {
        let mut total = 0u64;
        for shard in 0..self.shards {
            let Some(size) = self.files.size(&self.shard(shard))? else {
                break;
            };
            total = total.saturating_add(size);
        }
        Ok(total)
    }

    /// Reads a tensor or a part of it; `part` comes with the shape that the whole tensor must have. `None` if
    /// there is none of this name.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for damaged or missing files; the errors of reading.
    pub(crate) fn read(
        &self,
        name: &str,
        part: Option<&(Vec<usize>, Slice)>,
    ) -> Result<Option<Elements>> {
        let Some(entry) = self.entry(name.as_bytes(), name)? else {
            return Ok(None);
        };
        let Some((shape, slice)) = part else {
            return match entry.message.slices.is_empty() {
                true => self.whole(name, &entry).map(Some),
                false => {
                    let all = Place {
                        starts: vec![0; entry.shape.len()],
                        sizes: entry.shape.clone(),
                    };
                    self.assembled(name, &entry, &all).map(Some)
                }
            };
        };
        let wanted = slice.place(&entry.shape).filter(|_| *shape == entry.shape);
        let wanted = wanted.ok_or_else(|| {
            self.damaged(name, "has another shape than the graph restores a part of")
        })?;
        match entry.message.slices.is_empty() {
            true => self.part(name, &entry, &wanted).map(Some),
            false => self.assembled(name, &entry, &wanted).map(Some),
        }
    }

    fn entry(&self, key: &[u8], name: &str) -> Result<Option<Entry>> {
        let Some(value) = self.table.get(key) else {
            return Ok(None);
        };
        let message = BundleEntry::decode(value.clone())
            .map_err(|error| self.damaged(name, &format!("has a damaged entry: {error}")))?;
        let dtype = DataType::from_number(message.dtype).ok_or_else(|| {
            let text = format!("has elements of an unknown type ({})", message.dtype);
            self.damaged(name, &text)
        })?;
        let dims = message.shape.iter().flat_map(|it| &it.dim);
        let shape: Option<Vec<usize>> = dims.map(|it| usize::try_from(it.size).ok()).collect();
        let is_known = !message.shape.as_ref().is_some_and(|it| it.unknown_rank);
        let shape = shape.filter(|it| is_known && element_count(it).is_some());
        let shape = shape.ok_or_else(|| self.damaged(name, "has an impossible shape"))?;
        Ok(Some(Entry {
            dtype,
            shape,
            message,
        }))
    }

    /// Counts bytes that a caller keeps.
    fn spend(&self, name: &str, bytes: usize) -> Result<()> {
        let rest = self.rest.get().checked_sub(bytes as u64);
        let rest = rest.ok_or_else(|| {
            self.damaged(
                name,
                "is larger than the shards have room for: one of them is missing, or several entries name \
                 the same bytes",
            )
        })?;
        self.rest.set(rest);
        Ok(())
    }

    fn whole(&self, name: &str, entry: &Entry) -> Result<Elements> {
        let size = usize::try_from(entry.message.size).unwrap_or(usize::MAX);
        let elements = self.stored(name, entry)?;
        self.spend(name, size)?;
        Ok(elements)
    }

    /// The elements of an entry without parts.
    fn stored(&self, name: &str, entry: &Entry) -> Result<Elements> {
        let data = self.data(name, entry)?;
        let message = &entry.message;
        let elements = match entry.dtype {
            DataType::String if self.is_big_endian => {
                return Err(self.damaged(
                    name,
                    "has strings whose lengths have the highest byte first",
                ));
            }
            DataType::String => {
                let count = element_count(&entry.shape).unwrap_or(usize::MAX);
                let strings = strings::read(&data, count, message.crc32c);
                let strings = strings.map_err(|it| self.damaged(name, &it))?;
                Elements::from_strings(&entry.shape, strings)
            }
            dtype => {
                if masked_crc32c(&data) != message.crc32c {
                    return Err(self.damaged(name, "has a wrong checksum"));
                }
                let data = match self.is_big_endian {
                    true => swapped(dtype, &data),
                    false => data,
                };
                Elements::from_bytes(dtype, &entry.shape, data)
            }
        };
        elements.ok_or_else(|| self.damaged(name, "has another size than its shape"))
    }

    /// The bytes of an entry without parts.
    fn data(&self, name: &str, entry: &Entry) -> Result<Bytes> {
        let message = &entry.message;
        match entry.dtype.size() {
            Some(bytes) => {
                let count = element_count(&entry.shape);
                let expected = count.and_then(|it| i64::try_from(it.checked_mul(bytes)?).ok());
                if expected != Some(message.size) {
                    return Err(self.damaged(name, "has another size than its shape"));
                }
            }
            None if entry.dtype == DataType::String => {}
            None => {
                let text = format!("has elements of type {}, which are not read", entry.dtype);
                return Err(self.damaged(name, &text));
            }
        }
        let shard = u32::try_from(message.shard_id).ok();
        let shard = shard.filter(|it| *it < self.shards);
        let shard = shard.ok_or_else(|| self.damaged(name, "is in a shard that does not exist"))?;
        let path = self.shard(shard);
        let damaged = |text: &str| {
            ServingError::invalid_argument(format!(
                "{path} {text} ('{name}', {}.index)",
                self.prefix
            ))
        };
        let size = self.files.size(&path)?;
        let size = size.ok_or_else(|| damaged("is missing, but has the value of a variable"))?;
        let place = u64::try_from(message.offset).ok();
        let place = place.zip(u64::try_from(message.size).ok());
        let place = place
            .filter(|(offset, length)| offset.checked_add(*length).is_some_and(|end| end <= size));
        let (offset, length) =
            place.ok_or_else(|| damaged("is too short for the value of a variable"))?;
        let data = self.files.read_range(&path, offset, length)?;
        let data = data.filter(|it| it.len() as u64 == length);
        data.ok_or_else(|| damaged("became shorter while it was read"))
    }

    /// A part of a tensor that is stored as a whole.
    fn part(&self, name: &str, entry: &Entry, wanted: &Place) -> Result<Elements> {
        let all = Place {
            starts: vec![0; entry.shape.len()],
            sizes: entry.shape.clone(),
        };
        if all == *wanted {
            return self.whole(name, entry);
        }
        let mut target = self.target(name, entry, wanted)?;
        let stored = self.stored(name, entry)?;
        self.copy(name, entry, &stored, &all, wanted, &mut target)?;
        self.finished(name, entry, wanted, target)
    }

    /// A tensor, or a part of it, from the parts that are stored.
    fn assembled(&self, name: &str, entry: &Entry, wanted: &Place) -> Result<Elements> {
        let slices = &entry.message.slices;
        if slices.len() > MAX_SLICES {
            return Err(self.damaged(name, &format!("has more than {MAX_SLICES} parts")));
        }
        let mut parts = Vec::with_capacity(slices.len());
        for slice in slices {
            let extents = slice.extent.iter().map(|it| (it.start, it.length));
            let slice = Slice::new(extents);
            let part = slice.and_then(|it| Some((it.place(&entry.shape)?, it)));
            let part = part.ok_or_else(|| self.damaged(name, "has a part outside of its shape"))?;
            if parts
                .iter()
                .any(|(other, _)| part.0.intersection(other).is_some())
            {
                return Err(self.damaged(name, "has parts that overlap"));
            }
            parts.push(part);
        }
        if let Some((_, exact)) = parts.iter().find(|(place, _)| place == wanted) {
            let part = self.part_entry(name, entry, exact, wanted)?;
            return self.whole(name, &part);
        }
        let needed: Vec<_> = parts
            .iter()
            .filter_map(|(place, slice)| Some((place.intersection(wanted)?, place, slice)))
            .collect();
        // The parts do not overlap, so they cover everything if their sizes add up.
        let covered = needed
            .iter()
            .try_fold(0usize, |sum, (common, ..)| sum.checked_add(common.count()?));
        if covered != wanted.count() {
            return Err(self.damaged(name, "has parts that leave a gap"));
        }
        let mut target = self.target(name, entry, wanted)?;
        for (_, place, slice) in needed {
            let part = self.part_entry(name, entry, slice, place)?;
            let stored = self.stored(name, &part)?;
            self.copy(name, entry, &stored, place, wanted, &mut target)?;
        }
        self.finished(name, entry, wanted, target)
    }

    /// The entry of a part of a partitioned tensor.
    fn part_entry(&self, name: &str, whole: &Entry, slice: &Slice, place: &Place) -> Result<Entry> {
        let part = self.entry(&slice.key(name.as_bytes()), name)?;
        let part = part.ok_or_else(|| self.damaged(name, "has a part without an entry"))?;
        match part.dtype == whole.dtype
            && part.shape == place.sizes
            && part.message.slices.is_empty()
        {
            true => Ok(part),
            false => Err(self.damaged(
                name,
                "has a part of another type or shape than its entry says",
            )),
        }
    }

    /// Room for a part of a tensor.
    fn target(&self, name: &str, entry: &Entry, wanted: &Place) -> Result<Target> {
        let Some(size) = entry.dtype.size() else {
            return match (entry.dtype, wanted.count()) {
                (DataType::String, Some(count)) => {
                    // A string takes at least a byte in the files.
                    self.spend(name, count)?;
                    Ok(Target::Strings(vec![Bytes::new(); count]))
                }
                _ => {
                    let text = format!("has elements of type {}, which are not read", entry.dtype);
                    Err(self.damaged(name, &text))
                }
            };
        };
        let bytes = wanted.count().and_then(|it| it.checked_mul(size));
        let bytes = bytes.ok_or_else(|| self.damaged(name, "has an impossible shape"))?;
        self.spend(name, bytes)?;
        Ok(Target::Plain(vec![0; bytes]))
    }

    fn copy(
        &self,
        name: &str,
        entry: &Entry,
        stored: &Elements,
        place: &Place,
        wanted: &Place,
        target: &mut Target,
    ) -> Result<()> {
        let Some(common) = place.intersection(wanted) else {
            return Ok(());
        };
        let copied = match target {
            Target::Plain(target) => stored
                .bytes()
                .zip(entry.dtype.size())
                .and_then(|(from, size)| place.copy(&common, wanted, size, from, target)),
            Target::Strings(target) => stored
                .strings()
                .and_then(|from| place.copy(&common, wanted, 1, from, target)),
        };
        copied.ok_or_else(|| self.damaged(name, "has a part of another size than its shape"))
    }

    fn finished(
        &self,
        name: &str,
        entry: &Entry,
        wanted: &Place,
        target: Target,
    ) -> Result<Elements> {
        let elements = match target {
            Target::Plain(bytes) => Elements::from_bytes(entry.dtype, &wanted.sizes, bytes.into()),
            Target::Strings(strings) => Elements::from_strings(&wanted.sizes, strings),
        };
        elements.ok_or_else(|| self.damaged(name, "has another size than its shape"))
    }

    fn shard(&self, shard: u32) -> String {
        format!("{}.data-{shard:05}-of-{:05}", self.prefix, self.shards)
    }

    fn damaged(&self, name: &str, text: &str) -> ServingError {
        ServingError::invalid_argument(format!("{}.index: '{name}' {text}", self.prefix))
    }
}

/// Elements that are put together from parts.
enum Target {
    Plain(Vec<u8>),
    Strings(Vec<Bytes>),
}

/// Elements with their bytes in the other order.
fn swapped(dtype: DataType, data: &[u8]) -> Bytes {
    let mut data = data.to_vec();
    for element in data.chunks_exact_mut(dtype.align()) {
        element.reverse();
    }
    data.into()
}

#[cfg(test)]
mod tests;
