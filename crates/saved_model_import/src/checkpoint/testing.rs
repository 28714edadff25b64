//! Writes tables, for tests and fuzzers: LevelDB's `doc/table_format.md`, the other way round.

use codec::crc32c::masked_crc32c;

/// A block that begins with the number of entries that share nothing with the entry before them: all of them.
fn block(entries: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (key, value) in entries {
        for length in [0, key.len(), value.len()] {
            varint(&mut block, length as u64);
        }
        block.extend([*key, *value].concat());
    }
    block.extend(0u32.to_le_bytes());
    block.extend(1u32.to_le_bytes());
    block
}

fn varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Appends a block with its trailer; returns its place.
fn append(table: &mut Vec<u8>, block: &[u8], kind: u8) -> Vec<u8> {
    let mut place = Vec::new();
    varint(&mut place, table.len() as u64);
    varint(&mut place, block.len() as u64);
    let checked = [block, &[kind]].concat();
    table.extend(&checked);
    table.extend(masked_crc32c(&checked).to_le_bytes());
    place
}

/// A table of these entries, which are in order.
pub(crate) fn written(entries: &[(&[u8], &[u8])]) -> Vec<u8> {
    table_of_block(&block(entries), 0)
}

/// A table whose only block with entries has these contents; its kind is 0, or 1 for Snappy.
pub(crate) fn table_of_block(contents: &[u8], kind: u8) -> Vec<u8> {
    let mut table = Vec::new();
    let data = append(&mut table, contents, kind);
    let meta = append(&mut table, &block(&[]), 0);
    let index = append(&mut table, &block(&[(b"~", &data)]), 0);
    let mut footer = [meta, index].concat();
    footer.resize(40, 0);
    table.extend(footer);
    table.extend(0xdb47_7524_8b80_fb57u64.to_le_bytes());
    table
}
