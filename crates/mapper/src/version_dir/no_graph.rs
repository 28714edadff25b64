//! The graph of a signature whose outputs are all passed through from its inputs.

use base::error::Result;
use base::tensor::Tensor;
use runtime::placement::GraphThreads;
use runtime::{Graph, RunControl, ValueInfo};

/// Takes nothing and returns nothing.
pub(super) struct NoGraph;

impl Graph for NoGraph {
    fn inputs(&self) -> &[ValueInfo] {
        &[]
    }

    fn outputs(&self) -> &[ValueInfo] {
        &[]
    }

    fn work_follows_shapes(&self) -> bool {
        true
    }

    fn threads(&self) -> GraphThreads {
        GraphThreads::CALLER
    }

    fn run(&self, _: &[Tensor], _: &[usize], _: &RunControl) -> Result<Vec<Tensor>> {
        Ok(Vec::new())
    }
}
