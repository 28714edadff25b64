//! A graph that refuses tensors without elements.
//!
//! For models that quantize: ONNX Runtime replaces some of their kernels by integer ones, and some of these
//! end the process on such tensors.
//!
//! Not here: finding these models, and the checks in the graph (`onnx`).

use std::sync::Arc;

use base::error::{Result, ServingError};
use base::tensor::Tensor;
use runtime::placement::GraphThreads;
use runtime::{Graph, RunControl, ValueInfo};

pub(super) struct FilledGraph(pub(super) Arc<dyn Graph>);

impl Graph for FilledGraph {
    fn inputs(&self) -> &[ValueInfo] {
        self.0.inputs()
    }

    fn outputs(&self) -> &[ValueInfo] {
        self.0.outputs()
    }

    fn work_follows_shapes(&self) -> bool {
        self.0.work_follows_shapes()
    }

    fn threads(&self) -> GraphThreads {
        self.0.threads()
    }

    fn run(
        &self,
        inputs: &[Tensor],
        outputs: &[usize],
        control: &RunControl,
    ) -> Result<Vec<Tensor>> {
        let mut named = inputs.iter().zip(self.inputs());
        match named.find(|(tensor, _)| tensor.shape().contains(&0)) {
            None => self.0.run(inputs, outputs, control),
            Some((tensor, input)) => Err(ServingError::invalid_argument(format!(
                "the input '{}' has the shape {:?}: this model quantizes, so it takes no tensor without \
                 elements",
                input.name,
                tensor.shape()
            ))),
        }
    }
}
