//! Every check, in every opset, run by ONNX Runtime.

use std::collections::HashSet;

use prost::Message;

use super::kernels_since::CHECKED_SINCE;
use super::*;
use crate::io_transforms::ints_attribute;
use crate::known::{Facts, Scopes};
use crate::node;
use crate::visit::Names;
use proto::onnx::tensor_proto::DataType as OnnxType;
use proto::onnx::tensor_shape_proto::Dimension;
use proto::onnx::{
    AttributeProto, GraphProto, ModelProto, OperatorSetIdProto, TensorShapeProto, TypeProto,
    ValueInfoProto, type_proto,
};
use runtime::Backend;
use runtime::ort::OnnxRuntime;
use runtime::ort::testing::options;

const OPSETS: std::ops::RangeInclusive<i64> = 1..=26;
const INPUTS: usize = 32;

fn backend() -> OnnxRuntime {
    OnnxRuntime::open(&options(1)).expect("ONNX Runtime; `make onnxruntime` fetches it")
}

fn value(name: &str, elem: OnnxType, rank: Option<usize>) -> ValueInfoProto {
    let shape = rank.map(|rank| TensorShapeProto {
        dim: vec![Dimension::default(); rank],
    });
    let tensor = type_proto::Tensor {
        elem_type: Some(elem as i32),
        shape,
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

/// A model that returns its input `x{input}` after `checks`; `None` if they cannot be made in this opset.
fn checked(input: usize, checks: &[Check], rank: Option<usize>, opset: i64) -> Option<OnnxModel> {
    let names: Vec<String> = (0..INPUTS).map(|it| format!("x{it}")).collect();
    let inputs: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut operator = node("Any", &inputs, "any");
    operator.attribute = vec![ints_attribute("kernel_shape", &[2, 2])];
    operator.attribute.push(AttributeProto {
        name: Some("scales".to_owned()),
        floats: vec![1.0; 4],
        ..AttributeProto::default()
    });
    let mut names = Names::default();
    let mut context = NodeContext {
        known: &Scopes::default(),
        opset,
        names: &mut names,
        is_call: false,
        bodies: &[],
    };
    let mut nodes = Vec::new();
    let mut facts = Facts::default();
    facts.rank = rank;
    let mut guard = Guard {
        node: &operator,
        input,
        facts,
        current: operator.input[input].clone(),
        context: &mut context,
        nodes: &mut nodes,
    };
    for check in checks {
        guard.check(*check);
    }
    let result = guard.current;
    if nodes.iter().any(|it| kernel_since(it) > opset) {
        return None;
    }
    nodes.push(node("Identity", &[&result], "y"));
    let elem = match checks.contains(&Check::NoZeros) {
        true => OnnxType::Int64,
        false => OnnxType::Float,
    };
    let inputs = inputs
        .iter()
        .enumerate()
        .map(|(index, name)| value(name, elem, rank.filter(|_| index == input)));
    Some(model(
        nodes,
        inputs.collect(),
        value("y", elem, None),
        opset,
    ))
}

fn model(
    nodes: Vec<NodeProto>,
    inputs: Vec<ValueInfoProto>,
    output: ValueInfoProto,
    opset: i64,
) -> OnnxModel {
    let graph = GraphProto {
        name: Some("graph".to_owned()),
        node: nodes,
        input: inputs,
        output: vec![output],
        ..GraphProto::default()
    };
    let proto = ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto {
            domain: Some(String::new()),
            version: Some(opset),
        }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    let model = OnnxModel::parse("checked", &proto.encode_to_vec());
    model.expect("it was made here")
}

#[test]
fn every_check_loads_in_every_opset_or_is_not_made() {
    let backend = backend();
    let mut tried = HashSet::new();
    let mut made = 0;
    for (input, checks) in kernel_limits::all() {
        if !tried.insert(format!("{checks:?}")) {
            continue;
        }
        for opset in OPSETS {
            for rank in [None, Some(1), Some(3), Some(4)] {
                let Some(model) = checked(input, checks, rank, opset) else {
                    assert!(opset < CHECKED_SINCE, "{checks:?} in opset {opset}");
                    continue;
                };
                made += 1;
                let loaded = backend.load(model.into_source(None).unwrap());
                // ONNX Runtime sees before any run that no such tensor can pass.
                let is_seen = |it: &ServingError| {
                    let text = it.to_string();
                    let mut reasons = ["Inference", "Integer division by zero"].iter();
                    rank.is_some() && reasons.any(|it| text.contains(it))
                };
                if let Err(error) = loaded
                    && !is_seen(&error)
                {
                    panic!("{checks:?} in opset {opset}, rank {rank:?}: {error}");
                }
            }
        }
    }
    assert!(made > 1000, "{made}");
}
