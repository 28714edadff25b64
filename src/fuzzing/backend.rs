//! A backend that reads models as ONNX Runtime would, and runs nothing.

use std::collections::HashSet;
use std::sync::Arc;

use base::error::{Result, ServingError};
use base::tensor::Tensor;
use onnx::OnnxModel;
use runtime::placement::GraphThreads;
use runtime::{Backend, Graph, GraphSource, RunControl, ValueInfo};

/// Parses each model that is passed to it: the server has to produce a valid model from any input.
pub(super) struct ReadingBackend;

impl Backend for ReadingBackend {
    fn name(&self) -> &'static str {
        "reading"
    }

    fn version(&self) -> String {
        String::new()
    }

    fn advice(&self, _: &ServingError, _: &str) -> Option<String> {
        None
    }

    fn may_end_the_process(&self) -> bool {
        // So that the checks are parsed as well.
        true
    }

    fn load(&self, source: GraphSource) -> Result<Arc<dyn Graph>> {
        let model = OnnxModel::parse("edited", &source.model);
        let model = model.unwrap_or_else(|error| panic!("the edited model is none: {error}"));
        let mut locations = HashSet::new();
        for weight in &source.weights {
            assert!(locations.insert(&weight.location), "two weights in a place");
        }
        Ok(Arc::new(ReadGraph {
            inputs: model.inputs(),
            outputs: model.outputs(),
        }))
    }
}

struct ReadGraph {
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
}

impl Graph for ReadGraph {
    fn inputs(&self) -> &[ValueInfo] {
        &self.inputs
    }

    fn outputs(&self) -> &[ValueInfo] {
        &self.outputs
    }

    fn work_follows_shapes(&self) -> bool {
        false
    }

    fn threads(&self) -> GraphThreads {
        GraphThreads::CALLER
    }

    fn run(&self, _: &[Tensor], _: &[usize], _: &RunControl) -> Result<Vec<Tensor>> {
        Err(ServingError::unimplemented("it only reads"))
    }
}
