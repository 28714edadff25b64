//! Reads and writes TFRecord files. Each record has a length, the masked CRC-32C of the length, data, and
//! the masked CRC-32C of the data (TensorFlow's `lib/io/record_reader.cc`).
//!
//! Not here: the meaning of the records (`warmup`, `request_log`).

use std::io::{ErrorKind, Read};

use base::error::{Code, Result, ServingError};

use crate::crc32c::masked_crc32c;

const HEADER_BYTES: u64 = 12;
const FOOTER_BYTES: u64 = 4;

/// The records of a file, in order.
pub struct RecordReader<R> {
    input: R,
    offset: u64,
    total_bytes: u64,
}

impl<R: Read> RecordReader<R> {
    /// A reader of `input`, which holds `total_bytes`. A record cannot be larger.
    pub fn new(input: R, total_bytes: u64) -> Self {
        Self {
            input,
            offset: 0,
            total_bytes,
        }
    }

    /// The next record; `None` at the end. As in TensorFlow, a file that ends within a record's length
    /// ends there.
    ///
    /// # Errors
    ///
    /// `DATA_LOSS` for bytes that are not a record, with the texts of TensorFlow's reader.
    pub fn next_record(&mut self) -> Result<Option<Vec<u8>>> {
        let offset = self.offset;
        if self.total_bytes.saturating_sub(offset) < HEADER_BYTES {
            return Ok(None);
        }
        let header: [u8; HEADER_BYTES as usize] = self.read_array(offset)?;
        let [l0, l1, l2, l3, l4, l5, l6, l7, crc @ ..] = header;
        let length_bytes = [l0, l1, l2, l3, l4, l5, l6, l7];
        if masked_crc32c(&length_bytes) != u32::from_le_bytes(crc) {
            return Err(corrupted(offset));
        }
        let length = u64::from_le_bytes(length_bytes);
        let Some(with_footer) = length.checked_add(FOOTER_BYTES) else {
            return Err(ServingError::new(Code::DataLoss, "record size too large"));
        };
        if with_footer > self.total_bytes - self.offset {
            return Err(truncated(offset));
        }
        let data_offset = self.offset;
        let data = self.read_vec(offset, length)?;
        let crc = self.read_array(offset)?;
        if masked_crc32c(&data) != u32::from_le_bytes(crc) {
            return Err(corrupted(data_offset));
        }
        Ok(Some(data))
    }

    /// `record` is the offset of the record, for errors.
    fn read_array<const N: usize>(&mut self, record: u64) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input
            .read_exact(&mut bytes)
            .map_err(|error| unreadable(record, error))?;
        self.offset += N as u64;
        Ok(bytes)
    }

    /// The vector grows with the bytes that were read, not with the length that the file gives.
    fn read_vec(&mut self, record: u64, length: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut part = self.input.by_ref().take(length);
        let read = part
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(record, error))?;
        if read as u64 != length {
            return Err(truncated(record));
        }
        self.offset += length;
        Ok(bytes)
    }
}

fn unreadable(record: u64, error: std::io::Error) -> ServingError {
    match error.kind() {
        ErrorKind::UnexpectedEof => truncated(record),
        _ => ServingError::new(Code::Unknown, error.to_string()).caused_by(error),
    }
}

/// `offset` is that of the length or of the data, depending on which checksum is wrong.
fn corrupted(offset: u64) -> ServingError {
    let hint = match offset {
        0 => " (Is this even a TFRecord file?)",
        _ => "",
    };
    ServingError::new(
        Code::DataLoss,
        format!("corrupted record at {offset}{hint}"),
    )
}

/// The quote character is as in TensorFlow's text.
fn truncated(record: u64) -> ServingError {
    let text = format!("truncated record at {record}' failed with Read less bytes than requested");
    ServingError::new(Code::DataLoss, text)
}

/// Appends one record to the contents of a file.
pub fn append_record(file: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked_crc32c(&length).to_le_bytes());
    file.extend(data);
    file.extend(masked_crc32c(data).to_le_bytes());
}

/// One record of a file.
#[cfg(any(test, fuzzing, feature = "testing"))]
pub fn encode_record(data: &[u8]) -> Vec<u8> {
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

    // Recorded from TensorFlow Serving 2.20, for a first record.
    #[test]
    fn broken_framing_is_data_loss() {
        let record = encode_record(b"some data");
        check_lost(
            b"this is not a record file",
            "corrupted record at 0 (Is this even a TFRecord file?)",
        );
        check_lost(
            &record[..record.len() - 1],
            "truncated record at 0' failed with Read less bytes than requested",
        );
        let mut flipped = record.clone();
        flipped[14] ^= 1;
        check_lost(&flipped, "corrupted record at 12");
    }

    #[test]
    fn broken_second_record_is_found_at_its_place() {
        let record = encode_record(b"some data");
        let at = record.len();
        let second = [record.as_slice(), b"garbage garbage"].concat();
        check_lost(&second, &format!("corrupted record at {at}"));
        let both = [record.as_slice(), &record].concat();
        check_lost(
            &both[..at + 15],
            &format!("truncated record at {at}' failed with Read less bytes than requested"),
        );
        let mut flipped = both.clone();
        flipped[at + 14] ^= 1;
        check_lost(&flipped, &format!("corrupted record at {}", at + 12));
    }

    // `RandomAccessInputStream` reports the end of the file, not data loss.
    #[test]
    fn file_that_ends_within_a_length_ends_there() {
        assert_eq!(read_all(b"short").unwrap(), Vec::<Vec<u8>>::new());
        let record = encode_record(b"some data");
        let both = [record.as_slice(), &record[..11]].concat();
        assert_eq!(read_all(&both).unwrap(), [b"some data".to_vec()]);
    }

    #[test]
    fn length_beyond_the_file_takes_no_memory() {
        for (length, text) in [
            (
                1 << 60,
                "truncated record at 0' failed with Read less bytes than requested",
            ),
            (u64::MAX, "record size too large"),
        ] {
            let length = length.to_le_bytes();
            let mut file = length.to_vec();
            file.extend(masked_crc32c(&length).to_le_bytes());
            file.extend([0; 20]);
            check_lost(&file, text);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(file in any::<Vec<u8>>()) {
            let _ = read_all(&file);
        }
    }
}
