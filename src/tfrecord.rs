//! Reads and writes TFRecord files: length, masked CRC-32C of the length, data, masked CRC-32C of the data,
//! again and again (TensorFlow's `lib/io/record_reader.cc`).
//!
//! Not here: what the records mean (`warmup`, `request_log`).

use std::io::{ErrorKind, Read};

use crate::error::{Code, Result, ServingError};

const HEADER_BYTES: u64 = 12;
const FOOTER_BYTES: u64 = 4;

/// The records of a file, in order.
pub(crate) struct RecordReader<R> {
    input: R,
    offset: u64,
    total_bytes: u64,
}

impl<R: Read> RecordReader<R> {
    /// A reader of `input`, which holds `total_bytes`: no record can be larger.
    pub(crate) fn new(input: R, total_bytes: u64) -> Self {
        Self {
            input,
            offset: 0,
            total_bytes,
        }
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    ///
    /// `DATA_LOSS` for what is no record.
    pub(crate) fn next_record(&mut self) -> Result<Option<Vec<u8>>> {
        if self.offset >= self.total_bytes {
            return Ok(None);
        }
        let offset = self.offset;
        let header: [u8; HEADER_BYTES as usize] = self.read_array()?;
        let [l0, l1, l2, l3, l4, l5, l6, l7, crc @ ..] = header;
        let length_bytes = [l0, l1, l2, l3, l4, l5, l6, l7];
        if masked_crc32c(&length_bytes) != u32::from_le_bytes(crc) {
            return Err(corrupted(offset));
        }
        let length = u64::from_le_bytes(length_bytes);
        let rest = self.total_bytes - self.offset;
        if length.saturating_add(FOOTER_BYTES) > rest {
            return Err(truncated(self.offset));
        }
        let data = self.read_vec(length)?;
        let crc = self.read_array()?;
        if masked_crc32c(&data) != u32::from_le_bytes(crc) {
            return Err(corrupted(offset));
        }
        Ok(Some(data))
    }

    fn read_array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input
            .read_exact(&mut bytes)
            .map_err(|error| self.unreadable(&error))?;
        self.offset += N as u64;
        Ok(bytes)
    }

    /// Grows with what is there, rather than with what the file says.
    fn read_vec(&mut self, length: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut part = self.input.by_ref().take(length);
        let read = part
            .read_to_end(&mut bytes)
            .map_err(|error| self.unreadable(&error))?;
        if read as u64 != length {
            return Err(truncated(self.offset));
        }
        self.offset += length;
        Ok(bytes)
    }

    fn unreadable(&self, error: &std::io::Error) -> ServingError {
        match error.kind() {
            ErrorKind::UnexpectedEof => truncated(self.offset),
            _ => ServingError::new(Code::Unknown, error.to_string()),
        }
    }
}

fn corrupted(offset: u64) -> ServingError {
    ServingError::new(Code::DataLoss, format!("corrupted record at {offset}"))
}

fn truncated(offset: u64) -> ServingError {
    ServingError::new(Code::DataLoss, format!("truncated record at {offset}"))
}

/// CRC-32C, turned and shifted so that the checksum of data with checksums in it is a good one.
fn masked_crc32c(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32 with Castagnoli's polynomial, one byte at a time.
fn crc32c(data: &[u8]) -> u32 {
    let step = |crc: u32, &byte: &u8| {
        let index = (crc ^ u32::from(byte)) & 0xff;
        CRC_TABLE[index as usize] ^ (crc >> 8)
    };
    !data.iter().fold(!0, step)
}

const CRC_TABLE: [u32; 256] = crc_table();

const fn crc_table() -> [u32; 256] {
    /// The polynomial 0x1EDC6F41, its bits in reverse order.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            let carry = if crc & 1 == 1 { POLYNOMIAL } else { 0 };
            crc = (crc >> 1) ^ carry;
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

/// Appends one record to what goes into a file.
pub(crate) fn append_record(file: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked_crc32c(&length).to_le_bytes());
    file.extend(data);
    file.extend(masked_crc32c(data).to_le_bytes());
}

/// One record of a file.
#[cfg(test)]
pub(crate) fn encode_record(data: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    append_record(&mut record, data);
    record
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(file: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut reader = RecordReader::new(file, file.len() as u64);
        let mut records = Vec::new();
        while let Some(record) = reader.next_record()? {
            records.push(record);
        }
        Ok(records)
    }

    // RFC 3720, appendix B.4, and the check value of the polynomial.
    #[test]
    fn crc_matches_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&ascending), 0x46dd_794e);
    }

    #[test]
    fn records_come_back() {
        let file = [encode_record(b"one"), encode_record(b"")].concat();
        assert_eq!(read_all(&file).unwrap(), [b"one".to_vec(), Vec::new()]);
        assert_eq!(read_all(b"").unwrap(), Vec::<Vec<u8>>::new());
    }

    #[track_caller]
    fn check_lost(file: &[u8], text: &str) {
        let error = read_all(file).unwrap_err();
        assert_eq!(error.code(), Code::DataLoss);
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn broken_framing_is_data_loss() {
        let record = encode_record(b"some data");
        check_lost(b"this is no record file", "corrupted record at 0");
        check_lost(b"short", "truncated record at 0");
        check_lost(&record[..record.len() - 1], "truncated record at 12");
        let mut flipped = record.clone();
        flipped[14] ^= 1;
        check_lost(&flipped, "corrupted record at 0");
        let second = [record.as_slice(), b"garbage garbage"].concat();
        check_lost(&second, &format!("corrupted record at {}", record.len()));
    }

    #[test]
    fn length_beyond_the_file_takes_no_memory() {
        let length = u64::MAX.to_le_bytes();
        let mut file = length.to_vec();
        file.extend(masked_crc32c(&length).to_le_bytes());
        file.extend([0; 20]);
        check_lost(&file, "truncated record at 12");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(file in any::<Vec<u8>>()) {
            let _ = read_all(&file);
        }
    }
}
