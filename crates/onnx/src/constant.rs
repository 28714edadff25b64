//! Constants of a graph as tensors, and tensors as initializers.

use bytes::Bytes;
use half::{bf16, f16};

use super::interface::{data_type, elem_type};
use super::{OnnxModel, is_op, node, traverse};
use base::tensor::{DataType, Tensor};
use proto::onnx::{
    AttributeProto, GraphProto, NodeProto, TensorProto, attribute_proto::AttributeType,
    tensor_proto,
};

/// The maximum number of `Identity` nodes to follow.
pub(super) const MAX_HOPS: usize = 16;

impl OnnxModel {
    /// The value of a constant tensor: an initializer, a `Constant`, or either behind `Identity`. `None` if
    /// it is not constant or its data is outside the file.
    pub(super) fn constant(&self, name: &str) -> Option<Tensor> {
        let mut name = name;
        for _ in 0..MAX_HOPS {
            let graph = self.graph();
            if let Some(tensor) = self.constant_initializer(name) {
                return to_tensor(tensor);
            }
            let makes =
                |node: &&NodeProto| node.output.first().is_some_and(|output| output == name);
            let node = graph.node.iter().find(makes)?;
            if is_op(node, "Constant") {
                return to_tensor(traverse::attribute(node, "value")?.t.as_ref()?);
            }
            if !is_op(node, "Identity") {
                return None;
            }
            name = node.input.first()?;
        }
        None
    }

    /// The initializer of this name, unless it is an input's default.
    pub(super) fn constant_initializer(&self, name: &str) -> Option<&TensorProto> {
        initializer(self.graph(), name).filter(|_| !self.is_default(name))
    }

    /// Adds a constant. Returns its name, made from `wish`; `None` if ONNX has no such type.
    pub(super) fn add_constant(&mut self, wish: &str, tensor: &Tensor) -> Option<String> {
        let name = self.unused_name(wish);
        let proto = from_tensor(&name, tensor)?;
        self.graph_mut().initializer.push(proto);
        Some(name)
    }
}

pub(super) fn initializer<'a>(graph: &'a GraphProto, name: &str) -> Option<&'a TensorProto> {
    graph
        .initializer
        .iter()
        .find(|tensor| tensor.name() == name)
}

/// A tensor of an ONNX file; `None` if it is damaged, external, or of an unknown type.
pub(super) fn to_tensor(proto: &TensorProto) -> Option<Tensor> {
    if proto.data_location() == tensor_proto::DataLocation::External {
        return None;
    }
    let dtype = data_type(proto.data_type())?;
    let dims = proto.dims.iter().map(|&dim| usize::try_from(dim).ok());
    let shape: Vec<usize> = dims.collect::<Option<_>>()?;
    if dtype == DataType::String {
        return Tensor::from_strings(&shape, proto.string_data.clone());
    }
    if let Some(raw) = &proto.raw_data {
        return Tensor::from_bytes(dtype, &shape, raw.clone());
    }
    let ints = &proto.int32_data;
    match dtype {
        DataType::Float => Tensor::from_vec(&shape, proto.float_data.clone()),
        DataType::Double => Tensor::from_vec(&shape, proto.double_data.clone()),
        DataType::Int64 => Tensor::from_vec(&shape, proto.int64_data.clone()),
        DataType::Int32 => Tensor::from_vec(&shape, ints.clone()),
        DataType::Int16 => Tensor::from_vec(&shape, ints.iter().map(|&it| it as i16).collect()),
        DataType::Int8 => Tensor::from_vec(&shape, ints.iter().map(|&it| it as i8).collect()),
        DataType::UInt16 => Tensor::from_vec(&shape, ints.iter().map(|&it| it as u16).collect()),
        DataType::UInt8 => Tensor::from_vec(&shape, ints.iter().map(|&it| it as u8).collect()),
        DataType::Bool => {
            let bytes: Vec<u8> = ints.iter().map(|&it| u8::from(it != 0)).collect();
            Tensor::from_bytes(dtype, &shape, bytes.into())
        }
        DataType::Half => {
            let bits = ints.iter().map(|&it| f16::from_bits(it as u16));
            Tensor::from_vec(&shape, bits.collect())
        }
        DataType::BFloat16 => {
            let bits = ints.iter().map(|&it| bf16::from_bits(it as u16));
            Tensor::from_vec(&shape, bits.collect())
        }
        DataType::UInt64 => Tensor::from_vec(&shape, proto.uint64_data.clone()),
        DataType::UInt32 => {
            let ints = proto.uint64_data.iter().map(|&it| it as u32);
            Tensor::from_vec(&shape, ints.collect())
        }
        _ => None,
    }
}

/// A named constant of an ONNX file; `None` if ONNX has no such type.
pub fn from_tensor(name: &str, tensor: &Tensor) -> Option<TensorProto> {
    let dims = tensor.shape().iter().map(|&dim| i64::try_from(dim).ok());
    Some(TensorProto {
        name: Some(name.to_owned()),
        dims: dims.collect::<Option<_>>()?,
        data_type: Some(elem_type(tensor.dtype())?),
        string_data: tensor.strings().map(<[Bytes]>::to_vec).unwrap_or_default(),
        raw_data: tensor.bytes().cloned(),
        ..TensorProto::default()
    })
}

/// A node that makes a constant; `None` if ONNX has no such type.
pub(super) fn constant_node(output: &str, tensor: &Tensor) -> Option<NodeProto> {
    let mut constant = node("Constant", &[], output);
    constant.attribute.push(AttributeProto {
        name: Some("value".to_owned()),
        r#type: Some(AttributeType::Tensor as i32),
        t: Some(from_tensor(output, tensor)?),
        ..AttributeProto::default()
    });
    Some(constant)
}
