//! A tensor to wire bytes.

use bytes::{BufMut, Bytes};

use super::{Typed, field, typed_field};
use crate::proto_wire::{delimited_len, put_delimited, put_varint, put_varint_field, varint_len};
use base::tensor::{DataType, Tensor};

/// The place of the values in an encoded tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In the dtype's own field (`AsProtoField`).
    TypedField,
    /// Packed in `tensor_content` (`AsProtoTensorContent`).
    TensorContent,
}

/// A tensor that is about to be written. All sizes are known before the first byte.
pub struct Encoder<'a> {
    tensor: &'a Tensor,
    form: Form,
    shape_len: usize,
    /// The field that holds the values, and the length of its contents.
    values: Option<(u32, usize)>,
    plain: Option<&'a Bytes>,
    len: usize,
}

impl<'a> Encoder<'a> {
    /// Encodes `tensor` in this form.
    pub fn new(tensor: &'a Tensor, form: Form) -> Self {
        let shape_len = tensor
            .shape()
            .iter()
            .map(|&dim| delimited_len(2, dim_len(dim)))
            .sum();
        let values = values_field(tensor, form);
        let values_len = match values {
            None => 0,
            // Each string has a field of its own.
            Some((field::STRING_VAL, _)) => strings_field_len(tensor),
            Some((number, len)) => delimited_len(number, len),
        };
        let dtype_len = 1 + varint_len(tensor.dtype().number() as u64);
        let len = dtype_len + delimited_len(field::TENSOR_SHAPE, shape_len) + values_len;
        Self {
            tensor,
            form,
            shape_len,
            values,
            plain: plain_values(tensor, form),
            len,
        }
    }

    /// The length of the whole message.
    pub fn encoded_len(&self) -> usize {
        self.len
    }

    /// The tensor's own bytes, if the message ends with them unchanged.
    pub fn plain_values(&self) -> Option<&'a Bytes> {
        self.plain
    }

    /// Writes the message: exactly `len` bytes.
    pub fn write(&self, buf: &mut impl BufMut) {
        self.write_head(buf);
        if let Some(values) = self.plain {
            buf.put_slice(values);
        }
    }

    /// Writes the message without its [`plain_values`](Self::plain_values), which have to follow.
    pub fn write_head(&self, buf: &mut impl BufMut) {
        put_varint_field(buf, field::DTYPE, self.tensor.dtype().number() as u64);
        put_delimited(buf, field::TENSOR_SHAPE, self.shape_len);
        for &dim in self.tensor.shape() {
            put_delimited(buf, 2, dim_len(dim));
            if dim != 0 {
                put_varint_field(buf, 1, dim as u64);
            }
        }
        let Some((number, len)) = self.values else {
            return;
        };
        match (self.tensor.strings(), self.form) {
            (Some(strings), Form::TypedField) => {
                for string in strings {
                    put_delimited(buf, field::STRING_VAL, string.len());
                    buf.put_slice(string);
                }
            }
            (Some(strings), Form::TensorContent) => {
                put_delimited(buf, number, len);
                strings
                    .iter()
                    .for_each(|string| put_varint(buf, string.len() as u64));
                strings.iter().for_each(|string| buf.put_slice(string));
            }
            (None, _) => {
                put_delimited(buf, number, len);
                if self.plain.is_none() {
                    self.write_numbers(buf);
                }
            }
        }
    }

    /// Writes values whose form in memory is different.
    fn write_numbers(&self, buf: &mut impl BufMut) {
        match typed_field(self.tensor.dtype()) {
            Some((_, Typed::Bool)) => {
                let bytes = self.tensor.bytes().into_iter().flatten();
                bytes.for_each(|&byte| buf.put_u8(u8::from(byte != 0)));
            }
            _ => for_each_varint(self.tensor, |value| put_varint(buf, value)),
        }
    }
}

/// The bytes of a tensor that are the same in memory and in this form.
fn plain_values(tensor: &Tensor, form: Form) -> Option<&Bytes> {
    let bytes = tensor.bytes().filter(|bytes| !bytes.is_empty())?;
    let is_plain = match typed_field(tensor.dtype())?.1 {
        Typed::Varint(_) => form == Form::TensorContent,
        // A graph's constants can hold bytes that are neither booleans nor varints.
        Typed::Bool => bytes.iter().all(|&byte| byte <= 1),
        Typed::Fixed(_) => true,
        Typed::Strings => false,
    };
    is_plain.then_some(bytes)
}

/// Proto3 omits a zero.
fn dim_len(dim: usize) -> usize {
    if dim == 0 {
        0
    } else {
        1 + varint_len(dim as u64)
    }
}

fn values_field(tensor: &Tensor, form: Form) -> Option<(u32, usize)> {
    if tensor.is_empty() {
        return None;
    }
    let (number, typed) = typed_field(tensor.dtype())?;
    let bytes_len = tensor.bytes().map_or(0, |bytes| bytes.len());
    if form == Form::TensorContent {
        let strings = tensor.strings().unwrap_or_default();
        let strings_len: usize = strings
            .iter()
            .map(|it| varint_len(it.len() as u64) + it.len())
            .sum();
        return Some((field::TENSOR_CONTENT, bytes_len + strings_len));
    }
    let len = match typed {
        Typed::Strings => 0,
        Typed::Fixed(_) | Typed::Bool => bytes_len,
        Typed::Varint(_) => {
            let mut len = 0;
            for_each_varint(tensor, |value| len += varint_len(value));
            len
        }
    };
    Some((number, len))
}

fn strings_field_len(tensor: &Tensor) -> usize {
    let strings = tensor.strings().unwrap_or_default();
    strings
        .iter()
        .map(|string| delimited_len(field::STRING_VAL, string.len()))
        .sum()
}

/// The elements as the varints of their typed field; negative `int_val`s take ten bytes.
fn for_each_varint(tensor: &Tensor, mut each: impl FnMut(u64)) {
    use DataType::*;
    let Some(bytes) = tensor.bytes() else { return };
    macro_rules! each_as {
        ($ty:ty) => {
            for chunk in bytes.chunks_exact(size_of::<$ty>()) {
                let value = <$ty>::from_le_bytes(chunk.try_into().expect("a chunk of that size"));
                each(value as i64 as u64);
            }
        };
    }
    match tensor.dtype() {
        Int8 | QInt8 => each_as!(i8),
        Int16 | QInt16 => each_as!(i16),
        Int32 | QInt32 => each_as!(i32),
        Int64 => each_as!(i64),
        UInt8 | QUInt8 => each_as!(u8),
        UInt16 | QUInt16 | Half | BFloat16 => each_as!(u16),
        UInt32 => each_as!(u32),
        UInt64 => each_as!(u64),
        _ => {}
    }
}
