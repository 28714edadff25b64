//! The signature of a graph that comes without one: its own names, one `serving_default`.

use std::collections::BTreeMap;

use super::Signature;
use super::{DEFAULT_SIGNATURE_NAME, Feed, Input, Output, OutputSource, PREDICT_METHOD_NAME};
use crate::error::{Result, ServingError};
use crate::proto::tensorflow::{
    SignatureDef, TensorInfo, TensorShapeProto, tensor_info, tensor_shape_proto,
};
use crate::runtime::{Graph, ValueInfo};

/// Derives a predict signature whose aliases are the graph's names.
///
/// # Errors
///
/// `UNIMPLEMENTED` for an input or output that is no tensor.
pub fn derive(name: &str, graph: &dyn Graph) -> Result<Signature> {
    let mut definition = SignatureDef {
        method_name: PREDICT_METHOD_NAME.to_owned(),
        ..SignatureDef::default()
    };
    definition.inputs = tensor_infos(graph.inputs())?;
    definition.outputs = tensor_infos(graph.outputs())?;

    let mut inputs = Vec::new();
    for info in graph.inputs() {
        inputs.push(Input {
            alias: info.name.clone(),
            tensor_name: info.name.clone(),
            dtype: tensor_dtype(info)?,
            default: None,
        });
    }
    inputs.sort_by(|a, b| a.alias.cmp(&b.alias));
    let feeds = graph
        .inputs()
        .iter()
        .map(|info| inputs.iter().position(|input| input.alias == info.name))
        .map(|index| Feed::Input(index.expect("made from the same list")))
        .collect();
    let mut outputs: Vec<Output> = graph
        .outputs()
        .iter()
        .enumerate()
        .map(|(index, info)| Output {
            alias: info.name.clone(),
            source: OutputSource::Graph(index),
        })
        .collect();
    outputs.sort_by(|a, b| a.alias.cmp(&b.alias));

    Ok(Signature {
        name: if name.is_empty() {
            DEFAULT_SIGNATURE_NAME
        } else {
            name
        }
        .to_owned(),
        method_name: PREDICT_METHOD_NAME.to_owned(),
        inputs,
        outputs,
        feeds,
        definition,
    })
}

fn tensor_infos(values: &[ValueInfo]) -> Result<BTreeMap<String, TensorInfo>> {
    values
        .iter()
        .map(|value| Ok((value.name.clone(), tensor_info(value)?)))
        .collect()
}

fn tensor_info(value: &ValueInfo) -> Result<TensorInfo> {
    let dims = |shape: &Vec<i64>| {
        let dim = |&size| tensor_shape_proto::Dim {
            size,
            ..Default::default()
        };
        TensorShapeProto {
            dim: shape.iter().map(dim).collect(),
            unknown_rank: false,
        }
    };
    let unknown = TensorShapeProto {
        dim: Vec::new(),
        unknown_rank: true,
    };
    Ok(TensorInfo {
        dtype: tensor_dtype(value)?.number(),
        tensor_shape: Some(value.shape.as_ref().map_or(unknown, dims)),
        encoding: Some(tensor_info::Encoding::Name(value.name.clone())),
    })
}

fn tensor_dtype(value: &ValueInfo) -> Result<crate::tensor::DataType> {
    value.dtype.ok_or_else(|| {
        ServingError::unimplemented(format!("'{}' of the graph is not a tensor", value.name))
    })
}
