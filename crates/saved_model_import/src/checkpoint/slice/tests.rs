use super::*;

fn slice(extents: &[(i64, Option<i64>)]) -> Slice {
    Slice::new(extents.iter().copied()).unwrap()
}

/// From keys that TensorFlow 2.21 wrote, and from the forms in its `ordered_code.cc`.
#[test]
fn keys_are_those_of_tensorflow() {
    let key = slice(&[(0, None), (70, Some(30))]).key(b"cols");
    assert_eq!(key, b"\0cols\0\x01\x01\x02\x80\x7f\xc0\x46\x9e");
    let key = slice(&[(0, Some(7)), (0, None)]).key(b"rows");
    assert_eq!(key, b"\0rows\0\x01\x01\x02\x80\x87\x80\x7f");
    assert_eq!(slice(&[]).key(b"a\0\xff"), b"\0a\0\xff\xff\0\0\x01\0");
}

#[test]
fn signed_numbers_sort_as_they_do() {
    let encoded = |number| {
        let mut key = Vec::new();
        write_signed(&mut key, number);
        key
    };
    assert_eq!(encoded(0), [0x80]);
    assert_eq!(encoded(63), [0xbf]);
    assert_eq!(encoded(64), [0xc0, 0x40]);
    assert_eq!(encoded(-1), [0x7f]);
    assert_eq!(encoded(-64), [0x40]);
    assert_eq!(encoded(-65), [0x3f, 0xbf]);
    assert_eq!(encoded(8191), [0xdf, 0xff]);
    assert_eq!(encoded(8192), [0xe0, 0x20, 0x00]);
    let numbers: Vec<i64> = (0..63).map(|it| (1 << it) - 1).chain([i64::MAX]).collect();
    for pair in numbers.windows(2) {
        assert!(
            encoded(pair[0]) < encoded(pair[1]) || pair[0] == pair[1],
            "{pair:?}"
        );
        assert!(
            encoded(!pair[1]) < encoded(!pair[0]) || pair[0] == pair[1],
            "{pair:?}"
        );
    }
}

#[test]
fn parts_of_restore_are_read() {
    assert_eq!(Slice::parse(""), Some(None));
    let (shape, part) = Slice::parse("10 4 0,7:-").unwrap().unwrap();
    assert_eq!(shape, [10, 4]);
    assert_eq!(part, slice(&[(0, Some(7)), (0, None)]));
    for damaged in [
        "x", "10", "10 4 0,7", "10 0,7:-", "10 -1,2", "10 1,-2", "10 0,", "-5 -", "1 1 --",
    ] {
        assert_eq!(Slice::parse(damaged), None, "{damaged}");
    }
}

#[test]
fn a_part_lies_within_its_tensor() {
    let part = slice(&[(3, Some(2)), (0, None)]);
    let place = part.place(&[5, 4]).unwrap();
    assert_eq!((place.starts, place.sizes), (vec![3, 0], vec![2, 4]));
    assert_eq!(part.place(&[4, 4]), None);
    assert_eq!(part.place(&[5]), None);
    let beyond = slice(&[(i64::MAX, Some(i64::MAX))]);
    assert_eq!(
        beyond.place(&[usize::MAX]),
        Some(Place {
            starts: vec![i64::MAX as usize],
            sizes: vec![i64::MAX as usize],
        })
    );
    assert_eq!(beyond.place(&[10]), None);
    assert!(Slice::new([(1, None)].into_iter()).is_none());
    assert!(Slice::new([(-1, Some(1))].into_iter()).is_none());
}

#[test]
fn common_elements_are_copied() {
    // Of a tensor [3, 4] with the elements 0 to 11, columns 1 to 3 are stored, and rows 1 to 2 wanted.
    let stored = slice(&[(0, None), (1, Some(3))]).place(&[3, 4]).unwrap();
    let wanted = slice(&[(1, Some(2)), (0, None)]).place(&[3, 4]).unwrap();
    let common = stored.intersection(&wanted).unwrap();
    let from = [1, 2, 3, 5, 6, 7, 9, 10, 11];
    let mut to = [0; 8];
    stored.copy(&common, &wanted, 1, &from, &mut to).unwrap();
    assert_eq!(to, [0, 5, 6, 7, 0, 9, 10, 11]);
    assert!(
        stored
            .copy(&common, &wanted, 1, &from[..8], &mut to)
            .is_none()
    );
    let other = slice(&[(0, Some(1)), (0, None)]).place(&[3, 4]).unwrap();
    assert_eq!(other.intersection(&wanted), None);
}
