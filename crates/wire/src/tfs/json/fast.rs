//! Predict bodies read in one pass, from bytes straight into the tensors' buffers.
//!
//! This path accepts only bodies that are valid in every respect. Otherwise, from a syntax error to a
//! repeated key, it gives up by returning `None`, and `exact` decides. Both agree on every body that this
//! path accepts. `docs/internals/json-reader.md` compares it with general libraries.

use super::column::{Column, base64_object};
use super::nesting::Nesting;
use super::predict_body::{Format, InputSpec, PredictBody};
use super::reader::Reader;
use base::error::Result;
use base::tensor::NamedTensors;
use codec::json::text::skip_byte_order_mark;

/// See [`decode_predict`](super::decode_predict). `None` says nothing about the body.
pub(super) fn decode(
    body: &[u8],
    resolve: &mut impl FnMut(&str) -> Result<Vec<InputSpec>>,
) -> Option<PredictBody> {
    match TopLevel::read(body, String::new(), resolve)? {
        ReadOutcome::Decoded(decoded) => Some(decoded),
        // The tensors came before the name and were read with the wrong signature.
        ReadOutcome::OtherSignature(name) => match TopLevel::read(body, name, resolve)? {
            ReadOutcome::Decoded(decoded) => Some(decoded),
            ReadOutcome::OtherSignature(_) => None,
        },
    }
}

enum ReadOutcome {
    Decoded(PredictBody),
    OtherSignature(String),
}

/// The members of the top level that have been read.
struct TopLevel {
    /// The name to resolve: the one that was read, or an assumed one until then.
    signature_name: String,
    named: bool,
    tensors: Option<(Format, NamedTensors)>,
    output_filter: Option<Vec<String>>,
}

impl TopLevel {
    fn read(
        text: &[u8],
        assumed_name: String,
        resolve: &mut impl FnMut(&str) -> Result<Vec<InputSpec>>,
    ) -> Option<ReadOutcome> {
        let mut top = Self {
            signature_name: assumed_name,
            named: false,
            tensors: None,
            output_filter: None,
        };
        let mut reader = Reader {
            text,
            pos: skip_byte_order_mark(text),
        };
        reader.expect(b'{')?;
        loop {
            let key = reader.key()?;
            match &*key {
                b"signature_name" => {
                    if let Some(other) = top.name(reader.string()?)? {
                        return Some(ReadOutcome::OtherSignature(other));
                    }
                }
                b"instances" if top.tensors.is_none() => {
                    let mut inputs = Inputs::resolve(&top.signature_name, resolve)?;
                    let tensors = inputs.rows(&mut reader)?;
                    top.tensors = Some((Format::Row, tensors));
                }
                b"inputs" if top.tensors.is_none() => {
                    let mut inputs = Inputs::resolve(&top.signature_name, resolve)?;
                    let tensors = inputs.columns(&mut reader)?;
                    top.tensors = Some((Format::Columnar, tensors));
                }
                b"output_filter" if top.output_filter.is_none() => {
                    top.output_filter = Some(reader.strings()?);
                }
                b"instances" | b"inputs" | b"output_filter" => return None,
                _ => reader.skip_value()?,
            }
            if !reader.comma_or(b'}')? {
                break;
            }
        }
        let (format, inputs) = top.tensors?;
        let unread_name = !top.named && !top.signature_name.is_empty();
        (!unread_name).then_some(ReadOutcome::Decoded(PredictBody {
            signature_name: top.signature_name,
            format,
            inputs,
            output_filter: top.output_filter.unwrap_or_default(),
        }))
    }

    /// Stores the name; returns it if tensors were already read with another one.
    fn name(&mut self, name: String) -> Option<Option<String>> {
        if self.named {
            return None;
        }
        self.named = true;
        if self.tensors.is_some() && name != self.signature_name {
            return Some(Some(name));
        }
        self.signature_name = name;
        Some(None)
    }
}

/// The inputs of the signature while they are being read.
struct Inputs {
    needed: Vec<Input>,
    /// The aliases of optional inputs. A body that contains one is read by `exact`.
    optional: Vec<String>,
}

struct Input {
    alias: String,
    column: Column,
    nesting: Nesting,
    /// In an object of `instances` or `inputs`: the number of the last object that contained this input.
    object: usize,
}

impl Inputs {
    fn resolve(
        name: &str,
        resolve: &mut impl FnMut(&str) -> Result<Vec<InputSpec>>,
    ) -> Option<Self> {
        let mut specs = resolve(name).ok()?;
        specs.sort_by(|a, b| a.alias.cmp(&b.alias));
        // An input named `b64` could be mistaken for a base64 value, and this path knows only one name per
        // input.
        let is_plain = |spec: &InputSpec| spec.alias != "b64" && spec.kept.is_empty();
        let ambiguous = !specs.iter().all(is_plain);
        if specs.is_empty() || ambiguous {
            return None;
        }
        let (optional, needed): (Vec<InputSpec>, _) =
            specs.into_iter().partition(|spec| spec.is_optional);
        let needed = needed.into_iter().map(|spec| Input {
            column: Column::new(spec.dtype),
            alias: spec.alias,
            nesting: Nesting::default(),
            object: 0,
        });
        Some(Self {
            needed: needed.collect(),
            optional: optional.into_iter().map(|spec| spec.alias).collect(),
        })
    }

    fn rows(&mut self, reader: &mut Reader<'_>) -> Option<NamedTensors> {
        if reader.peek() != b'[' {
            return None;
        }
        let list = reader.pos;
        reader.pos += 1;
        let first = reader.peek();
        if first == b']' {
            return None;
        }
        let named = first == b'{' && base64_object(reader.text, reader.pos).is_none();
        if named {
            let count = self.object_rows(reader)?;
            return self.tensors(Some(count));
        }
        // A list of uniform values is read as one value with one more dimension.
        reader.pos = list;
        self.only()?.read(reader)?;
        self.tensors(None)
    }

    fn columns(&mut self, reader: &mut Reader<'_>) -> Option<NamedTensors> {
        let named = reader.peek() == b'{' && base64_object(reader.text, reader.pos).is_none();
        if named {
            self.object(reader, 1, &mut Vec::new(), true)?;
        } else {
            self.only()?.read(reader)?;
        }
        self.tensors(None)
    }

    fn only(&mut self) -> Option<&mut Input> {
        match &mut self.needed[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Reads the objects of `instances` and returns their number.
    fn object_rows(&mut self, reader: &mut Reader<'_>) -> Option<usize> {
        let mut order = Vec::with_capacity(self.needed.len());
        let mut count = 0;
        loop {
            count += 1;
            self.object(reader, count, &mut order, false)?;
            if !reader.comma_or(b']')? {
                return Some(count);
            }
        }
    }

    /// Reads object number `number`, which must contain every input once. `order` is the order of inputs in
    /// the previous object, which is very likely the same in this one.
    fn object(
        &mut self,
        reader: &mut Reader<'_>,
        number: usize,
        order: &mut Vec<usize>,
        others_allowed: bool,
    ) -> Option<()> {
        reader.expect(b'{')?;
        let mut found = 0;
        loop {
            let key = reader.key()?;
            let guess = order.get(found).copied();
            let index = match guess.filter(|&index| self.needed[index].alias.as_bytes() == &*key) {
                Some(index) => index,
                None => match self.find(&key) {
                    Some(index) => index,
                    None if others_allowed && !self.is_optional(&key) => {
                        reader.skip_value()?;
                        if reader.comma_or(b'}')? {
                            continue;
                        }
                        break;
                    }
                    None => return None,
                },
            };
            if guess.is_none() {
                order.push(index);
            }
            let input = &mut self.needed[index];
            if input.object == number {
                return None;
            }
            input.object = number;
            input.read(reader)?;
            found += 1;
            if !reader.comma_or(b'}')? {
                break;
            }
        }
        (found == self.needed.len()).then_some(())
    }

    fn is_optional(&self, key: &[u8]) -> bool {
        self.optional.iter().any(|alias| alias.as_bytes() == key)
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        self.needed
            .binary_search_by(|input| input.alias.as_bytes().cmp(key))
            .ok()
    }

    /// The tensors; `rows` is the first dimension if the values were rows.
    fn tensors(&mut self, rows: Option<usize>) -> Option<NamedTensors> {
        let inputs = std::mem::take(&mut self.needed).into_iter();
        let tensors = inputs.map(|input| {
            let shape = rows.into_iter().chain(input.nesting.sizes);
            let tensor = input.column.into_tensor(&input.alias, shape).ok()?;
            Some((input.alias, tensor))
        });
        tensors.collect()
    }
}

impl Input {
    /// Reads one value of this input.
    #[inline]
    fn read(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let nesting = &mut self.nesting;
        match &mut self.column {
            Column::Float(all) => nesting.read(reader, all),
            Column::Double(all) => nesting.read(reader, all),
            Column::Int32(all) => nesting.read(reader, all),
            Column::Int16(all) => nesting.read(reader, all),
            Column::Int8(all) => nesting.read(reader, all),
            Column::UInt8(all) => nesting.read(reader, all),
            Column::UInt32(all) => nesting.read(reader, all),
            Column::Int64(all) => nesting.read(reader, all),
            Column::UInt64(all) => nesting.read(reader, all),
            Column::Bool(all) => nesting.read(reader, all),
            Column::String(all) => nesting.read(reader, all),
            Column::Unsupported(_) => None,
        }
    }
}
