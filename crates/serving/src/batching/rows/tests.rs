use super::*;
use base::tensor::DataType;

fn ints(shape: &[usize], elements: &[i32]) -> Tensor {
    Tensor::from_vec(shape, elements.to_vec()).unwrap()
}

fn words(shape: &[usize], words: &[&'static str]) -> Tensor {
    let strings = words.iter().map(|it| Bytes::from_static(it.as_bytes()));
    Tensor::from_strings(shape, strings.collect()).unwrap()
}

#[test]
fn slice_shares_the_buffer() {
    let tensor = ints(&[3, 2], &[1, 2, 3, 4, 5, 6]);
    let middle = slice(&tensor, 1..2).unwrap();
    assert_eq!(middle, ints(&[1, 2], &[3, 4]));
    let distance =
        middle.bytes().unwrap().as_ptr() as usize - tensor.bytes().unwrap().as_ptr() as usize;
    assert_eq!(distance, 8);
    assert!(slice(&tensor, 2..4).is_err());
}

#[test]
fn slice_takes_strings() {
    let tensor = words(&[2, 2], &["a", "b", "c", "d"]);
    assert_eq!(slice(&tensor, 1..2).unwrap(), words(&[1, 2], &["c", "d"]));
}

#[test]
fn merge_hands_back_a_single_tensor() {
    let tensor = ints(&[2], &[1, 2]);
    let merged = merge(&[&tensor], 2).unwrap();
    assert_eq!(
        merged.bytes().unwrap().as_ptr(),
        tensor.bytes().unwrap().as_ptr()
    );
}

#[test]
fn merge_repeats_row_0_of_the_last() {
    let merged = merge(&[&ints(&[1], &[7]), &ints(&[2], &[8, 9])], 5).unwrap();
    assert_eq!(merged, ints(&[5], &[7, 8, 9, 8, 8]));
    let merged = merge(&[&words(&[1], &["a"])], 3).unwrap();
    assert_eq!(merged, words(&[3], &["a", "a", "a"]));
}

/// `BatchingWithPadding` of `batching_session_test.cc`: the padding is the first element.
#[test]
fn merge_pads_with_the_own_first_element() {
    let small = ints(&[1, 2, 2], &[1, 2, 3, 4]);
    let large = ints(&[1, 3, 3], &[5, 6, 7, 8, 9, 10, 11, 12, 13]);
    let expected = [
        1, 2, 1, 3, 4, 1, 1, 1, 1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 5, 6, 7, 8, 9, 10, 11, 12, 13,
    ];
    let merged = merge(&[&small, &large], 3).unwrap();
    assert_eq!(merged, ints(&[3, 3, 3], &expected));
}

/// As `batching_util_test.cc`, but smaller: dimension 0 is unchanged, for every dtype.
#[test]
fn merge_pads_every_dtype_and_rank() {
    let numbers = (1..=33).filter_map(DataType::from_number);
    for dtype in numbers.filter(|it| it.size().is_some() || *it == DataType::String) {
        for rank in 2..=6 {
            let small = Tensor::zeros(dtype, &[&[2], &vec![2; rank - 1][..]].concat()).unwrap();
            let large = Tensor::zeros(dtype, &[&[1], &vec![3; rank - 1][..]].concat()).unwrap();
            let merged = merge(&[&small, &large], 3).unwrap();
            assert_eq!(merged.shape(), [&[3], &vec![3; rank - 1][..]].concat());
            assert_eq!(merged.dtype(), dtype);
        }
    }
}

#[test]
fn merge_pads_every_row_of_a_tensor_with_its_first() {
    let merged = merge(
        &[&words(&[2, 1], &["a", "b"]), &words(&[1, 2], &["c", "d"])],
        3,
    );
    assert_eq!(
        merged.unwrap(),
        words(&[3, 2], &["a", "a", "b", "a", "c", "d"])
    );
}

#[test]
fn merge_takes_tensors_without_elements() {
    let merged = merge(&[&ints(&[1, 0], &[]), &ints(&[2, 0], &[])], 4).unwrap();
    assert_eq!(merged, ints(&[4, 0], &[]));
}

#[test]
fn merge_fails_without_memory() {
    let error = merge(&[&ints(&[1], &[1])], usize::MAX / 8).unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted);
}

#[test]
fn padding_of_two_small_tensors_is_bounded() {
    let (wide, high) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let wide = ints(&[1, 1, 1 << 16], &wide);
    let high = ints(&[1, 1 << 16, 1], &high);
    assert!(padding_is_bounded(&[&wide, &wide]));
    assert!(!padding_is_bounded(&[&wide, &high]));
    let long = ints(&[1, 1000], &[0; 1000]);
    assert!(padding_is_bounded(&[&long, &ints(&[1, 1], &[0])]));
}

#[test]
fn concatenate_refuses_other_shapes() {
    let row = ints(&[1, 2], &[1, 2]);
    let other = ints(&[1, 3], &[1, 2, 3]);
    assert_eq!(
        concatenate(&[&row, &row]).unwrap(),
        ints(&[2, 2], &[1, 2, 1, 2])
    );
    let error = concatenate(&[&row, &other]).unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
}
