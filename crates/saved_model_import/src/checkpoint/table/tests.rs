use super::*;
use crate::checkpoint::testing::{table_of_block, written};

/// TensorFlow 2.21 wrote it.
const INDEX: &[u8] = include_bytes!("../../../testdata/checkpoint/variables.index");

/// The block with the entries, and its trailer.
const BLOCK_BYTES: usize = 329;

#[test]
fn table_of_tensorflow_is_read() {
    let table = read(&Bytes::from_static(INDEX)).unwrap();
    let names: Vec<&[u8]> = table.keys().map(|it| &it[..]).collect();
    let parts: [&[u8]; 4] = [
        b"\0cols\0\x01\x01\x02\x80\x83\x80\xc0\x46",
        b"\0cols\0\x01\x01\x02\x80\x7f\xc0\x46\x9e",
        b"\0rows\0\x01\x01\x02\x80\x87\x80\x7f",
        b"\0rows\0\x01\x01\x02\x87\x83\x80\x7f",
    ];
    let whole: [&[u8]; 7] = [b"", b"cols", b"empty", b"half", b"rows", b"scalar", b"text"];
    let mut expected = [&parts[..], &whole[..]].concat();
    expected.sort_unstable();
    assert_eq!(names, expected);
}

#[test]
fn every_changed_byte_is_noticed() {
    let whole = read(&Bytes::from_static(INDEX)).unwrap();
    for index in 0..INDEX.len() {
        let mut changed = INDEX.to_vec();
        changed[index] ^= 0x10;
        // Those of the block with statistics, and some of the footer, are not used.
        if let Ok(table) = read(&changed.into()) {
            assert_eq!(table, whole, "{index}");
            assert!(index >= BLOCK_BYTES, "{index}");
        }
    }
    for end in 0..INDEX.len() {
        assert!(read(&Bytes::from_static(&INDEX[..end])).is_err(), "{end}");
    }
}

#[test]
fn compressed_blocks_are_read() {
    let entries: [(&[u8], &[u8]); 2] = [(b"a", b"1"), (b"b", b"2")];
    let plain = written(&entries);
    // The block begins the file; after it come five bytes.
    let length = 2 * 5 + 8;
    let compressed = snap::raw::Encoder::new()
        .compress_vec(&plain[..length])
        .unwrap();
    let table = read(&table_of_block(&compressed, 1).into()).unwrap();
    assert_eq!(table, read(&plain.into()).unwrap());
    assert_eq!(table.len(), 2);
}

#[test]
fn compressed_blocks_cannot_grow_without_bound() {
    // The length that a block has uncompressed comes first: here 2^31.
    let lying = [0x80, 0x80, 0x80, 0x80, 0x08, 0x00];
    let error = read(&table_of_block(&lying, 1).into()).unwrap_err();
    assert!(error.contains("of memory"), "{error}");
    let error = read(&table_of_block(&lying, 2).into()).unwrap_err();
    assert!(error.contains("an unknown method (2)"), "{error}");
}

/// Each key repeats the one before it, and adds a byte.
#[test]
fn keys_cannot_grow_without_bound() {
    let mut block = vec![0, 0x80, 0x80, 0x04, 0];
    block.resize(5 + (1 << 16), b'a');
    for _ in 0..5000 {
        block.extend([0x80, 0x80, 0x04, 1, 0, b'b']);
    }
    block.extend([0, 0, 0, 0, 1, 0, 0, 0]);
    let error = read(&table_of_block(&block, 0).into()).unwrap_err();
    assert!(error.contains("of memory"), "{error}");
}

#[test]
fn keys_are_in_order() {
    for keys in [[b"b", b"a"], [b"a", b"a"]] {
        let entries = keys.map(|key| (&key[..], &b"1"[..]));
        let error = read(&written(&entries).into()).unwrap_err();
        assert!(error.contains("not sorted"), "{error}");
    }
}

#[test]
fn damaged_blocks_are_refused() {
    let blocks: [&[u8]; 8] = [
        b"",
        // More places of whole keys than there is room for.
        &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 0, 2, 0, 0, 0],
        // A key that shares more than there is.
        &[1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
        // A key and a value beyond the end.
        &[0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0],
        &[0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0],
        // A length without an end.
        &[0x80, 0, 0, 0, 0, 1, 0, 0, 0],
        &[
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
        ],
    ];
    for block in blocks {
        let error = read(&table_of_block(block, 0).into()).unwrap_err();
        assert!(error.contains("damaged block"), "{block:?}: {error}");
    }
}

#[test]
fn numbers_are_read() {
    let of = |bytes: &[u8]| Cursor(bytes).varint();
    assert_eq!(of(&[0x96, 0x01]), Some(150));
    assert_eq!(of(&[0xff; 9]), None);
    let largest = [&[0xff; 9][..], &[1]].concat();
    assert_eq!(of(&largest), Some(u64::MAX));
    let beyond = [&[0xff; 9][..], &[2]].concat();
    assert_eq!(of(&beyond), None);
}
