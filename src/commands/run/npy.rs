//! Reads NumPy's files: `.npy`, and `.npz`, which is a zip archive of them.
//!
//! Source: NumPy's `lib/format.py`, PKWARE's APPNOTE. Pickled objects are refused: they are programs.

use std::io::Read;

use base::error::{Result, ServingError};
use base::tensor::element_count;
use bytes::Bytes;
use flate2::read::DeflateDecoder;
use half::f16;

use super::array::{Array, Elements};

const NPY: &[u8] = b"\x93NUMPY";
const ZIP_ENTRY: &[u8] = b"PK\x03\x04";
const ZIP_DIRECTORY: &[u8] = b"PK\x01\x02";
const ZIP_END: &[u8] = b"PK\x05\x06";
/// The largest array that is read from a compressed archive.
const MAX_BYTES: u64 = 8 << 30;

/// The array in a file; in an archive that of this name, or the only one.
///
/// # Errors
///
/// `INVALID_ARGUMENT` for other contents, and if the name does not choose an array.
pub(super) fn read(file: &[u8], variable: Option<&str>) -> Result<Array> {
    if file.starts_with(NPY) {
        return array(file);
    }
    if !file.starts_with(ZIP_ENTRY) && !file.starts_with(ZIP_END) {
        return Err(invalid("it is neither a .npy nor a .npz file"));
    }
    let entries = entries(file).ok_or_else(|| invalid("its zip archive is damaged"))?;
    let names: Vec<&str> = entries.iter().map(|it| it.name.as_str()).collect();
    let chosen = match (variable, entries.as_slice()) {
        (None, [only]) => only,
        (None, _) => {
            return Err(invalid(&format!(
                "it contains more than one array. Name one of them in brackets: {}",
                names.join(", ")
            )));
        }
        (Some(name), _) => entries.iter().find(|it| it.name == name).ok_or_else(|| {
            invalid(&format!(
                "it has no array '{name}', but {}",
                names.join(", ")
            ))
        })?,
    };
    array(&chosen.contents(file)?)
}

fn invalid(text: &str) -> ServingError {
    ServingError::invalid_argument(text)
}

/// A file in a zip archive.
struct Entry {
    /// Without `.npy`.
    name: String,
    is_compressed: bool,
    start: usize,
    size: usize,
}

/// The files of an archive; `None` if it is damaged.
fn entries(zip: &[u8]) -> Option<Vec<Entry>> {
    let end = zip.windows(4).rposition(|it| it == ZIP_END)?;
    let count = number(zip, end + 10, 2)?;
    let mut at = number(zip, end + 16, 4)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        if zip.get(at..at.checked_add(4)?)? != ZIP_DIRECTORY {
            return None;
        }
        let method = number(zip, at + 10, 2)?;
        let (mut size, real_size) = (number(zip, at + 20, 4)?, number(zip, at + 24, 4)?);
        let name_len = number(zip, at + 28, 2)?;
        let (extra, comment) = (number(zip, at + 30, 2)?, number(zip, at + 32, 2)?);
        let local = number(zip, at + 42, 4)?;
        let name = zip.get(at + 46..at + 46 + name_len)?;
        let start = local.checked_add(30 + number(zip, local.checked_add(26)?, 2)?)?;
        let start = start.checked_add(number(zip, local.checked_add(28)?, 2)?)?;
        // NumPy writes 64-bit sizes into an extra field in front of the contents.
        if size == 0xffff_ffff || real_size == 0xffff_ffff {
            size = zip64_size(zip, at + 46 + name_len, extra, real_size == 0xffff_ffff)?;
        }
        let name = String::from_utf8_lossy(name).into_owned();
        entries.push(Entry {
            name: name.strip_suffix(".npy").unwrap_or(&name).to_owned(),
            is_compressed: method != 0,
            start,
            size,
        });
        at = at.checked_add(46 + name_len + extra + comment)?;
    }
    Some(entries)
}

/// The compressed size in the extra field of an entry.
fn zip64_size(zip: &[u8], start: usize, length: usize, has_real: bool) -> Option<usize> {
    let mut at = start;
    while at + 4 <= start.checked_add(length)? {
        let (id, size) = (number(zip, at, 2)?, number(zip, at + 2, 2)?);
        if id == 1 {
            return number(zip, at + 4 + if has_real { 8 } else { 0 }, 8);
        }
        at = at.checked_add(4 + size)?;
    }
    None
}

/// A little-endian number.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    let value = bytes
        .iter()
        .rev()
        .fold(0u64, |value, &byte| value << 8 | u64::from(byte));
    usize::try_from(value).ok()
}

impl Entry {
    fn contents(&self, zip: &[u8]) -> Result<Vec<u8>> {
        let damaged = || invalid("its zip archive is damaged");
        let end = self.start.checked_add(self.size).ok_or_else(damaged)?;
        let stored = zip.get(self.start..end).ok_or_else(damaged)?;
        if !self.is_compressed {
            return Ok(stored.to_vec());
        }
        let mut contents = Vec::new();
        let mut decoder = DeflateDecoder::new(stored).take(MAX_BYTES);
        decoder.read_to_end(&mut contents).map_err(|_| damaged())?;
        Ok(contents)
    }
}

/// The array in a `.npy` file.
fn array(file: &[u8]) -> Result<Array> {
    let damaged = || invalid("it is damaged");
    let version = *file.get(6).ok_or_else(damaged)?;
    let size_bytes = if version == 1 { 2 } else { 4 };
    let header_size = number(file, 8, size_bytes).ok_or_else(damaged)?;
    let start = 8 + size_bytes;
    let end = start.checked_add(header_size).ok_or_else(damaged)?;
    let header = file.get(start..end).ok_or_else(damaged)?;
    let header = String::from_utf8_lossy(header);
    let field = |name: &str| {
        let (_, rest) = header.split_once(&format!("'{name}':"))?;
        Some(rest.trim_start())
    };
    let descr = field("descr").and_then(|it| it.strip_prefix('\''));
    let descr = descr.and_then(|it| it.split_once('\'')).map(|it| it.0);
    let descr =
        descr.ok_or_else(|| invalid("its elements are records, which tensors cannot have"))?;
    let is_fortran = field("fortran_order").is_some_and(|it| it.starts_with("True"));
    let shape = field("shape").and_then(|it| it.strip_prefix('(')?.split_once(')'));
    let (shape, _) = shape.ok_or_else(damaged)?;
    let sizes = shape.split(',').map(str::trim).filter(|it| !it.is_empty());
    let shape: Vec<usize> = sizes
        .map(|it| it.parse().map_err(|_| damaged()))
        .collect::<Result<_>>()?;
    let count = element_count(&shape).ok_or_else(damaged)?;
    let elements = elements(descr, count, &file[end..])?;
    Ok(match is_fortran {
        true => from_fortran(&shape, elements),
        false => Array { shape, elements },
    })
}

fn elements(descr: &str, count: usize, data: &[u8]) -> Result<Elements> {
    let (order, kind) = descr.split_at_checked(1).unwrap_or(("", ""));
    let (kind, size) = kind.split_at_checked(1).unwrap_or(("", ""));
    let refused = || invalid(&format!("its dtype '{descr}' is not supported"));
    let size: usize = size.parse().map_err(|_| refused())?;
    let width = match kind {
        "U" => size.checked_mul(4),
        _ => Some(size),
    };
    let total = width.and_then(|it| it.checked_mul(count));
    let data = total.and_then(|it| data.get(..it));
    let data = data.ok_or_else(|| invalid("it is shorter than its header says"))?;
    let width = width.unwrap_or(0);
    let chunk = |index: usize| {
        let mut bytes = data[index * width..(index + 1) * width].to_vec();
        if order == ">" && kind != "S" && kind != "U" {
            bytes.reverse();
        }
        bytes
    };
    let all = (0..count).map(chunk);
    let int = |bytes: &Vec<u8>| {
        let sign = if kind == "i" && bytes.last().is_some_and(|it| *it >= 128) {
            255
        } else {
            0
        };
        let mut wide = [sign; 16];
        wide[..bytes.len()].copy_from_slice(bytes);
        i128::from_le_bytes(wide)
    };
    Ok(match (kind, size) {
        ("i" | "u", 1 | 2 | 4 | 8) | ("b", 1) => Elements::Ints(all.map(|it| int(&it)).collect()),
        ("f", 2) => Elements::Floats(
            all.map(|it| f16::from_le_bytes([it[0], it[1]]).to_f64())
                .collect(),
        ),
        ("f", 4) => Elements::Floats(
            all.map(|it| f64::from(f32::from_le_bytes([it[0], it[1], it[2], it[3]])))
                .collect(),
        ),
        ("f", 8) => {
            let double = |it: Vec<u8>| f64::from_le_bytes(it.try_into().unwrap_or_default());
            Elements::Floats(all.map(double).collect())
        }
        ("S", _) => Elements::Strings(all.map(without_zeros).collect()),
        ("U", _) => Elements::Strings(all.map(|it| utf8(&it, order == ">")).collect()),
        _ => return Err(refused()),
    })
}

fn without_zeros(mut bytes: Vec<u8>) -> Bytes {
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes.into()
}

fn utf8(bytes: &[u8], is_big_endian: bool) -> Bytes {
    let letters = bytes.chunks_exact(4).map(|it| {
        let code = [it[0], it[1], it[2], it[3]];
        match is_big_endian {
            true => u32::from_be_bytes(code),
            false => u32::from_le_bytes(code),
        }
    });
    let text: String = letters.filter_map(char::from_u32).collect();
    Bytes::from(text.trim_end_matches('\0').to_owned())
}

/// Row-major order from column-major order.
fn from_fortran(shape: &[usize], elements: Elements) -> Array {
    let count = shape.iter().product();
    let place = |index: usize| {
        let (mut rest, mut place) = (index, 0);
        let mut strides = Vec::with_capacity(shape.len());
        let mut stride = 1;
        for &size in shape {
            strides.push(stride);
            stride *= size;
        }
        for (&size, stride) in shape.iter().zip(strides).rev() {
            place += rest % size * stride;
            rest /= size;
        }
        place
    };
    let places = (0..count).map(place);
    let elements = match elements {
        Elements::Floats(all) => Elements::Floats(places.map(|it| all[it]).collect()),
        Elements::Ints(all) => Elements::Ints(places.map(|it| all[it]).collect()),
        Elements::Strings(all) => Elements::Strings(places.map(|it| all[it].clone()).collect()),
    };
    Array {
        shape: shape.to_vec(),
        elements,
    }
}
