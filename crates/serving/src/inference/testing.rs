//! Servables whose graphs return prepared results, for the tests of this module.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::inference::InferenceService;
use crate::servable::{Servable, ServableHandle, ServableLookup, ServableState};
use base::error::{Result, ServingError};
use base::id::{ModelSpec, ServableId, ServableRequest};
use base::tensor::{DataType, Tensor};
use mapper::signature::{Classes, SignatureDef, derive};
use mapper::version_dir::MappedSignature;
use runtime::placement::GraphThreads;
use runtime::{Graph, RunControl, ValueInfo};

/// A signature in preparation. By default it has one string input, `inputs`.
pub(super) struct Stub {
    name: &'static str,
    method_name: &'static str,
    /// For the output `scores`.
    classes: Option<Arc<Classes>>,
    graph: StubGraph,
}

/// The feeds of each run of a servable's graphs.
pub(super) type Fed = Arc<Mutex<Vec<Vec<Tensor>>>>;

struct StubGraph {
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    answers: Vec<Option<Tensor>>,
    fed: Fed,
}

impl Stub {
    pub(super) fn new(name: &'static str) -> Self {
        let graph = StubGraph {
            inputs: vec![value("inputs", DataType::String)],
            outputs: Vec::new(),
            answers: Vec::new(),
            fed: Fed::default(),
        };
        Self {
            name,
            method_name: "",
            classes: None,
            graph,
        }
    }

    pub(super) fn method(self, method_name: &'static str) -> Self {
        Self {
            method_name,
            ..self
        }
    }

    pub(super) fn inputs(mut self, inputs: &[(&str, DataType)]) -> Self {
        let inputs = inputs.iter().map(|&(alias, dtype)| value(alias, dtype));
        self.graph.inputs = inputs.collect();
        self
    }

    /// Adds an output and the value that a run returns for it; `None` fails the run.
    pub(super) fn output(mut self, alias: &str, answer: Option<Tensor>) -> Self {
        let dtype = answer.as_ref().map_or(DataType::Float, Tensor::dtype);
        self.graph.outputs.push(value(alias, dtype));
        self.graph.answers.push(answer);
        self
    }

    /// Declares the labels of the columns of the output `scores`.
    pub(super) fn classes(mut self, classes: Classes) -> Self {
        self.classes = Some(Arc::new(classes));
        self
    }

    pub(super) fn fed(&self) -> Fed {
        Arc::clone(&self.graph.fed)
    }

    /// Version 123 of `model`, with an additional signature that is metadata only.
    pub(super) fn servable<const N: usize>(stubs: [Self; N]) -> ServableHandle {
        let signatures = stubs.map(|stub| {
            // A graph needs at least one output.
            let stub = match stub.graph.outputs.is_empty() {
                true => stub.output("unused", None),
                false => stub,
            };
            let mut signature = derive(stub.name, &stub.graph).unwrap();
            let scores = signature.outputs.iter_mut();
            for scores in scores.filter(|it| it.alias == "scores") {
                scores.classes.clone_from(&stub.classes);
            }
            signature.method_name = stub.method_name.to_owned();
            signature.definition.method_name = stub.method_name.to_owned();
            MappedSignature::from((signature, Arc::new(stub.graph) as Arc<dyn Graph>))
        });
        let metadata_only =
            BTreeMap::from([("__saved_model_init_op".to_owned(), SignatureDef::default())]);
        let id = ServableId::new("model", 123);
        let placements = Arc::default();
        let servable = Servable::new(id, signatures, metadata_only, &placements);
        ServableHandle::new(servable)
    }
}

/// A service with only this servable.
pub(super) fn service_of(servable: &ServableHandle) -> InferenceService {
    InferenceService::new(Arc::new(OneServable(servable.clone())), Arc::default())
}

pub(super) fn classes(labels: &[&'static str], top_k: usize) -> Classes {
    let labels = labels.iter().map(|it| Bytes::from_static(it.as_bytes()));
    Classes {
        labels: labels.collect(),
        top_k,
    }
}

pub(super) fn floats(shape: &[usize], values: &[f32]) -> Option<Tensor> {
    Some(Tensor::from_vec(shape, values.to_vec()).unwrap())
}

pub(super) fn strings(shape: &[usize], values: &[&'static str]) -> Option<Tensor> {
    let values = values.iter().map(|it| Bytes::from_static(it.as_bytes()));
    Some(Tensor::from_strings(shape, values.collect()).unwrap())
}

fn value(name: &str, dtype: DataType) -> ValueInfo {
    ValueInfo {
        name: name.to_owned(),
        dtype: Some(dtype),
        shape: None,
    }
}

impl Graph for StubGraph {
    fn inputs(&self) -> &[ValueInfo] {
        &self.inputs
    }

    fn outputs(&self) -> &[ValueInfo] {
        &self.outputs
    }

    fn work_follows_shapes(&self) -> bool {
        true
    }

    fn threads(&self) -> GraphThreads {
        GraphThreads::CALLER
    }

    fn run(&self, inputs: &[Tensor], outputs: &[usize], _: &RunControl) -> Result<Vec<Tensor>> {
        self.fed.lock().unwrap().push(inputs.to_vec());
        outputs
            .iter()
            .map(|&index| {
                let answer = self.answers[index].clone();
                answer.ok_or_else(|| ServingError::internal("the stub fails"))
            })
            .collect()
    }
}

struct OneServable(ServableHandle);

impl ServableLookup for OneServable {
    fn servable_handle(&self, spec: &ModelSpec) -> Result<ServableHandle> {
        if *self.0.id.name == *spec.name {
            Ok(self.0.clone())
        } else {
            let request = ServableRequest::Latest(spec.name.clone());
            Err(ServingError::ServableNotFound(request))
        }
    }

    fn states(&self, _: &str) -> Vec<ServableState> {
        Vec::new()
    }

    fn models(&self) -> Vec<Arc<str>> {
        Vec::new()
    }
}
