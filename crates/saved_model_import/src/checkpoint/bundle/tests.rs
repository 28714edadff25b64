use std::collections::HashMap;

use proto::tensorflow::{TensorShapeProto, tensor_shape_proto::Dim};

use super::super::messages::{Extent, TensorSlice};
use super::super::testing;
use super::*;
use base::error::Code;

/// TensorFlow 2.21 wrote them: `rows` in two parts along the first axis, `cols` in two along the second.
const INDEX: &[u8] = include_bytes!("../../../testdata/checkpoint/variables.index");
const SHARD: &[u8] = include_bytes!("../../../testdata/checkpoint/variables.data-00000-of-00001");

struct Memory(HashMap<String, Bytes>);

impl Memory {
    fn of(index: &[u8], shard: &[u8]) -> Self {
        let file = |name: &str, bytes: &[u8]| (name.to_owned(), Bytes::copy_from_slice(bytes));
        Self(HashMap::from([
            file("v.index", index),
            file("v.data-00000-of-00001", shard),
        ]))
    }
}

impl Files for Memory {
    fn read(&self, path: &str) -> Result<Option<Bytes>> {
        Ok(self.0.get(path).cloned())
    }
}

fn part(text: &str) -> Option<(Vec<usize>, Slice)> {
    Slice::parse(text).unwrap()
}

#[test]
fn checkpoint_of_tensorflow_is_read() {
    let files = Memory::of(INDEX, SHARD);
    let bundle = Bundle::open(&files, "v").unwrap().unwrap();
    let read = |name| bundle.read(name, None).unwrap().unwrap();
    let counted: Vec<f32> = (0..40).map(|it| it as f32).collect();
    assert_eq!(read("rows"), Elements::from_vec(&[10, 4], counted).unwrap());
    let counted: Vec<i16> = (0..300).collect();
    assert_eq!(
        read("cols"),
        Elements::from_vec(&[3, 100], counted).unwrap()
    );
    let strings = ["a".into(), Bytes::new(), Bytes::from_static(b"\xff\0c")];
    assert_eq!(
        read("text"),
        Elements::from_strings(&[3], strings.into()).unwrap()
    );
    assert_eq!(read("scalar"), Elements::from_vec(&[], vec![7i64]).unwrap());
    // 1.5 and -2 in bfloat16.
    let half = Bytes::from_static(&[0xc0, 0x3f, 0x00, 0xc0]);
    assert_eq!(
        read("half"),
        Elements::from_bytes(DataType::BFloat16, &[2], half).unwrap()
    );
    assert_eq!(
        read("empty"),
        Elements::from_vec::<f32>(&[0, 3], Vec::new()).unwrap()
    );
    assert!(bundle.read("other", None).unwrap().is_none());
}

#[test]
fn parts_are_read_however_they_are_stored() {
    let files = Memory::of(INDEX, SHARD);
    let bundle = Bundle::open(&files, "v").unwrap().unwrap();
    for (name, text, shape, expected) in [
        (
            "rows",
            "10 4 0,7:-",
            vec![7, 4],
            (0..28).collect::<Vec<i32>>(),
        ),
        ("rows", "10 4 6,2:1,2", vec![2, 2], vec![25, 26, 29, 30]),
        ("text", "3 1,2", vec![2], vec![]),
        (
            "cols",
            "3 100 2,1:68,4",
            vec![1, 4],
            vec![268, 269, 270, 271],
        ),
    ] {
        let part = part(text);
        let found = bundle.read(name, part.as_ref()).unwrap().unwrap();
        assert_eq!(found.shape(), shape, "{name} {text}");
        let numbers: Vec<i32> = match found.dtype() {
            DataType::Float => found
                .as_slice::<f32>()
                .unwrap()
                .iter()
                .map(|it| *it as i32)
                .collect(),
            DataType::Int16 => found
                .as_slice::<i16>()
                .unwrap()
                .iter()
                .map(|it| i32::from(*it))
                .collect(),
            _ => Vec::new(),
        };
        assert_eq!(numbers, expected, "{name} {text}");
    }
    let error = bundle
        .read("rows", part("11 4 0,7:-").as_ref())
        .unwrap_err();
    assert!(
        error.to_string().contains("'rows' has another shape"),
        "{error}"
    );
}

#[test]
fn every_changed_byte_of_a_shard_is_noticed() {
    let names = ["rows", "cols", "text", "scalar", "half"];
    for index in 0..SHARD.len() {
        let mut shard = SHARD.to_vec();
        shard[index] ^= 1;
        let files = Memory::of(INDEX, &shard);
        let bundle = Bundle::open(&files, "v").unwrap().unwrap();
        let errors = names.iter().filter_map(|it| bundle.read(it, None).err());
        let errors: Vec<String> = errors.map(|it| it.to_string()).collect();
        assert_eq!(errors.len(), 1, "{index}: {errors:?}");
        assert!(errors[0].contains("wrong checksum"), "{index}: {errors:?}");
    }
}

#[test]
fn shards_that_are_missing_or_too_short_are_named() {
    let mut files = Memory::of(INDEX, &SHARD[..700]);
    let text = |files: &Memory| {
        let bundle = Bundle::open(files, "v").unwrap().unwrap();
        bundle.read("text", None).unwrap_err().to_string()
    };
    let short = text(&files);
    assert!(
        short.contains("v.data-00000-of-00001 is too short"),
        "{short}"
    );
    assert!(short.contains("'text'"), "{short}");
    files.0.remove("v.data-00000-of-00001");
    let missing = text(&files);
    assert!(
        missing.contains("v.data-00000-of-00001 is missing"),
        "{missing}"
    );
    files.0.remove("v.index");
    assert!(Bundle::open(&files, "v").unwrap().is_none());
}

fn header(endianness: i32) -> BundleHeader {
    BundleHeader {
        num_shards: 1,
        endianness,
    }
}

fn entry(dtype: DataType, dims: &[i64], size: i64, data: &[u8]) -> BundleEntry {
    let dim = dims.iter().map(|&size| Dim {
        size,
        ..Dim::default()
    });
    BundleEntry {
        dtype: dtype.number(),
        shape: Some(TensorShapeProto {
            dim: dim.collect(),
            unknown_rank: false,
        }),
        size,
        crc32c: masked_crc32c(data),
        ..BundleEntry::default()
    }
}

fn written(header: &BundleHeader, entries: &[(Vec<u8>, BundleEntry)]) -> Vec<u8> {
    let mut entries: Vec<_> = entries
        .iter()
        .map(|(key, it)| (key.clone(), it.encode_to_vec()))
        .collect();
    entries.push((Vec::new(), header.encode_to_vec()));
    entries.sort();
    let entries: Vec<_> = entries
        .iter()
        .map(|(key, it)| (&key[..], &it[..]))
        .collect();
    testing::written(&entries)
}

fn read(index: &[u8], shard: &[u8]) -> Result<Option<Elements>> {
    let files = Memory::of(index, shard);
    Bundle::open(&files, "v")?.unwrap().read("x", None)
}

#[track_caller]
fn check_refused(entries: &[(Vec<u8>, BundleEntry)], shard: &[u8], text: &str) {
    let error = read(&written(&header(0), entries), shard).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    let found = error.to_string();
    assert!(found.contains("'x'") && found.contains(text), "{found}");
}

#[test]
fn numbers_of_the_other_order_are_swapped() {
    let data = [0, 0, 1, 2];
    let entry = (b"x".to_vec(), entry(DataType::Int32, &[1], 4, &data));
    let elements = read(&written(&header(1), std::slice::from_ref(&entry)), &data)
        .unwrap()
        .unwrap();
    assert_eq!(elements, Elements::from_vec(&[1], vec![258]).unwrap());
    let error = read(&written(&header(2), &[entry]), &data).unwrap_err();
    assert!(error.to_string().contains("order of bytes"), "{error}");
}

#[test]
fn lying_entries_are_refused() {
    let data = [0; 16];
    let good = entry(DataType::Float, &[4], 16, &data);
    let changed = |change: fn(&mut BundleEntry)| {
        let mut entry = good.clone();
        change(&mut entry);
        [(b"x".to_vec(), entry)]
    };
    assert!(
        read(&written(&header(0), &changed(|_| {})), &data)
            .unwrap()
            .is_some()
    );
    check_refused(&changed(|it| it.offset = 1), &data, "too short");
    check_refused(&changed(|it| it.offset = -1), &data, "too short");
    check_refused(&changed(|it| it.offset = i64::MAX), &data, "too short");
    check_refused(&changed(|it| it.size = i64::MAX), &data, "another size");
    check_refused(&changed(|it| it.size = -16), &data, "another size");
    check_refused(
        &changed(|it| it.shard_id = 1),
        &data,
        "a shard that does not exist",
    );
    check_refused(
        &changed(|it| it.shard_id = -1),
        &data,
        "a shard that does not exist",
    );
    check_refused(&changed(|it| it.crc32c ^= 1), &data, "wrong checksum");
    check_refused(&changed(|it| it.dtype = 99), &data, "unknown type (99)");
    check_refused(
        &changed(|it| it.dtype = 21),
        &data,
        "type variant, which are not read",
    );
    check_refused(
        &changed(|it| it.dtype = 7),
        &data,
        "checksum of the lengths",
    );
    let huge = |dims: &[i64]| [(b"x".to_vec(), entry(DataType::Float, dims, 16, &data))];
    check_refused(&huge(&[1 << 40, 1 << 40]), &data, "impossible shape");
    check_refused(&huge(&[-1]), &data, "impossible shape");
    check_refused(&huge(&[1 << 61]), &data, "another size");
}

/// A tensor of this size in two parts of two floats, which start at these places.
fn partitioned(size: i64, starts: [i64; 2], data: &[u8]) -> Vec<(Vec<u8>, BundleEntry)> {
    let mut whole = entry(DataType::Float, &[size], 0, &[]);
    let mut entries = Vec::new();
    for start in starts {
        let extent = vec![Extent {
            start,
            length: Some(2),
        }];
        whole.slices.push(TensorSlice { extent });
        let key = Slice::new([(start, Some(2))].into_iter())
            .unwrap()
            .key(b"x");
        entries.push((key, entry(DataType::Float, &[2], 8, data)));
    }
    entries.push((b"x".to_vec(), whole));
    entries.dedup_by(|a, b| a.0 == b.0);
    entries
}

#[test]
fn parts_that_overlap_or_leave_gaps_are_refused() {
    let data = [0; 16];
    let parts = |size, starts| partitioned(size, starts, &data[..8]);
    assert!(
        read(&written(&header(0), &parts(4, [0, 2])), &data)
            .unwrap()
            .is_some()
    );
    check_refused(&parts(4, [0, 1]), &data, "overlap");
    check_refused(&parts(4, [0, 0]), &data, "overlap");
    check_refused(&parts(5, [0, 2]), &data, "gap");
    check_refused(&parts(1 << 40, [0, 2]), &data, "gap");
    check_refused(&parts(4, [0, 3]), &data, "a part outside of its shape");
    let mut without = parts(4, [0, 2]);
    without.remove(0);
    check_refused(&without, &data, "a part without an entry");
    let mut nested = parts(4, [0, 2]);
    nested[0].1.slices.push(TensorSlice::default());
    check_refused(&nested, &data, "another type or shape");
}

/// Otherwise a small file could fill the memory.
#[test]
fn the_same_bytes_cannot_be_read_again_under_other_names() {
    let data = [0; 16];
    let entry = entry(DataType::Float, &[4], 16, &data);
    let index = written(
        &header(0),
        &[(b"x".to_vec(), entry.clone()), (b"y".to_vec(), entry)],
    );
    let files = Memory::of(&index, &data);
    let bundle = Bundle::open(&files, "v").unwrap().unwrap();
    bundle.read("x", None).unwrap();
    let error = bundle.read("y", None).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("several entries name the same bytes"),
        "{error}"
    );
}
