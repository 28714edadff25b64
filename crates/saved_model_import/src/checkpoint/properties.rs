//! Properties that hold for any bytes of a checkpoint, for fuzzers.

use base::error::{Code, Result};
use bytes::Bytes;
use codec::crc32c::masked_crc32c;
use prost::Message;

use super::bundle::Bundle;
use super::messages::{BundleEntry, BundleHeader};
use super::slice::Slice;
use super::table;
use super::testing::{table_of_block, written};
use crate::files::Files;

/// Reads bytes as a table, and as the block of one. A table that is read survives being written again.
pub fn check_table(data: &[u8]) {
    let mut files = vec![Bytes::copy_from_slice(data)];
    if let Some((kind, block)) = data.split_first() {
        files.push(table_of_block(block, kind % 3).into());
    }
    for file in files {
        let Ok(read) = table::read(&file) else {
            continue;
        };
        let entries: Vec<_> = read
            .iter()
            .map(|(key, value)| (&key[..], &value[..]))
            .collect();
        let again = table::read(&written(&entries).into());
        assert_eq!(again.as_ref(), Ok(&read), "entries are lost");
    }
}

/// Reads a tensor, a part of a partitioned one and a part of it. The bytes are two entries, each after its length,
/// and a shard; their checksums are made to fit.
pub fn check_checkpoint(data: &[u8]) {
    let mut rest = data;
    let mut entry = || {
        let (&length, after) = rest.split_first()?;
        let (entry, after) = after.split_at_checked(length.into())?;
        rest = after;
        Some(BundleEntry::decode(entry).unwrap_or_default())
    };
    let (Some(whole), Some(part)) = (entry(), entry()) else {
        return;
    };
    let shard = rest;
    let part_of_row = Slice::new([(0, Some(2))].into_iter()).map(|it| it.key(b"x"));
    let header = BundleHeader {
        num_shards: 1,
        endianness: i32::from(data.len().is_multiple_of(2)),
    };
    let mut entries = [
        (Vec::new(), header.encode_to_vec()),
        (part_of_row.unwrap_or_default(), fitted(part, shard)),
        (b"x".to_vec(), fitted(whole, shard)),
    ];
    entries.sort();
    let entries: Vec<_> = entries
        .iter()
        .map(|(key, it)| (&key[..], &it[..]))
        .collect();
    let files = InMemory {
        index: written(&entries).into(),
        shard: Bytes::copy_from_slice(shard),
    };
    let bundle = Bundle::open(&files, "v");
    let Ok(Some(bundle)) = bundle else {
        panic!("the index is not read: {:?}", bundle.err());
    };
    for part in ["", "4 1,2", "4 0,2"] {
        let part = Slice::parse(part).expect("it is a part");
        match bundle.read("x", part.as_ref()) {
            Ok(Some(elements)) => {
                assert!(elements.bytes().is_none_or(|it| it.len() <= shard.len()))
            }
            Ok(None) => panic!("the entry is lost"),
            Err(error) => assert_eq!(error.code(), Code::InvalidArgument, "{error}"),
        }
    }
}

/// An entry with the checksum of the bytes that it names.
fn fitted(mut entry: BundleEntry, shard: &[u8]) -> Vec<u8> {
    let place = usize::try_from(entry.offset)
        .ok()
        .zip(usize::try_from(entry.size).ok());
    let data = place.and_then(|(offset, size)| shard.get(offset..offset.checked_add(size)?));
    if let Some(data) = data {
        entry.crc32c = masked_crc32c(data);
    }
    entry.encode_to_vec()
}

struct InMemory {
    index: Bytes,
    shard: Bytes,
}

impl Files for InMemory {
    fn read(&self, path: &str) -> Result<Option<Bytes>> {
        Ok(match path {
            "v.index" => Some(self.index.clone()),
            "v.data-00000-of-00001" => Some(self.shard.clone()),
            _ => None,
        })
    }
}
