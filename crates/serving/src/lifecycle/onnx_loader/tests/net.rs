//! Small graphs built here, as version directories.

use std::fs;

use super::*;
use proto::onnx::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto, tensor_shape_proto, type_proto,
};
use proto::tensorflow::{
    MetaGraphDef, SavedModel as SavedModelProto, TensorInfo, meta_graph_def::MetaInfoDef,
    tensor_info::Encoding,
};

pub(super) const FLOAT: i32 = 1;
pub(super) const INT32: i32 = 6;
pub(super) const INT64: i32 = 7;
pub(super) const BOOL: i32 = 9;

/// A graph of single-output nodes.
#[derive(Clone, Default)]
pub(super) struct Net {
    pub(super) graph: GraphProto,
    pub(super) metadata: Vec<StringStringEntryProto>,
    pub(super) functions: Vec<FunctionProto>,
}

pub(super) fn value(name: &str, elem_type: i32, dims: &[i64]) -> ValueInfoProto {
    let dim = |&size: &i64| tensor_shape_proto::Dimension {
        value: (size >= 0).then_some(tensor_shape_proto::dimension::Value::DimValue(size)),
        ..Default::default()
    };
    let shape = TensorShapeProto {
        dim: dims.iter().map(dim).collect(),
    };
    let tensor = type_proto::Tensor {
        elem_type: Some(elem_type),
        shape: Some(shape),
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto {
        domain: Some(domain.to_owned()),
        version: Some(version),
    }
}

impl Net {
    pub(super) fn input(mut self, name: &str, elem_type: i32, dims: &[i64]) -> Self {
        self.graph.input.push(value(name, elem_type, dims));
        self
    }

    pub(super) fn output(mut self, name: &str, elem_type: i32, dims: &[i64]) -> Self {
        self.graph.output.push(value(name, elem_type, dims));
        self
    }

    pub(super) fn node(mut self, op_type: &str, inputs: &[&str], output: &str) -> Self {
        self.graph.node.push(NodeProto {
            op_type: Some(op_type.to_owned()),
            input: inputs.iter().map(|&it| it.to_owned()).collect(),
            output: vec![output.to_owned()],
            ..NodeProto::default()
        });
        self
    }

    /// Adds an attribute to the last node.
    pub(super) fn attribute(mut self, name: &str, value: i64) -> Self {
        let node = self.graph.node.last_mut().expect("there is a node");
        node.attribute.push(AttributeProto {
            name: Some(name.to_owned()),
            r#type: Some(attribute_proto::AttributeType::Int as i32),
            i: Some(value),
            ..AttributeProto::default()
        });
        self
    }

    /// An output that is a sequence of tensors of any shape.
    pub(super) fn sequence(mut self, name: &str, elem_type: i32) -> Self {
        let mut output = value(name, elem_type, &[]);
        let element = output.r#type.take();
        let sequence = type_proto::Sequence {
            elem_type: element.map(Box::new),
        };
        output.r#type = Some(TypeProto {
            value: Some(type_proto::Value::SequenceType(Box::new(sequence))),
            ..TypeProto::default()
        });
        self.graph.output.push(output);
        self
    }

    /// A value of the file. It is a constant, or the default of an input of that name.
    pub(super) fn initializer(mut self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        self.graph.initializer.push(TensorProto {
            name: Some(name.to_owned()),
            dims: dims.to_vec(),
            data_type: Some(FLOAT),
            float_data: values.to_vec(),
            ..TensorProto::default()
        });
        self
    }

    pub(super) fn integers(mut self, name: &str, dims: &[i64], values: &[i64]) -> Self {
        self.graph.initializer.push(TensorProto {
            name: Some(name.to_owned()),
            dims: dims.to_vec(),
            data_type: Some(INT64),
            int64_data: values.to_vec(),
            ..TensorProto::default()
        });
        self
    }

    pub(super) fn metadata(mut self, map: &str) -> Self {
        self.metadata.push(StringStringEntryProto {
            key: Some("signature_map".to_owned()),
            value: Some(map.to_owned()),
        });
        self
    }

    pub(super) fn version(self) -> Version {
        let mut graph = self.graph;
        graph.name = Some("net".to_owned());
        let model = ModelProto {
            ir_version: Some(8),
            opset_import: vec![opset("", 17), opset("own", 1)],
            graph: Some(graph),
            metadata_props: self.metadata,
            functions: self.functions,
            ..ModelProto::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("model.onnx"), model.encode_to_vec()).unwrap();
        Version {
            _folder: folder,
            path,
        }
    }
}

pub(super) struct Version {
    _folder: tempfile::TempDir,
    pub(super) path: PathBuf,
}

impl Version {
    pub(super) fn map(self, text: &str) -> Self {
        fs::write(self.path.join("signature_map.pbtxt"), text).unwrap();
        self
    }

    pub(super) fn original(self, signatures: &[(&str, SignatureDef)]) -> Self {
        let signatures = signatures.iter();
        let saved_model = SavedModelProto {
            meta_graphs: vec![MetaGraphDef {
                meta_info_def: Some(MetaInfoDef {
                    tags: vec!["serve".to_owned()],
                    ..MetaInfoDef::default()
                }),
                signature_def: signatures
                    .map(|it| (it.0.to_owned(), it.1.clone()))
                    .collect(),
                ..MetaGraphDef::default()
            }],
            ..SavedModelProto::default()
        };
        fs::write(
            self.path.join("saved_model.pb"),
            saved_model.encode_to_vec(),
        )
        .unwrap();
        self
    }

    /// Changes the file.
    pub(super) fn change(&self, change: impl FnOnce(&mut ModelProto)) {
        let path = self.path.join("model.onnx");
        let bytes = fs::read(&path).unwrap();
        let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
        change(&mut model);
        fs::write(&path, model.encode_to_vec()).unwrap();
    }

    #[track_caller]
    pub(super) fn load(&self) -> Servable {
        load(&self.path).unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    pub(super) fn refusal(&self) -> String {
        let error = load(&self.path).err().expect("it was loaded");
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        error.to_string()
    }
}

/// Inputs and outputs of floats of any shape, by alias and SavedModel tensor.
pub(super) fn floats_def(inputs: &[(&str, &str)], outputs: &[(&str, &str)]) -> SignatureDef {
    let info = |name: &str| TensorInfo {
        dtype: DataType::Float.number(),
        encoding: Some(Encoding::Name(name.to_owned())),
        ..TensorInfo::default()
    };
    let infos = |list: &[(&str, &str)]| {
        let list = list.iter();
        list.map(|(alias, name)| ((*alias).to_owned(), info(name)))
            .collect()
    };
    SignatureDef {
        inputs: infos(inputs),
        outputs: infos(outputs),
        method_name: "tensorflow/serving/predict".to_owned(),
        ..SignatureDef::default()
    }
}

pub(super) fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_vec(shape, values.to_vec()).unwrap()
}

#[track_caller]
pub(super) fn answer<const N: usize>(
    servable: &Servable,
    signature: &str,
    inputs: [(&str, Tensor); N],
) -> BTreeMap<String, Tensor> {
    let inputs = inputs.into_iter();
    let inputs = inputs.map(|(alias, it)| (alias.to_owned(), RequestTensor::Valid(it)));
    let answer = run(servable, signature, inputs.collect());
    answer
        .unwrap_or_else(|error| panic!("{error}"))
        .into_iter()
        .collect()
}
